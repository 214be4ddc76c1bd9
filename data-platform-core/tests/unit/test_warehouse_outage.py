"""A PostgreSQL that stops answering is detected; a job that an outage interrupts is retried, for a bounded time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.lake.spark_errors import is_outage
from data_platform_core.settings import PostgresSettings, load_settings
from data_platform_core.warehouse import outage
from data_platform_core.warehouse.dbt_runner import connection_lost

pytestmark = pytest.mark.unit


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresSettings]:
    """A server whose kernel accepts connections and that never answers, like one whose processes are frozen."""
    monkeypatch.setattr("data_platform_core.warehouse.connections.CONNECT_TIMEOUT_S", 2)
    with socket.socket() as frozen:
        frozen.bind(("127.0.0.1", 0))
        frozen.listen()
        settings = load_settings("batch", "test").postgres
        place = {"host": "127.0.0.1", "port": frozen.getsockname()[1], "user": "crm_batch"}
        yield settings.model_copy(update=place)


def test_a_frozen_server_is_noticed(silent: PostgresSettings) -> None:
    noticed = threading.Event()
    with outage.watch(silent, noticed.set, every_s=0.01):
        assert noticed.wait(60)


def test_a_job_that_ends_in_time_is_not_disturbed(silent: PostgresSettings) -> None:
    noticed = threading.Event()
    with outage.watch(silent, noticed.set, every_s=3600):
        pass
    assert not noticed.is_set()


def test_a_server_that_refuses_a_connection_lives(monkeypatch: pytest.MonkeyPatch, silent: PostgresSettings) -> None:
    def refuses(*_: object) -> None:
        raise UnreachableError("PostgreSQL", "PostgreSQL does not answer (FATAL:  sorry, too many clients already)")

    monkeypatch.setattr(outage, "connect", refuses)
    assert outage.answers(silent)


def test_a_job_is_repeated_after_an_outage_and_not_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "FIRST_PAUSE_S", 0.001)
    errors = iter([UnreachableError("PostgreSQL", "was lost"), UnreachableError("object store", "away")])

    def job() -> str:
        for error in errors:
            raise error
        return "done"

    def refused() -> None:
        calls.append(1)
        raise ServiceError("no such column")

    calls: list[int] = []
    assert outage.resumed(job) == "done"
    with pytest.raises(ServiceError, match="no such column"):
        outage.resumed(refused)
    assert calls == [1]


def test_patience_is_bounded() -> None:
    def job() -> None:
        raise UnreachableError("PostgreSQL", "was lost")

    with pytest.raises(UnreachableError, match="was lost"):
        outage.resumed(job, patience_s=0)


@pytest.mark.parametrize(
    ("text", "away"),
    [
        ("psycopg.OperationalError: consuming input failed: server closed the connection unexpectedly", True),
        ("psycopg.errors.AdminShutdown: terminating connection due to administrator command", True),
        ("psycopg.errors.DiskFull: could not extend file", False),
        ("data_platform_core.errors.UnreachableError: PostgreSQL 127.0.0.1:1 does not answer (refused)", True),
        ("data_platform_core.errors.ServiceError: PostgreSQL 127.0.0.1:1 refuses user 'crm_batch'", False),
        ("java.net.ConnectException: Connection refused", True),
        (
            "An exception was raised by the Python Proxy. Return Message: Traceback (most recent call last):\n"
            "py4j.protocol.Py4JJavaError: An error occurred while calling o1.save.\n"
            ": java.net.ConnectException: getFileStatus on s3a://lake/silver: Connection refused\n\tat java.base/x",
            True,
        ),
        ("software.amazon.awssdk.core.exception.ApiCallTimeoutException: did not complete", True),
        ("java.nio.file.AccessDeniedException: s3a://lake: Forbidden; 403", False),
        ("java.io.FileNotFoundException: No such file or directory: s3a://lake/silver/x.parquet", False),
        ("java.lang.ArithmeticException: long overflow", False),
    ],
)
def test_an_outage_is_distinguished_from_what_waiting_does_not_fix(text: str, away: bool) -> None:
    assert is_outage(RuntimeError(text)) is away


@pytest.mark.parametrize(
    ("log", "lost"),
    [
        ("Database Error in model fct_orders\n  server closed the connection unexpectedly", True),
        ('connection to server at "127.0.0.1", port 1 failed: Connection refused', True),
        ("FATAL:  the database system is starting up", True),
        ('Database Error in model fct_orders\n  column "x" does not exist', False),
    ],
)
def test_dbts_log_shows_whether_the_server_was_lost(log: str, lost: bool) -> None:
    assert connection_lost(log) is lost
