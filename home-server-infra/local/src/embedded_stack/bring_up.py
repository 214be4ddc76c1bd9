"""From nothing to all healthy: what each service needs on disk, its start, its health, its accounts.

No service needs another one to start (clients retry), so all of them come up at once; accounts of a service follow its
health, and what belongs to the platform (topics, schemas, tables) follows the health of all.
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

#: Called with (service, what it is doing now) as the stack comes up; the last word is HEALTHY.
Progress = Callable[[str, str], None]
PREPARING, STARTING, HEALTHY = "preparing", "starting", "healthy"

#: A cold, busy machine took 35 s with initdb and format to do, one with slow memory 150 s to start the driver, one
#: whose two cores six drivers shared more than 300 s; beyond this something is wrong.
START_TIMEOUT_SECONDS = 600.0
PLATFORM_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.25
_LOG_LINES_IN_ERROR = 3
#: A person who starts a service is told after so many failed starts in a row; the supervisor goes on trying.
MAX_FAILED_STARTS = 5

#: Jobs that bring the empty services to what contracts and migrations say. The brokers here have no access rules.
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
    """Start what does not run, wait for the health of everything. The first failure ends the waiting for the rest."""
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
        except BaseException:  # an interrupt too: or the pool would wait for every timeout
            failed.set()
            raise


def _raise_first(running: list[Future[None]]) -> None:
    """The failure that made the others give up."""
    errors = [error for future in running if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, _GivenUpError)), errors[0])


def wait_healthy(layout: Layout, supervisor: Supervisor, service: Service, failed: threading.Event) -> None:
    """Wait until the service answers; `failed` set by another thread ends the waiting. Raises ServiceError.

    One whose answer changes is at work: the streaming driver may read a long window back.
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
    """The end of a service's log, on one line, and where the rest is."""
    path = layout.logs / f"{service}.log"
    found = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return f"{' / '.join(line.strip() for line in found[-lines:])} (see {path})"


def apply_platform(environment: str, progress: Progress) -> None:
    """Topics, schemas and tables, by the jobs that own them, side by side. Raises ServiceError with their words."""
    with ThreadPoolExecutor(len(PLATFORM_JOBS)) as pool:
        _raise_first([pool.submit(_platform_job, environment, name, progress) for name in PLATFORM_JOBS])


def _platform_job(environment: str, name: str, progress: Progress) -> None:
    progress(name, STARTING)
    call(job(name).argv(environment), timeout_s=PLATFORM_TIMEOUT_SECONDS)
    progress(name, "applied")
