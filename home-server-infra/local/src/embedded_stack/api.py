"""The stack as functions, called by `make up`, `make down` and the tests' fixture.

All functions raise ServiceError (exit code 3) naming the thing and what to do.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal as signals
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.paths import STATE_DIR
from data_platform_core.settings import known_variables
from data_platform_core.topology import Topology, load_topology
from embedded_stack import postgres_server, preflight, run_settings
from embedded_stack.bring_up import Progress, apply_platform, log_tail, start_all, wait_healthy
from embedded_stack.credentials import Account, ensure_accounts
from embedded_stack.layout import FALLBACK_ROOT, Layout
from embedded_stack.service import Service
from embedded_stack.services import services, started_by_up
from embedded_stack.supervision import STOPPED, ProcessInfo, Supervisor, end_strays, render_config, strays


class PreflightError(ServiceError):
    """Reasons why the stack can't start, one line each in `problems`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems

    @property
    def lines(self) -> list[str]:
        return self.problems


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


def up(
    environment: str,
    progress: Progress | None = None,
    *,
    platform: bool = True,
    profiles: Sequence[str] = (),
    room_for: Sequence[str] = (),
) -> Topology:
    """Start the environment's services, wait until each is healthy, set up accounts, topics, schemas and tables.

    Repeatable: existing data is kept. `profiles` also starts the services of these profiles. `room_for` names services
    that are started later: the preflight counts their memory and ports. `platform=False` leaves the services without
    topics, schemas and tables. Raises ConfigurationError for an unknown profile, PreflightError for lack of room.
    """
    layout = Layout(load_topology(environment))
    report = progress or _quiet
    wanted = started_by_up(layout, profiles)
    later = tuple(_named(layout, name) for name in room_for)
    with _only_one(layout):
        _bring_services_up(layout, wanted, later, report)
    if platform:
        apply_platform(environment, report)
    return layout.topology


def _bring_services_up(
    layout: Layout, wanted: tuple[Service, ...], later: tuple[Service, ...], progress: Progress
) -> None:
    supervisor, every = Supervisor(layout), services(layout)
    fresh = not supervisor.running()
    if fresh:
        end_strays(layout)
        if found := preflight.problems(layout, (*wanted, *later)):
            raise PreflightError(found)
    elif layout.supervisord_conf.read_text(encoding="utf-8") == render_config(layout, every):
        _require_room(supervisor, (*wanted, *later))
    else:
        environment = layout.topology.environment
        raise ServiceError(
            f"stack {environment} runs with a configuration that differs from topology and code; "
            f"`make down up ENV={environment}`"
        )
    accounts = _prepare_folders(layout)
    if fresh:
        # The supervisor resolves the account when it reads its configuration.
        for note in postgres_server.ensure_user():
            progress("postgres", note)
        layout.versions.write_text(json.dumps(preflight.pinned_versions()) + "\n", encoding="utf-8")
        supervisor.launch(every)
    try:
        start_all(layout, supervisor, wanted, accounts, progress)
    except BaseException:
        if fresh:  # leave nothing half-started
            supervisor.shutdown()
        raise


def down(environment: str) -> None:
    """Stop everything, keep the data. Repeatable; raises ServiceError when a process can't be ended."""
    layout = Layout(load_topology(environment))
    Supervisor(layout).shutdown()
    if left := strays(layout):
        pids = ", ".join(str(process.pid) for process in left)
        raise ServiceError(f"stack {environment}: processes {pids} don't end; look at them with `ps -fp {left[0].pid}`")


def clean(environment: str) -> None:
    """Delete the environment's data, logs and secrets. Refuses while the stack is up."""
    layout = Layout(load_topology(environment))
    if Supervisor(layout).running() or strays(layout):
        raise ServiceError(f"stack {environment} is up; `make down ENV={environment}` first")
    if not layout.root.is_relative_to(STATE_DIR) or layout.root == STATE_DIR:
        raise ServiceError(f"data folder {layout.root} of {environment} is not below {STATE_DIR}: delete it by hand")
    for folder in {layout.root, layout.postgres_home}:
        if folder.exists():
            shutil.rmtree(folder)
    program = layout.postgres_program
    if FALLBACK_ROOT in program.parents and not any(program.parent.glob("*/postgres")):
        shutil.rmtree(program.parent, ignore_errors=True)


def start(environment: str, name: str, settings: Mapping[str, str] | None = None) -> None:
    """Start one service, such as `streaming`, and wait until it is healthy. Repeatable.

    `settings`: variables of a run, which override the service's own until it is started without them. A service that
    runs under other settings is restarted. Raises ConfigurationError for a setting that does not exist or a service
    that takes none, PreflightError for lack of memory or a taken port.
    """
    layout, supervisor, service = _running_service(environment, name)
    if _put_in_force(service, settings or {}):
        supervisor.stop(name)
    _require_room(supervisor, (service,))
    service.prepare(ensure_accounts(layout.secrets))
    supervisor.start(name)
    wait_healthy(layout, supervisor, service, threading.Event())


def end_run(environment: str, name: str) -> None:
    """Remove a run's settings of a service. A running process keeps them; its next start is a plain one."""
    _put_in_force(_named(Layout(load_topology(environment)), name), {})


def _put_in_force(service: Service, settings: Mapping[str, str]) -> bool:
    """Whether the settings of the service's next start differ from those of its last."""
    if unknown := sorted(settings.keys() - known_variables()):
        raise ConfigurationError(f"setting {unknown[0]} of the run is not a setting of this platform; correct its name")
    if service.run_settings is not None:
        return run_settings.keep(service.run_settings, settings)
    if settings:
        raise ConfigurationError(f"service {service.name} takes no settings of a run; change the topology")
    return False


def _require_room(supervisor: Supervisor, wanted: Sequence[Service]) -> None:
    """Raises PreflightError when the stopped ones among the services can't be started."""
    known = supervisor.processes()
    if found := preflight.no_room([service for service in wanted if known[service.name].state == STOPPED]):
        raise PreflightError(found)


def stop(environment: str, name: str) -> None:
    """Stop one service; the supervisor leaves it stopped until `start`. Repeatable."""
    _layout, supervisor, _service = _running_service(environment, name)
    supervisor.stop(name)


def _running_service(environment: str, name: str) -> tuple[Layout, Supervisor, Service]:
    layout = Layout(load_topology(environment))
    supervisor = Supervisor(layout)
    service = _named(layout, name)
    if not supervisor.running():
        raise ServiceError(f"stack {environment} is not up; `make up ENV={environment}` first")
    return layout, supervisor, service


def _named(layout: Layout, name: str) -> Service:
    known = {service.name: service for service in services(layout)}
    if name not in known:
        raise ServiceError(f"service {name} is not one of stack {layout.topology.environment}: {', '.join(known)}")
    return known[name]


def kill(environment: str, service: str, signal: int = signals.SIGKILL, *, group: bool = False) -> int:
    """Send a signal to a service's process, as a crash would, and return its pid. The supervisor starts it again.

    `group` sends it to the process and all its children: Spark's driver is Python and a JVM.
    """
    layout = Layout(load_topology(environment))
    process = Supervisor(layout).processes().get(service)
    if process is None or not process.pid:
        raise ServiceError(f"service {service} does not run in stack {environment}; `make status ENV={environment}`")
    (os.killpg if group else os.kill)(process.pid, signal)
    return process.pid


def status(environment: str) -> list[ServiceStatus]:
    """The state of every service, checked in parallel."""
    layout = Layout(load_topology(environment))
    known = Supervisor(layout).processes()
    wanted = services(layout)
    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(lambda service: _status_of(layout, service, known.get(service.name)), wanted))


def _status_of(layout: Layout, service: Service, process: ProcessInfo | None) -> ServiceStatus:
    if process is None or not process.pid:
        state = process.state if process else "DOWN"
        return ServiceStatus(service.name, state, 0, service.address, 0.0, 0.0, _why_down(layout, service, process))
    return ServiceStatus(
        name=service.name,
        state=process.state,
        pid=process.pid,
        address=service.address,
        uptime=process.uptime,
        rss_mb=_rss_mb(process.pid),
        problem=service.healthy(),
    )


def _why_down(layout: Layout, service: Service, process: ProcessInfo | None) -> str | None:
    """The reason why a service has no process; None if it was not started."""
    if process is not None and process.failed_starts:
        return (
            f"{process.failed_starts} failed starts, the next in {process.retry_s} s: "
            f"{log_tail(layout, service.name, lines=1)}"
        )
    stopped = process is None or process.state == STOPPED
    return None if service.optional and stopped else "not running"


def _rss_mb(pid: int) -> float:
    try:
        parent = psutil.Process(pid)
        return sum(process.memory_info().rss for process in [parent, *parent.children(recursive=True)]) / 2**20
    except psutil.Error:
        return 0.0


def _quiet(_service: str, _event: str) -> None:
    """No-op progress callback."""


@contextmanager
def _only_one(layout: Layout) -> Iterator[None]:
    """Two `up` at the same time would start two supervisors: the second waits for the first."""
    layout.root.mkdir(parents=True, exist_ok=True)
    # PostgreSQL's own user must traverse it; set before the location of its data is chosen.
    layout.root.chmod(0o755)
    with (layout.root / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepare_folders(layout: Layout) -> dict[str, Account]:
    for folder in (layout.logs, layout.config, layout.registry_data):
        folder.mkdir(mode=0o700, exist_ok=True)
    return ensure_accounts(layout.secrets)
