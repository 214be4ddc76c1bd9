"""`Runtime` over the embedded stack: services under its supervisor, commands as processes beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import psutil

from data_platform_core.access.names import STREAMING
from data_platform_core.errors import ServiceError
from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.kafka_nodes import kafka_name
from embedded_stack.layout import Layout, java, kafka_jars
from embedded_stack.services import MINIO
from embedded_stack.spark_cluster import MASTER, cluster_properties, cluster_services
from embedded_stack.supervision import Supervisor
from platform_experiments.embedded import commands, processes
from platform_experiments.embedded.alerting import EmbeddedAlerting
from platform_experiments.embedded.recording import recorded
from platform_experiments.runtime import Finished, Part, Process, Progress, Running, Wish

#: The environment that `make` takes without ENV.
DEFAULT_ENVIRONMENT = "local"
_KAFKA_TOOL_HEAP = "-Xmx512m"


class EmbeddedRuntime:
    """One environment of the embedded stack. Raises ConfigurationError when there is no such environment."""

    def __init__(self, environment: str) -> None:
        self.topology = load_topology(environment)
        self._environment = environment
        self._layout = Layout(self.topology)
        self.alerting = EmbeddedAlerting(self._layout)

    @property
    def spark_cluster(self) -> str:
        return "a Spark standalone cluster"

    @property
    def folder(self) -> Path:
        return self._layout.root

    @property
    def brokers(self) -> Sequence[str]:
        return [kafka_name(broker) for broker in self.topology.kafka.brokers]

    def command(self, wish: Wish, **variables: str) -> str:
        if self._environment != DEFAULT_ENVIRONMENT:
            variables["ENV"] = self._environment
        return " ".join((f"make {wish}", *(f"{name}={value}" for name, value in variables.items())))

    def up(self, progress: Progress | None = None, *, room_for: Sequence[str] = ()) -> None:
        api.up(self._environment, progress, room_for=room_for)

    def down(self) -> None:
        api.down(self._environment)

    def clean(self) -> None:
        api.clean(self._environment)

    def start(self, service: str, settings: Mapping[str, str] | None = None) -> None:
        api.start(self._environment, service, settings)

    def stop(self, service: str) -> None:
        api.stop(self._environment, service)

    def kill(self, service: str) -> None:
        api.kill(self._environment, service, group=True)

    def instance(self, service: str) -> str:
        pid = self._pids().get(service, 0)
        found = processes.described(processes.family(pid)[:1]) if pid else []
        return found[0].id if found else ""

    def problems(self) -> dict[str, str]:
        return {row.name: row.problem for row in api.status(self._environment) if row.problem}

    def processes(self, part: Part) -> list[Process]:
        return processes.described(self._processes(part))

    def metrics(self, service: str) -> str:
        endpoint = self.topology.metrics.of(service)
        if endpoint is None:
            return ""
        try:
            return httpx.get(f"http://{endpoint.address}/metrics", timeout=1, trust_env=False).text
        except httpx.HTTPError:
            return ""

    def paused(self, part: Part) -> AbstractContextManager[None]:
        return processes.held_still(self._processes(part))

    def recorded(self, part: Part, path: Path) -> AbstractContextManager[None]:
        jvm = next((process for process in self._processes(part) if process.name() == "java"), None)
        if jvm is None:
            raise ServiceError(
                f"no JVM of {part} runs in {self._environment}; `{self.command('status')}` shows what does"
            )
        return recorded(jvm.pid, path)

    @contextmanager
    def executor_room(self) -> Iterator[Mapping[str, str]]:
        spark = self.topology.spark_cluster
        cluster = [service.name for service in cluster_services(self._layout)]
        try:
            for name in cluster:
                self.start(name)
            yield {
                "CRM_SPARK__MASTER": spark.url,
                "CRM_SPARK__PROPERTIES_FILE": str(cluster_properties(self._layout)),
                "CRM_SPARK__EXECUTOR_MEMORY_MB": str(min(worker.memory_mb for worker in spark.workers)),
            }
        finally:
            for name in reversed(cluster):
                self.stop(name)

    def run(self, command: Sequence[str], settings: Mapping[str, str] | None = None, *, check: bool = True) -> Finished:
        return commands.run(command, settings or {}, check=check)

    def follow(self, command: Sequence[str]) -> int:
        return commands.follow(command)

    def begin(self, name: str, command: Sequence[str]) -> Running:
        return commands.Background(command, self._layout.logs / f"{name}.log")

    def kafka_tool(self, program: str) -> tuple[str, ...]:
        return (java(), _KAFKA_TOOL_HEAP, "-cp", f"{kafka_jars()}/*", program)

    def _pids(self) -> dict[str, int]:
        return {name: process.pid for name, process in Supervisor(self._layout).processes().items()}

    def _processes(self, part: Part) -> list[psutil.Process]:
        pids = self._pids()
        if part is Part.EXECUTORS:
            workers = [service.name for service in cluster_services(self._layout) if service.name != MASTER]
            return processes.executors(pids.get(name, 0) for name in workers)
        services = {Part.DRIVER: [STREAMING], Part.KAFKA: self.brokers, Part.OBJECT_STORE: [MINIO]}[part]
        return [process for name in services if pids.get(name) for process in processes.family(pids[name])]
