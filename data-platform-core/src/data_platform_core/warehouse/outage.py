"""PostgreSQL away in the middle of a batch job: noticed though it is silent, waited for, and for a bounded time.

A server that died or vanished ends its connections. One whose processes are frozen keeps them: its kernel answers, the
server never does, and a client without a limit waits for ever. A statement may rightly take minutes, so silence alone
proves nothing: `watch` asks the server for a new connection meanwhile.
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

#: A batch job that an outage caught waits this long for its end, seconds; then it fails, and its next run resumes.
PATIENCE_S = 900.0
#: Between two tries, seconds: doubled from the first up to the last.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
#: Between two questions whether the server lives, seconds.
WATCH_EVERY_S = 15.0
#: So many questions in a row without an answer, and the server is given up: one may meet a checkpoint on a slow disk.
MISSES = 2

_Result = TypeVar("_Result")

log = structlog.get_logger(__name__)


@contextmanager
def watch(postgres: PostgresSettings, on_silence: Callable[[], None], every_s: float = WATCH_EVERY_S) -> Iterator[None]:
    """While the context lasts, call `on_silence` once when the server stops to take connections."""
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
    """Whether the server takes a connection, or refuses one for a reason of its own."""
    try:
        connect(postgres, "crm-watch").close()
    except UserError as error:
        return not isinstance(error, UnreachableError) or "FATAL" in str(error)
    return True


@contextmanager
def connected(
    postgres: PostgresSettings, application: str, *, autocommit: bool = False, every_s: float = WATCH_EVERY_S
) -> Iterator[psycopg.Connection]:
    """A watched connection: what waits on it fails with psycopg.OperationalError when the server falls silent."""
    with (
        connect(postgres, application, autocommit=autocommit) as connection,
        # A descriptor of our own: libpq may have closed the connection's, and its number may be another file by then.
        socket.socket(fileno=os.dup(connection.fileno())) as line,
        watch(postgres, lambda: _cut(line), every_s),
    ):
        yield connection


def _cut(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:  # it ended by itself
        return


def resumed(job: Callable[[], _Result], patience_s: float = PATIENCE_S) -> _Result:
    """Run `job`, again after each UnreachableError, for `patience_s` at most; the job must be one that may be repeated.

    Raises what the job raises, UnreachableError when the patience is over.
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
