"""Waits for services that do not answer, without Spark, and publishes a metric that names them.

What waiting can't fix (a refused password, a missing topic, an incompatible schema) is an error at once. The driver
exits with one line, and its supervisor restarts it with a capped back-off, so that it resumes once that is fixed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential,
)

from data_platform_core.contracts import Contract
from data_platform_core.errors import UnreachableError
from data_platform_core.kafka.client import KAFKA
from data_platform_core.kafka.registry import REGISTRY, RegistryClient
from data_platform_core.kafka.topics import verify_topics
from data_platform_core.lake.store import require_lake
from data_platform_core.object_store import OBJECT_STORE
from data_platform_core.settings import Settings
from data_platform_core.streaming.observe.metrics import WAITING

#: Delay between attempts, seconds: doubles from the first value up to the last.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0
#: After this many seconds the driver exits and is restarted, to reload settings and passwords.
PATIENCE_S = 300.0

Checks = Mapping[str, Callable[[], object]]

log = structlog.get_logger(__name__)


def checks(settings: Settings, contracts: Mapping[str, Contract]) -> Checks:
    """Checks by service, required before Spark starts. Each raises ServiceError; UnreachableError for no answer."""
    registry = RegistryClient(settings.registry)
    return {
        OBJECT_STORE: lambda: require_lake(settings.object_store),
        KAFKA: lambda: verify_topics(settings, contracts),
        REGISTRY: lambda: [registry.writer_schemas(contract) for contract in contracts.values()],
    }


def wait_for_services(wanted: Checks, stopping: threading.Event, patience_s: float = PATIENCE_S) -> bool:
    """Retry each check until its service answers; False when `stopping` is set meanwhile.

    Raises what a check raises: UnreachableError only after `patience_s` for one service.
    """
    for service in wanted:
        set_waiting(service, False)
    for service, check in wanted.items():
        attempts = Retrying(
            retry=retry_if_exception_type(UnreachableError),
            wait=wait_exponential(FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            stop=stop_after_delay(patience_s) | stop_when_event_set(stopping),
            sleep=sleep_using_event(stopping),
            before_sleep=_report,
            reraise=True,
        )
        try:
            attempts(check)
        except UnreachableError:
            if stopping.is_set():
                return False
            raise
        finally:
            set_waiting(service, False)
    return not stopping.is_set()


def set_waiting(service: str, now: bool) -> None:
    """Publish whether the driver waits for this service."""
    WAITING.labels(service).set(now)


def _report(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, UnreachableError):
        set_waiting(error.service, True)
        log.warning("waiting", service=error.service, attempt=state.attempt_number, reason=str(error))
