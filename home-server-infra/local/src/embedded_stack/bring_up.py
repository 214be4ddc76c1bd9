"""Brings services up: files on disk, start, health, accounts.

No service needs another one to start (clients retry), so all of them start in parallel. A service's accounts are
created once it is healthy. The platform's topics, schemas and tables are created once all are healthy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from data_platform_core.commands import call
from data_platform_core.errors import ServiceError
from data_platform_core.jobs import SETUP, job
from embedded_stack.layout import Layout
from embedded_stack.service import Accounts, Service
from embedded_stack.supervision import Supervisor

#: Called with (service, current step) as the stack starts; the last step is HEALTHY.
Progress = Callable[[str, str], None]
PREPARING, STARTING, HEALTHY = "preparing", "starting", "healthy"

#: A cold, busy machine took 35 s with initdb and format to do, one with slow memory 150 s to start the driver, one
#: whose two cores six drivers shared more than 300 s; beyond this something is wrong.
START_TIMEOUT_SECONDS = 600.0
PLATFORM_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.25
_LOG_LINES_IN_ERROR = 3
#: `start` fails after this many failed starts in a row; the supervisor keeps trying.
MAX_FAILED_STARTS = 5

#: Jobs that set up the empty services from contracts and migrations. The brokers here have no access rules.
PLATFORM_JOBS = tuple(name for name in SETUP if name != "acls")


class _GivenUpError(ServiceError):
    """Waiting ended because another service failed."""


def start_all(
    layout: Layout,
    supervisor: Supervisor,
    wanted: tuple[Service, ...],
    accounts: Accounts,
    progress: Progress,
) -> None:
    """Start what does not run and wait until all are healthy. The first failure ends the wait for the others."""
    failed = threading.Event()

    def bring_up(service: Service) -> None:
        try:
            if not supervisor.processes()[service.name].pid:
                progress(service.name, PREPARING)
                for note in service.prepare(accounts) or ():
                    progress(service.name, note)
                progress(service.name, STARTING)
                supervisor.start(service.name)
            elif service.refresh():
                supervisor.reload(service.name)
            wait_healthy(layout, supervisor, service, failed)
            service.provision(accounts)
            progress(service.name, HEALTHY)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(wanted)) as pool:
        running = [pool.submit(bring_up, service) for service in wanted]
        try:
            _raise_first(running)
        except BaseException:  # also for an interrupt: otherwise the pool would wait for every timeout
            failed.set()
            raise


def _raise_first(running: list[Future[None]]) -> None:
    """The failure that ended the wait for the others."""
    errors = [error for future in running if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, _GivenUpError)), errors[0])


def wait_healthy(layout: Layout, supervisor: Supervisor, service: Service, failed: threading.Event) -> None:
    """Wait until the service is healthy; `failed` set by another thread ends the wait. Raises ServiceError.

    A service whose answer changes is making progress: the streaming driver may be reading a long window.
    """
    deadline, last = time.monotonic() + START_TIMEOUT_SECONDS, None
    while (problem := service.healthy()) is not None:
        if problem != last:
            deadline, last = time.monotonic() + START_TIMEOUT_SECONDS, problem
        if failed.is_set():
            raise _GivenUpError(f"service {service.name} was not waited for")
        if supervisor.processes()[service.name].failed_starts >= MAX_FAILED_STARTS:
            raise ServiceError(f"service {service.name} does not stay up: {log_tail(layout, service.name)}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"service {service.name} at {service.address} is not healthy after {START_TIMEOUT_SECONDS:.0f} s "
                f"({problem}): {log_tail(layout, service.name)}"
            )
        time.sleep(_POLL_SECONDS)


def log_tail(layout: Layout, service: str, lines: int = _LOG_LINES_IN_ERROR) -> str:
    """The end of a service's log on one line, with the log's path."""
    path = layout.logs / f"{service}.log"
    found = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return f"{' / '.join(line.strip() for line in found[-lines:])} (see {path})"


def apply_platform(environment: str, progress: Progress) -> None:
    """Run the jobs for topics, schemas and tables in parallel. Raises ServiceError with their output."""
    with ThreadPoolExecutor(len(PLATFORM_JOBS)) as pool:
        _raise_first([pool.submit(_platform_job, environment, name, progress) for name in PLATFORM_JOBS])


def _platform_job(environment: str, name: str, progress: Progress) -> None:
    progress(name, STARTING)
    call(job(name).argv(environment), timeout_s=PLATFORM_TIMEOUT_SECONDS)
    progress(name, "applied")
