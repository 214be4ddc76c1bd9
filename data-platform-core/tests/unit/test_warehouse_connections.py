"""Connection errors name the setting to check, and never the password."""

from __future__ import annotations

import socket

import pytest
from pydantic import SecretStr

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import PostgresSettings
from data_platform_core.warehouse.connections import connect

pytestmark = pytest.mark.unit

PASSWORD = "do-not-print-me"


def settings(port: int, user: str = "crm_batch") -> PostgresSettings:
    return PostgresSettings(host="127.0.0.1", port=port, database="crm", user=user, password=SecretStr(PASSWORD))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_away_is_named_with_its_address() -> None:
    port = free_port()
    with pytest.raises(ServiceError, match=f"127.0.0.1:{port} does not answer \\(Connection refused\\)") as refused:
        connect(settings(port), "test")
    assert PASSWORD not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_user_is_a_mistake_of_the_settings_not_of_the_server() -> None:
    with pytest.raises(ConfigurationError, match="CRM_POSTGRES__USER is not set"):
        connect(settings(free_port(), user=""), "test")
