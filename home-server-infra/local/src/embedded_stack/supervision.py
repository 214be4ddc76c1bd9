"""The supervisor: configuration, start, stop, and remote control over a unix socket that only its owner can open."""

from __future__ import annotations

import shlex
import subprocess
import sys
import xmlrpc.client
from dataclasses import dataclass
from typing import Any

import psutil

from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until
from embedded_stack.backoff import MAX_BACKOFF_SECONDS
from embedded_stack.layout import MARKER_VARIABLE, Layout
from embedded_stack.service import Service

LOG_BYTES = 10 * 1024 * 1024
LOG_BACKUPS = 3
DAEMON_START_SECONDS = 10.0
#: All services stop in parallel; above the longest of their own limits.
DAEMON_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.1
#: supervisord's state of a service that was never started, or was stopped by hand.
STOPPED = "STOPPED"


@dataclass(frozen=True)
class ProcessInfo:
    """The supervisor's state of a service. `uptime` in seconds; `pid` 0 if it does not run.

    `failed_starts` in a row, since it last ran or was stopped; the next one is due in `retry_s` seconds.
    """

    name: str
    state: str
    pid: int
    uptime: float
    failed_starts: int = 0
    retry_s: int = 0


def render_config(layout: Layout, services: tuple[Service, ...]) -> str:
    """The text of supervisord.conf. Contains paths and addresses, no secrets."""
    head = f"""\
; Written by `make up`; changes here are lost.
[supervisord]
logfile={_escaped(layout.logs / "supervisord.log")}
logfile_maxbytes={LOG_BYTES}
logfile_backups={LOG_BACKUPS}
pidfile={_escaped(layout.supervisord_pid)}
identifier=crm-{layout.topology.environment}
minfds=1024
umask=077
nodaemon=false
silent=true

[unix_http_server]
file={_escaped(layout.supervisor_socket)}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:backoff]
supervisor.rpcinterface_factory = embedded_stack.backoff:make_interface
"""
    return head + "".join(_program(layout, service) for service in services)


def _program(layout: Layout, service: Service) -> str:
    environment = ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(service.environment.items()))
    group = str(service.stop_group).lower()
    user = f"user={service.user}\n" if service.user else ""
    return f"""
[program:{service.name}]
command={_escaped(shlex.join(service.command))}
environment={environment}
directory=/
{user}autostart=false
autorestart=true
startsecs={service.start_seconds}
startretries={MAX_BACKOFF_SECONDS}
stopsignal={service.stop_signal}
stopwaitsecs={service.stop_seconds}
stopasgroup={group}
killasgroup=true
redirect_stderr=true
stdout_logfile={_escaped(_escaped(layout.logs / f"{service.name}.log"))}
stdout_logfile_maxbytes={LOG_BYTES}
stdout_logfile_backups={LOG_BACKUPS}
"""


def _escaped(value: object) -> str:
    """supervisord expands `%(...)s`: a percent sign in a path is doubled; a log's twice, as it expands that twice."""
    return str(value).replace("%", "%%")


class Supervisor:
    """Remote control of one environment's supervisord."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    @property
    def _rpc(self) -> Any:
        return self._namespaces.supervisor

    @property
    def _namespaces(self) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        # A new connection per call: calls come from several threads.
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._layout.supervisor_socket}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._rpc.getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def launch(self, services: tuple[Service, ...]) -> None:
        """Write the configuration and start the daemon. Services are started individually with `start`."""
        layout = self._layout
        layout.supervisord_conf.write_text(render_config(layout, services), encoding="utf-8")
        layout.supervisor_socket.unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(layout.supervisord_conf)],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        if done.returncode != 0:
            # The last line only refers to its help.
            printed = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            raise ServiceError(f"supervisord refused {layout.supervisord_conf}: {printed[0]}")
        if not ask_until(bool, self.running, within_s=DAEMON_START_SECONDS, every_s=_POLL_SECONDS):
            raise ServiceError(f"supervisord did not answer within {DAEMON_START_SECONDS:.0f} s; see {layout.logs}")

    def processes(self) -> dict[str, ProcessInfo]:
        """By service name; empty when the supervisor does not run."""
        if not self.running():
            return {}
        failed = self._namespaces.backoff.getFailedStarts()
        return {
            raw["name"]: ProcessInfo(
                raw["name"],
                raw["statename"],
                raw["pid"],
                float(max(0, raw["now"] - raw["start"])) if raw["pid"] else 0.0,
                *failed.get(raw["name"], (0, 0)),
            )
            for raw in self._rpc.getAllProcessInfo()
        }

    def start(self, name: str) -> None:
        """Start the service, at once if it waits for its next start; no error if it runs."""
        if (known := self.processes().get(name)) is not None and known.state == "BACKOFF":
            self.stop(name)
        try:
            self._rpc.startProcess(name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise ServiceError(f"service {name} could not be started: {fault.faultString}") from None

    def stop(self, name: str) -> None:
        """Stop the service and wait until it is gone; no error when it does not run."""
        try:
            self._rpc.stopProcess(name, True)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise ServiceError(f"service {name} could not be stopped: {fault.faultString}") from None

    def reload(self, name: str) -> None:
        """Ask a running service to read its configuration again."""
        try:
            self._rpc.signalProcess(name, "HUP")
        except xmlrpc.client.Fault as fault:
            raise ServiceError(f"service {name} could not be reloaded: {fault.faultString}") from None

    def shutdown(self) -> None:
        """Stop every service, then the daemon, then any remaining processes."""
        daemon = self._daemon()
        if self.running():
            self._rpc.shutdown()
        if daemon is not None:
            try:
                daemon.wait(DAEMON_STOP_SECONDS)
            except psutil.TimeoutExpired:
                daemon.kill()
        end_strays(self._layout)
        self._layout.supervisor_socket.unlink(missing_ok=True)

    def _daemon(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self._layout.supervisord_pid.read_text(encoding="utf-8")))
            return process if str(self._layout.supervisord_conf) in process.cmdline() else None
        except (OSError, ValueError, psutil.Error):
            return None


def strays(layout: Layout) -> list[psutil.Process]:
    """Processes of this stack, found by the mark in their environment, regardless of their parent."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARKER_VARIABLE) == layout.marker:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def end_strays(layout: Layout) -> int:
    """End the processes that a killed supervisor left behind; returns their number."""
    left = strays(layout)
    for process in left:
        process.terminate()
    _, alive = psutil.wait_procs(left, timeout=max(10, DAEMON_STOP_SECONDS / 3))
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)
    return len(left)
