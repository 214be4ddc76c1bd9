"""Outages of PostgreSQL during a batch job: detects them, even without an error, and waits for a bounded time.

A server that died or vanished closes its connections. A server with frozen processes keeps them: its kernel answers,
the server never does, and a client without a timeout waits forever. A statement may legitimately run for minutes, so
silence alone proves nothing. `watch` tests the server with new connections meanwhile.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from data_platform_core.errors import UnreachableError, UserError
from data_platform_core.settings import PostgresSettings
from data_platform_core.warehouse.connections import connect

#: During an outage a batch job waits this long, seconds; then it fails, and its next run resumes.
PATIENCE_S = 900.0
#: Delay between attempts, seconds: doubles from the first value up to the last.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
#: Between two probes of the server, seconds.
WATCH_EVERY_S = 15.0
#: Consecutive unanswered probes until the server counts as lost: one may coincide with a checkpoint on a slow disk.
MISSES = 2

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


@contextmanager
def watch(postgres: PostgresSettings, on_silence: Callable[[], None], every_s: float = WATCH_EVERY_S) -> Iterator[None]:
    """In this context, call `on_silence` once if the server stops accepting connections."""
    ended = threading.Event()

    def ask() -> None:
        misses = 0
        while misses < MISSES:
            if ended.wait(every_s):
                return
            misses = 0 if answers(postgres) else misses + 1
        if not ended.is_set():
            on_silence()

    asking = threading.Thread(target=ask, name="postgres watch", daemon=True)
    asking.start()
    try:
        yield
    finally:
        ended.set()


def answers(postgres: PostgresSettings) -> bool:
    """Whether the server accepts a connection, or refuses one explicitly."""
    try:
        connect(postgres, "crm-watch").close()
    except UserError as error:
        return not isinstance(error, UnreachableError) or "FATAL" in str(error)
    return True


@contextmanager
def connected(
    postgres: PostgresSettings, application: str, *, autocommit: bool = False, every_s: float = WATCH_EVERY_S
) -> Iterator[psycopg.Connection]:
    """A watched connection: pending calls fail with psycopg.OperationalError when the server stops answering."""
    with (
        connect(postgres, application, autocommit=autocommit) as connection,
        # A duplicate descriptor: libpq may have closed the connection's, and its number may have been reused.
        socket.socket(fileno=os.dup(connection.fileno())) as line,
        watch(postgres, lambda: _cut(line), every_s),
    ):
        yield connection


def _cut(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended already
        return


def resumed(job: Callable[[], _Result], patience_s: float = PATIENCE_S) -> _Result:
    """Run `job`, and again after each UnreachableError, for at most `patience_s`. The job must be repeatable.

    Raises the job's errors, UnreachableError after `patience_s`.
    """
    attempts = Retrying(
        retry=retry_if_exception_type(UnreachableError),
        wait=wait_exponential(FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
        stop=stop_after_delay(patience_s),
        before_sleep=_report,
        reraise=True,
    )
    return attempts(job)


def _report(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, UnreachableError):
        log.warning("waiting", service=error.service, attempt=state.attempt_number, reason=str(error))
