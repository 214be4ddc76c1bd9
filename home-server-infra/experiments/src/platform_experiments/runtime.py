"""The interface of experiments to the platform, independent of the system that runs it.

`embedded` implements it for the embedded stack, `kubernetes` for a cluster; each method documents its meaning there.
A service has the same name in both: a supervised process here, a workload there.

Experiments reach stores at the addresses of the topology, in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

from data_platform_core.errors import ServiceError
from data_platform_core.topology import Topology

#: Called with (service, current step) while services start.
Progress = Callable[[str, str], None]
#: Actions for which `command` returns a command line.
Wish = Literal["up", "down", "status", "logs", "stream", "psql", "reconcile"]


class Part(StrEnum):
    """A part of the platform whose use of the machine is measured."""

    DRIVER = "driver"
    EXECUTORS = "executors"
    KAFKA = "kafka"
    OBJECT_STORE = "object store"


@dataclass(frozen=True)
class Process:
    """A running process. CPU seconds since its start, user and system; resident memory in MB, now and at its peak.

    `id` is never reused. On Kubernetes: a container, with the figures of its cgroup.
    """

    id: str
    program: str
    cpu_s: float
    memory_mb: float
    peak_mb: float
    #: Of `cpu_s`, what a JVM's compilers used: much of it means that the JVM is not warm. 0 for other programs.
    compiler_s: float = 0.0


@dataclass(frozen=True)
class Finished:
    """A command that ended. `cpu_s` are CPU seconds of the command and of everything that it started."""

    code: int
    output: str
    cpu_s: float


@dataclass(frozen=True)
class AlertMessage:
    """A delivered message. `at` in epoch seconds; `via` is slack, email or webhook; `text` its subject or title."""

    at: float
    via: str
    resolved: bool
    text: str


class Running(Protocol):
    """A command in the background. On Kubernetes: a Job of one pod."""

    @property
    def place(self) -> str:
        """Location of its output: a file, or the command that shows it."""

    def exit_code(self) -> int | None:
        """None while it runs."""

    def output(self) -> str:
        """Its output so far, stdout and stderr."""

    def processes(self) -> list[Process]:
        """The command and its children, the command first; none when it has ended."""

    def wait(self, timeout_s: float) -> int:
        """Its exit code. Raises ServiceError when it still runs after `timeout_s`."""

    def paused(self) -> AbstractContextManager[None]:
        """As `Runtime.paused`, for this command."""

    def end(self) -> None:
        """Terminate it (SIGTERM) and wait for its end. Repeatable. On Kubernetes: delete the Job."""


class Alerting(Protocol):
    """The alerts of the platform and the messages they cause."""

    @property
    def place(self) -> str:
        """Location of alerts and messages, for people."""

    def is_firing(self, alert: str) -> bool:
        """Whether it fires, not only is pending. Raises ServiceError when Prometheus does not answer."""

    def messages(self) -> list[AlertMessage]:
        """What the alert sink has received, oldest first."""

    def real_receivers(self) -> list[str]:
        """Real receivers besides the sink, which an experiment would notify; each as its file, Secret or address."""

    def waits(self, scale: float) -> AbstractContextManager[None]:
        """Every wait of rules and routes times `scale` inside the block."""

    def group_interval_s(self, scale: float) -> float:
        """Seconds between two messages of a group, with waits times `scale`."""


class Runtime(Protocol):
    """One environment of the platform. Methods raise ServiceError naming the service and what to do."""

    @property
    def topology(self) -> Topology:
        """Addresses of every server, and the environment's name."""

    @property
    def spark_cluster(self) -> str:
        """What gives the stream its executors, in words of a report."""

    @property
    def folder(self) -> Path:
        """Folder of an experiment's own files about the environment, on the machine that runs it."""

    @property
    def brokers(self) -> Sequence[str]:
        """Services of the brokers, in the topology's order. On Kubernetes: the StatefulSet's pods."""

    @property
    def alerting(self) -> Alerting:
        """Alerts of the environment."""

    def command(self, wish: Wish, **variables: str) -> str:
        """The command line for users, such as `command("logs", SERVICE="streaming")`. On Kubernetes: kubectl's."""

    def up(self, progress: Progress | None = None, *, room_for: Sequence[str] = ()) -> None:
        """Start the services that always run, wait until they are healthy, apply topics, schemas and tables.

        `room_for`: services that the experiment will start; refused now if they would not fit beside the rest.
        On Kubernetes: the stores, Secrets, then `helm upgrade --install --wait`; room is a matter of quota.
        """

    def down(self) -> None:
        """Stop every service; data stays. On Kubernetes: uninstall the release too."""

    def clean(self) -> None:
        """Delete the data; refused while services run. On Kubernetes: of the stores beside the cluster."""

    def start(self, service: str, settings: Mapping[str, str] | None = None) -> None:
        """Start a service and wait until it is healthy. `settings`: variables of this run, until the next plain start.

        It is started again when it runs under other settings; secrets are never written. On Kubernetes: apply the
        SparkApplication with these variables in its `env`.
        """

    def stop(self, service: str) -> None:
        """Stop a service until the next `start`. On Kubernetes: delete the SparkApplication, and wait for its pods."""

    def kill(self, service: str) -> None:
        """Kill its processes (SIGKILL); it is restarted automatically.

        On Kubernetes: delete the pod with a grace period of 0.
        """

    def instance(self, service: str) -> str:
        """Changes with each start of the service; empty while it does not run. On Kubernetes: pod and restarts."""

    def problems(self) -> dict[str, str]:
        """What is wrong, by service that should run and is not healthy. On Kubernetes: pods that are not ready."""

    def processes(self, part: Part) -> list[Process]:
        """What runs of a part, its main process first. On Kubernetes: the containers that a label selects."""

    def metrics(self, service: str) -> str:
        """The text of a service's own metrics; empty while it serves none. On Kubernetes: by the API server's proxy."""

    def paused(self, part: Part) -> AbstractContextManager[None]:
        """Freeze its processes (SIGSTOP) inside the block. On Kubernetes: refused for pods."""

    def recorded(self, part: Part, path: Path) -> AbstractContextManager[None]:
        """A flight recording of the part's first JVM inside the block, into `path` of this machine.

        On Kubernetes: refused.
        """

    def executor_room(self) -> AbstractContextManager[Mapping[str, str]]:
        """Room for executors beside the driver inside the block; yields the driver's settings that use it.

        On Kubernetes: nothing to start, a driver's executors are pods.
        """

    def run(self, command: Sequence[str], settings: Mapping[str, str] | None = None, *, check: bool = True) -> Finished:
        """Run a command (`crm`, `crm-generator`, `python`, or of the path) to its end, under a run's settings.

        Raises ServiceError with the end of its output when it fails, unless `check` is False. On Kubernetes: traffic,
        load and marts as a Job or a SparkApplication, everything else on this machine.
        """

    def follow(self, command: Sequence[str]) -> int:
        """Run a command to its end and show its output as it comes; its exit code.

        Ctrl-C reaches the command, which gets time to finish cleanly. On Kubernetes: a Job, its log followed.
        """

    def begin(self, name: str, command: Sequence[str]) -> Running:
        """Run a command in the background; `name` names its log. On Kubernetes: a Job of this name."""

    def kafka_tool(self, program: str) -> tuple[str, ...]:
        """Beginning of a command that runs one of Kafka's own Java programs."""


def cpu_since(before: Sequence[Process], now: Sequence[Process]) -> float:
    """CPU seconds that were used between two readings of one part, by children that came meanwhile too.

    Raises ServiceError when nothing ran, or the main process is another one by now.
    """
    if not before or not now or before[0].id != now[0].id:
        what = before[0].program if before else "the process"
        raise ServiceError(f"{what} ended while it was measured; its log says why")
    return _grown(before, now, lambda process: process.cpu_s)


def jvm_since(before: Sequence[Process], now: Sequence[Process]) -> float:
    """Of `cpu_since`, what the part's JVMs used."""
    return _grown(before, now, lambda process: process.cpu_s if process.program == "java" else 0.0)


def compiler_since(before: Sequence[Process], now: Sequence[Process]) -> float:
    """Of `jvm_since`, what their compilers used."""
    return _grown(before, now, lambda process: process.compiler_s)


def _grown(before: Sequence[Process], now: Sequence[Process], seconds: Callable[[Process], float]) -> float:
    used = {process.id: seconds(process) for process in before}
    return sum(seconds(process) - used.get(process.id, 0.0) for process in now)
