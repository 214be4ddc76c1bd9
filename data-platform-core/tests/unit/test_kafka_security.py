"""Clients' security: from topology and environment to librdkafka and Spark, and nothing where there is none."""

from __future__ import annotations

import os

import pytest
from pydantic import SecretStr

from data_platform_core.errors import ConfigurationError
from data_platform_core.kafka.client import connection
from data_platform_core.kafka.security import librdkafka_security, spark_connection
from data_platform_core.settings import KafkaSettings, load_settings
from data_platform_core.topology import load_topology

pytestmark = pytest.mark.unit

PASSWORD = 'p"a\\ss'


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CRM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def secured() -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers="b:1",
        replication_factor=1,
        min_insync_replicas=1,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        username="generator",
        password=SecretStr(PASSWORD),
        ca_file="/ca.crt",
    )


def test_a_plaintext_cluster_adds_nothing() -> None:
    kafka = load_settings("generator", "local").kafka
    assert not kafka.secured
    assert librdkafka_security(kafka) == {}
    assert spark_connection(kafka) == {"kafka.bootstrap.servers": kafka.bootstrap_servers}


def test_a_topology_with_security_makes_the_service_the_principal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_KAFKA__PASSWORD", PASSWORD)
    kafka = load_settings("streaming", "home").kafka
    assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-512")
    assert kafka.username == "streaming"
    assert kafka.ca_file == str(load_topology("home").ca_path)
    assert PASSWORD not in repr(kafka)


def test_every_client_of_librdkafka_gets_all_of_it(secured: KafkaSettings) -> None:
    options = connection(secured)
    assert {key: options[key] for key in librdkafka_security(secured)} == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "generator",
        "sasl.password": PASSWORD,
        "ssl.ca.location": "/ca.crt",
    }


def test_spark_gets_all_of_it_with_the_password_quoted(secured: KafkaSettings) -> None:
    options = spark_connection(secured)
    assert options["kafka.security.protocol"] == "SASL_SSL"
    assert options["kafka.ssl.truststore.location"] == "/ca.crt"
    assert options["kafka.sasl.jaas.config"].endswith(r'required username="generator" password="p\"a\\ss";')


@pytest.mark.parametrize("empty", ["username", "sasl_mechanism", "ca_file"])
def test_a_missing_setting_is_named(secured: KafkaSettings, empty: str) -> None:
    for options in (librdkafka_security, spark_connection):
        with pytest.raises(ConfigurationError, match=f"CRM_KAFKA__{empty.upper()} is empty"):
            options(secured.model_copy(update={empty: ""}))


def test_a_missing_password_is_named() -> None:
    with pytest.raises(ConfigurationError, match="CRM_KAFKA__PASSWORD is empty"):
        connection(load_settings("generator", "home").kafka.model_copy(update={"password": SecretStr("")}))
