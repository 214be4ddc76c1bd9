"""A namespace of the cluster that the kubeconfig names: objects, pods, and what containers use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from data_platform_core.commands import call
from data_platform_core.errors import ServiceError
from data_platform_core.kubernetes.spark import API as SPARK_API
from platform_experiments.kubernetes import api_server
from platform_experiments.runtime import Process

_MB = 2**20
_NS = 1e-9
#: Where the API server has objects of a kind.
_GROUPS: Final = {
    "pods": "api/v1",
    "events": "api/v1",
    "nodes": "api/v1",
    "jobs": "apis/batch/v1",
    "sparkapplications": f"apis/{SPARK_API}",
}
Objects = dict[str, Any]


@dataclass(frozen=True)
class Cluster:
    """All methods raise ServiceError with the last words of kubectl or the API server."""

    namespace: str

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl prints, in the namespace."""
        return call(["kubectl", "--namespace", self.namespace, *arguments], stdin=stdin)

    def get(self, kind: str, labels: Mapping[str, str] | None = None) -> list[Objects]:
        """Objects of a kind with these labels."""
        chosen = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        found = api_server.read(self._path(kind), labelSelector=chosen)
        return list(found["items"]) if found else []

    def find(self, kind: str, name: str) -> Objects | None:
        """The object, or None when there is none."""
        found: Objects | None = api_server.read(f"{self._path(kind)}/{name}")
        return found

    def apply(self, *manifests: Objects) -> None:
        """Create the objects, or change those that are there."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def create(self, manifest: Objects) -> str:
        """Create an object whose manifest may leave its name to the server; returns the name."""
        return self.kubectl("create", "-f", "-", "-o", "jsonpath={.metadata.name}", stdin=yaml.safe_dump(manifest))

    def delete(self, kind: str, name: str, timeout_s: int = 180) -> None:
        """Delete it and wait until it and what it owns is gone. Repeatable."""
        self.kubectl(
            "delete", kind, name, "--ignore-not-found", "--cascade=foreground", "--wait", f"--timeout={timeout_s}s"
        )

    def log(self, pod: str) -> str:
        """What a pod has written so far; the reason instead where there is no log."""
        try:
            return api_server.read_text(f"{self._path('pods')}/{pod}/log") or f"there is no pod {pod}"
        except ServiceError as error:  # its container has not begun
            return str(error)

    def metrics(self, pod: Objects, port: int) -> str:
        """The text that a pod serves at /metrics, through the API server. Empty while it serves none."""
        try:
            return api_server.read_text(f"{self._path('pods')}/{pod['metadata']['name']}:{port}/proxy/metrics") or ""
        except ServiceError:
            return ""

    def processes(self, pods: Sequence[Objects]) -> list[Process]:
        """The containers of running pods, with the figures of their control groups as the kubelets report them."""
        running = [pod for pod in pods if is_running(pod)]
        figures = {
            (usage["podRef"]["uid"], container["name"]): container
            for node in {pod["spec"]["nodeName"] for pod in running}
            for usage in (api_server.read(f"/{_GROUPS['nodes']}/nodes/{node}/proxy/stats/summary") or {}).get(
                "pods", ()
            )
            for container in usage.get("containers", ())
        }
        return [process for pod in running for process in _described(pod, figures)]

    def _path(self, kind: str) -> str:
        return f"/{_GROUPS[kind]}/namespaces/{self.namespace}/{kind}"


def _described(pod: Objects, figures: Mapping[tuple[str, str], Objects]) -> Iterator[Process]:
    """A container that has just begun has no figures yet: it has used nothing."""
    uid = pod["metadata"]["uid"]
    for status in pod["status"].get("containerStatuses", ()):
        used = figures.get((uid, status["name"]), {})
        yield Process(
            id=f"{uid}/{status['name']}/{status['restartCount']}",
            program=status["name"],
            cpu_s=used.get("cpu", {}).get("usageCoreNanoSeconds", 0) * _NS,
            memory_mb=used.get("memory", {}).get("rssBytes", 0) / _MB,
            peak_mb=float("nan"),
        )


def is_running(pod: Objects) -> bool:
    """Whether its containers run and nobody has asked it to end."""
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def is_ready(pod: Objects) -> bool:
    """Whether it runs and its probes have succeeded."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return is_running(pod) and conditions.get("Ready") == "True"


def reason(pod: Objects) -> str:
    """Why a pod is not ready, in the kubelet's or the scheduler's words."""
    for status in pod["status"].get("containerStatuses", ()):
        for kind in ("waiting", "terminated"):
            if found := status["state"].get(kind):
                code = f" with {found['exitCode']}" if "exitCode" in found else ""
                return f"{found.get('reason', kind)}{code}: {found.get('message', '')}".strip(": ")
    for condition in pod["status"].get("conditions", ()):
        if condition["status"] == "False" and condition.get("message"):
            return str(condition["message"])
    return str(pod["status"].get("phase", "not scheduled"))
