"""The session's configuration for a laptop, a standalone cluster and Kubernetes; no secret in it."""

from __future__ import annotations

import pytest

from data_platform_core.lake.session import session_conf
from data_platform_core.settings import Settings, load_settings

pytestmark = pytest.mark.unit


def settings(**engine: object) -> Settings:
    found = load_settings("streaming", "local")
    return found.model_copy(update={"spark": found.spark.model_copy(update=engine)})


def test_a_laptops_driver_does_the_work_itself() -> None:
    conf = session_conf(settings())
    assert conf["spark.master"].startswith("local[")
    assert not any(key.startswith("spark.dynamicAllocation") for key in conf)


def test_a_standalone_cluster_gives_executors_between_the_bounds() -> None:
    conf = session_conf(settings(master="spark://127.0.0.1:1", executors_min=1, executors_max=3, executor_cores=6))
    assert conf["spark.dynamicAllocation.minExecutors"] == "1"
    assert conf["spark.dynamicAllocation.maxExecutors"] == "3"
    assert conf["spark.executor.cores"] == "6"
    assert conf["spark.executor.extraClassPath"] == conf["spark.driver.extraClassPath"]


def test_on_kubernetes_the_operator_decides_where_executors_run() -> None:
    conf = session_conf(settings(master=""))
    assert not {"spark.master", "spark.driver.host", "spark.executor.cores"} & conf.keys()


def test_no_secret_is_part_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_OBJECT_STORE__SECRET_KEY", "s3cr3t-of-the-test")
    conf = session_conf(load_settings("streaming", "local"))
    assert "s3cr3t-of-the-test" not in str(conf)
    assert "spark.authenticate.secret" not in conf
