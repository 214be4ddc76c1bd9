"""A Spark error as one line: it names the real cause, not a credential problem."""

from __future__ import annotations

import pytest
from pyspark.errors import PySparkException

from data_platform_core.batch.load_warehouse import _explained
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.lake.spark_errors import Cause, cause, spark_errors
from data_platform_core.settings import Settings, load_settings

pytestmark = pytest.mark.unit

_TRACEBACK = """An exception was thrown from the Python worker. Please see the stack trace below.
Traceback (most recent call last):
  File "loads.py", line 142, in copy_lines
{last}
"""


class JavaError(Exception):
    """Replaces Py4JJavaError: a chain of causes."""

    def __init__(self, *chain: str) -> None:
        super().__init__("An error occurred while calling o1.collect")
        self.java_exception = Java(chain)


class Java:
    def __init__(self, chain: tuple[str, ...]) -> None:
        self._chain = chain

    def getCause(self) -> Java | None:
        return Java(self._chain[1:]) if len(self._chain) > 1 else None

    def toString(self) -> str:
        return self._chain[0]


@pytest.fixture
def settings() -> Settings:
    return load_settings("batch", "test")


def test_a_full_disk_of_postgresql_is_reported_as_postgresqls(settings: Settings) -> None:
    error = RuntimeError(_TRACEBACK.format(last="psycopg.errors.DiskFull: could not extend file: No space left"))
    line = _explained(settings, "orders", cause(error))
    assert "PostgreSQL" in line
    assert "could not load orders (DiskFull: could not extend file: No space left)" in line
    assert "KEY" not in line


def test_a_value_that_fails_names_its_entity_and_no_credentials(settings: Settings) -> None:
    error = JavaError("SparkException: task", "java.lang.ArithmeticException: long overflow")
    line = _explained(settings, "profiles", cause(error))
    assert "a value in silver of profiles" in line
    assert "long overflow" in line
    assert "KEY" not in line


def test_a_refused_key_is_reported_as_one(settings: Settings) -> None:
    error = JavaError("SparkException", "java.nio.file.AccessDeniedException: s3a://lake: 403 Forbidden")
    assert "CRM_OBJECT_STORE__ACCESS_KEY" in _explained(settings, "events", cause(error))


def test_a_store_that_is_down_is_reported_without_the_credentials(settings: Settings) -> None:
    error = JavaError("SparkException", "java.net.ConnectException: Connection refused")
    line = _explained(settings, "events", cause(error))
    assert settings.object_store.url in line
    assert "KEY" not in line


def test_an_error_of_ours_inside_an_executor_is_unchanged() -> None:
    error = RuntimeError(_TRACEBACK.format(last="data_platform_core.errors.ServiceError: PostgreSQL does not answer"))
    assert cause(error) == ("ours", "PostgreSQL does not answer")


def test_the_jvms_error_in_a_batchs_python_is_the_cause_and_not_the_traceback_around_it() -> None:
    proxied = (
        "py4j.Py4JException: An exception was raised by the Python Proxy. Return Message: Traceback (most recent call "
        'last):\n  File "ingest.py", line 227, in _append\npy4j.protocol.Py4JJavaError: An error occurred while '
        "calling o3537.save.\n: java.net.ConnectException: getFileStatus on s3a://crm-lake/silver: refused\n\tat x.y(Z)"
    )
    found = cause(JavaError("StreamingQueryException: failed", proxied))
    assert found == ("store", "java.net.ConnectException: getFileStatus on s3a://crm-lake/silver: refused")


@pytest.mark.parametrize(
    ("last", "service"),
    [
        ("psycopg.OperationalError: the connection is lost", "PostgreSQL"),
        ("data_platform_core.errors.UnreachableError: PostgreSQL does not answer", "PostgreSQL"),
        ("java.net.ConnectException: Connection refused", "object store"),
    ],
)
def test_an_outage_inside_spark_is_raised_with_the_service_that_was_away(last: str, service: str) -> None:
    with pytest.raises(UnreachableError, match="failed: ") as raised, spark_errors(_failed, "PostgreSQL"):
        raise PySparkException(_TRACEBACK.format(last=last))
    assert raised.value.service == service


def test_any_other_error_of_spark_is_raised_in_one_line_and_one_of_ours_passes() -> None:
    with pytest.raises(ServiceError, match="DiskFull") as raised, spark_errors(_failed, "PostgreSQL"):
        raise PySparkException(_TRACEBACK.format(last="psycopg.errors.DiskFull: could not extend file"))
    assert not isinstance(raised.value, UnreachableError)
    assert "\n" not in str(raised.value)
    with pytest.raises(ServiceError, match="as it is"), spark_errors(_failed, "PostgreSQL"):
        raise ServiceError("as it is")


def _failed(found: Cause) -> str:
    return f"failed: {found.text}"
