"""The stack as functions: what `make up`, `make down` and the tests' fixture call.

Everything raises ServiceError (exit code 3) with one line naming the thing and what to do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal as signals
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil

from data_platform_core.errors import ServiceError
from data_platform_core.topology import Topology, load_topology
from embedded_stack import kafka_nodes, object_store, postgres_server, preflight
from embedded_stack.credentials import STACK, Account, ensure_accounts
from embedded_stack.layout import FALLBACK_ROOT, Layout
from embedded_stack.services import Service, kafka_name, services
from embedded_stack.supervision import ProcessInfo, Supervisor, end_strays, strays

#: A cold machine (disk cache empty, initdb and format to do) took under a minute; beyond this something is wrong.
START_TIMEOUT_SECONDS = 150.0
_POLL_SECONDS = 0.25
_LOG_LINES_IN_ERROR = 3

#: Called with (service, event) as the stack comes up; event is one of STEPS.
Progress = Callable[[str, str], None]
PREPARING, STARTING, HEALTHY = "preparing", "starting", "healthy"


@dataclass(frozen=True)
class ServiceStatus:
    """One row of `make status`. `uptime` in seconds, `rss_mb` with children; `problem` None means healthy."""

    name: str
    state: str
    pid: int
    address: str
    uptime: float
    rss_mb: float
    problem: str | None


def up(environment: str, progress: Progress | None = None) -> Topology:
    """Bring the environment's services up, wait until each is healthy, and set up accounts. Repeatable."""
    layout = Layout(load_topology(environment))
    supervisor = Supervisor(layout)
    wanted = services(layout)
    fresh = not supervisor.running()
    if fresh:
        end_strays(layout)
        if found := preflight.problems(layout, wanted):
            raise ServiceError(" | ".join(found) if len(found) > 1 else found[0])
    accounts = _prepare_folders(layout)
    progress = progress or _quiet
    if fresh:
        # The supervisor looks the account up when it reads its configuration.
        for note in postgres_server.ensure_user():
            progress("postgres", note)
        supervisor.launch(wanted)
    try:
        _start_all(layout, supervisor, wanted, accounts, progress)
    except BaseException:
        if fresh:  # nothing half-started stays behind
            supervisor.shutdown()
        raise
    layout.versions.write_text(json.dumps(preflight.pinned_versions()) + "\n", encoding="utf-8")
    return layout.topology


def down(environment: str) -> int:
    """Stop everything, keep the data. Returns how many stray processes were ended; repeatable."""
    layout = Layout(load_topology(environment))
    Supervisor(layout).shutdown()
    return len(strays(layout))


def clean(environment: str) -> None:
    """Delete the environment's data, logs and secrets. Refuses while the stack is up."""
    layout = Layout(load_topology(environment))
    if Supervisor(layout).running() or strays(layout):
        raise ServiceError(f"stack {environment} is up; `make down ENV={environment}` first")
    for folder in {layout.root, layout.postgres_home}:
        if folder.exists():
            shutil.rmtree(folder)
    if layout.postgres_home != layout.root and not any(FALLBACK_ROOT.glob("*/*/postgres")):
        shutil.rmtree(FALLBACK_ROOT, ignore_errors=True)


def kill(environment: str, service: str, signal: int = signals.SIGKILL) -> int:
    """Send a signal to a service's process, as a crash would, and return its pid. The supervisor starts it again."""
    layout = Layout(load_topology(environment))
    process = Supervisor(layout).processes().get(service)
    if process is None or not process.pid:
        raise ServiceError(f"service {service} does not run in stack {environment}; `make status ENV={environment}`")
    os.kill(process.pid, signal)
    return process.pid


def status(environment: str) -> list[ServiceStatus]:
    """The state of every service, asked in parallel."""
    layout = Layout(load_topology(environment))
    known = Supervisor(layout).processes()
    wanted = services(layout)
    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(lambda service: _status_of(service, known.get(service.name)), wanted))


def _status_of(service: Service, process: ProcessInfo | None) -> ServiceStatus:
    if process is None or not process.pid:
        state = process.state if process else "DOWN"
        return ServiceStatus(service.name, state, 0, service.address, 0.0, 0.0, "not running")
    return ServiceStatus(
        service.name,
        process.state,
        process.pid,
        service.address,
        process.uptime,
        _rss_mb(process.pid),
        service.healthy(),
    )


def _rss_mb(pid: int) -> float:
    try:
        parent = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)]) / 2**20
    except psutil.Error:
        return 0.0


def _quiet(_service: str, _event: str) -> None:
    """No progress wanted."""


def _prepare_folders(layout: Layout) -> dict[str, Account]:
    for folder in (layout.root, layout.logs, layout.config, layout.registry_data):
        folder.mkdir(parents=True, exist_ok=True)
    return ensure_accounts(layout.secrets)


def _start_all(
    layout: Layout,
    supervisor: Supervisor,
    wanted: tuple[Service, ...],
    accounts: dict[str, Account],
    progress: Progress,
) -> None:
    """All at once: no service needs another to start. The first failure stops the waiting for the rest."""
    failed = threading.Event()

    def bring_up(service: Service) -> None:
        try:
            if not supervisor.processes()[service.name].pid:
                progress(service.name, PREPARING)
                for note in _prepare(layout, service, accounts):
                    progress(service.name, note)
                progress(service.name, STARTING)
                supervisor.start(service.name)
            _wait_healthy(layout, supervisor, service, failed)
            _provision(layout.topology, service, accounts)
            progress(service.name, HEALTHY)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(wanted)) as pool:
        running = [pool.submit(bring_up, service) for service in wanted]
    errors = [error for future in running if (error := future.exception()) is not None]
    if errors:
        raise next((error for error in errors if not isinstance(error, _GivenUpError)), errors[0])


class _GivenUpError(ServiceError):
    """Waiting ended because another service failed."""


def _prepare(layout: Layout, service: Service, accounts: dict[str, Account]) -> list[str]:
    """What a service needs on disk before it starts. Returns notes for the person watching."""
    if service.name == "postgres":
        return postgres_server.prepare_postgres(layout, accounts[STACK])
    if service.name == "minio":
        object_store.prepare_minio(layout, accounts[STACK])
    for broker in layout.topology.kafka.brokers:
        if service.name == kafka_name(broker):
            kafka_nodes.prepare_broker(layout, broker)
    return []


def _provision(topology: Topology, service: Service, accounts: dict[str, Account]) -> None:
    if service.name == "postgres":
        postgres_server.apply_accounts(topology, accounts)
    elif service.name == "minio":
        object_store.apply_accounts(topology, accounts)


def _wait_healthy(layout: Layout, supervisor: Supervisor, service: Service, failed: threading.Event) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while (problem := service.healthy()) is not None:
        if failed.is_set():
            raise _GivenUpError(f"service {service.name} was not waited for")
        state = supervisor.processes()[service.name].state
        if state in ("FATAL", "UNKNOWN"):
            raise ServiceError(f"service {service.name} does not stay up: {_log_tail(layout, service)}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"service {service.name} at {service.address} is not healthy after {START_TIMEOUT_SECONDS:.0f} s "
                f"({problem}): {_log_tail(layout, service)}"
            )
        time.sleep(_POLL_SECONDS)


def _log_tail(layout: Layout, service: Service) -> str:
    path = layout.logs / f"{service.name}.log"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return f"{' / '.join(line.strip() for line in lines[-_LOG_LINES_IN_ERROR:])} (see {path})"
