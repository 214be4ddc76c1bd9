"""The Spark session's configuration."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from data_platform_core.lake.session import session_conf
from data_platform_core.settings import load_settings

pytestmark = pytest.mark.unit


def test_no_secret_is_in_what_pyspark_puts_on_the_jvms_command_line() -> None:
    settings = load_settings("streaming", "local")
    store = settings.object_store.model_copy(
        update={"access_key": SecretStr("an-access-key"), "secret_key": SecretStr("a-secret-key")}
    )
    conf = session_conf(settings.model_copy(update={"object_store": store}))
    assert not [key for key, value in conf.items() if "an-access-key" in value or "a-secret-key" in value]


def test_everything_listens_on_loopback() -> None:
    conf = session_conf(load_settings("streaming", "local"))
    assert conf["spark.driver.bindAddress"] == conf["spark.driver.host"] == "127.0.0.1"
    assert conf["spark.ui.enabled"] == "false"


def test_no_jvm_survives_the_end_of_its_memory() -> None:
    conf = session_conf(load_settings("streaming", "local"))
    for side in ("driver", "executor"):
        assert "-XX:+ExitOnOutOfMemoryError" in conf[f"spark.{side}.extraJavaOptions"].split()


def test_only_a_short_job_does_without_the_second_compiler() -> None:
    settings = load_settings("streaming", "local")
    options = [session_conf(settings, short=short)["spark.driver.extraJavaOptions"] for short in (False, True)]
    assert ["-XX:TieredStopAtLevel=1" in each.split() for each in options] == [False, True]
