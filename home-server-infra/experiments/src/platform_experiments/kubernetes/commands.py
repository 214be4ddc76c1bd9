"""Commands of an experiment as Jobs and SparkApplications of the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from data_platform_core.commands import last_words
from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until
from platform_experiments.kubernetes.cluster import Cluster, Objects, reason
from platform_experiments.runtime import Finished, Process

#: A pod that does not begin within this time never will: no room, no image, or no Secret.
_BEGIN_SECONDS = 180.0
_RUN_SECONDS = 3_600.0
_POLL_SECONDS = 1.0
#: The Job controller's own label of a Job's pods, and the operator's of an application's.
_JOB_LABEL = "batch.kubernetes.io/job-name"
APPLICATION_LABEL = "sparkoperator.k8s.io/app-name"
APPLICATIONS = "sparkapplications"
_SUCCEEDED, _ENDED = "COMPLETED", ("COMPLETED", "FAILED")


@dataclass(frozen=True)
class JobRun:
    """A Job of one pod (`Running`)."""

    cluster: Cluster
    name: str

    @property
    def place(self) -> str:
        return f"kubectl -n {self.cluster.namespace} logs job/{self.name}"

    def begun(self) -> JobRun:
        """Wait until its container has begun. Raises ServiceError with the cluster's reason why it has not."""

        def state() -> Objects:
            pods = self._pods()
            return pods[0] if pods else {"status": {"phase": self._without_pod()}}

        pod = ask_until(_has_begun, state, within_s=_BEGIN_SECONDS, every_s=_POLL_SECONDS)
        if not _has_begun(pod):
            raise ServiceError(f"job {self.name} did not begin in {_BEGIN_SECONDS:g} s: {reason(pod)}")
        return self

    def exit_code(self) -> int | None:
        pods = self._pods()
        if not pods:
            return None
        status = pods[0]["status"]
        for container in status.get("containerStatuses", ()):
            if ended := container["state"].get("terminated"):
                return int(ended["exitCode"])
        return 1 if status.get("phase") == "Failed" else None  # evicted, or its node is lost

    def output(self) -> str:
        pods = self._pods()
        return self.cluster.log(pods[0]["metadata"]["name"]) if pods else ""

    def processes(self) -> list[Process]:
        return self.cluster.processes(self._pods())

    def wait(self, timeout_s: float) -> int:
        code = ask_until(lambda found: found is not None, self.exit_code, within_s=timeout_s, every_s=_POLL_SECONDS)
        if code is None:
            raise ServiceError(f"job {self.name} did not end in {timeout_s:g} s; see `{self.place}`")
        return code

    def paused(self) -> AbstractContextManager[None]:
        raise ServiceError(f"job {self.name} can't be paused: nothing freezes a container of a cluster")

    def end(self) -> None:
        self.cluster.delete("jobs", self.name)

    def _pods(self) -> list[Objects]:
        return self.cluster.get("pods", {_JOB_LABEL: self.name})

    def _without_pod(self) -> str:
        """A quota that is used up keeps a Job from making its pod; only an event says so."""
        events = [event for event in self.cluster.get("events") if event["involvedObject"]["name"] == self.name]
        return str(events[-1]["message"]) if events else "no pod yet"


def run_job(cluster: Cluster, manifest: dict[str, Any], *, check: bool) -> Finished:
    """Run a Job to its end. Raises ServiceError with its last words when it fails and `check` is set."""
    job = JobRun(cluster, cluster.create(manifest)).begun()
    used = [0.0]

    def ended() -> bool:
        used[0] = max(used[0], sum(process.cpu_s for process in job.processes()))
        return job.exit_code() is not None

    if not ask_until(bool, ended, within_s=_RUN_SECONDS, every_s=_POLL_SECONDS):
        raise ServiceError(f"job {job.name} did not end in {_RUN_SECONDS:g} s; see `{job.place}`")
    code, output = job.wait(0), job.output()
    if code and check:
        raise ServiceError(f"job {job.name} ended with {code}: {last_words(output)}; see `{job.place}`")
    return Finished(code, output, used[0])


def run_application(cluster: Cluster, manifest: dict[str, Any], *, check: bool) -> Finished:
    """Run a SparkApplication to its end. Raises ServiceError as `run_job` does."""
    name, used = cluster.create(manifest), [0.0]

    def state() -> str:
        pods = cluster.get("pods", {APPLICATION_LABEL: name})
        used[0] = max(used[0], sum(process.cpu_s for process in cluster.processes(pods)))
        return application_state(cluster, name)

    last = ask_until(_ENDED.__contains__, state, within_s=_RUN_SECONDS, every_s=_POLL_SECONDS)
    output = cluster.log(f"{name}-driver")
    if last != _SUCCEEDED and check:
        raise ServiceError(f"application {name} is {last or 'not submitted'}: {last_words(output)}")
    return Finished(0 if last == _SUCCEEDED else 1, output, used[0])


def application_state(cluster: Cluster, name: str) -> str:
    """What the operator says of an application; empty before it has seen it."""
    found = cluster.find(APPLICATIONS, name) or {}
    return str(found.get("status", {}).get("applicationState", {}).get("state", ""))


def follow(job: JobRun, show: Callable[[str], None]) -> int:
    """Show a Job's output as it comes, to its end; its exit code."""
    shown = 0
    while True:
        code, lines = job.exit_code(), job.output().splitlines()
        for line in lines[shown:]:
            show(line)
        shown = len(lines)
        if code is not None:
            return code
        time.sleep(_POLL_SECONDS)


def _has_begun(pod: Objects) -> bool:
    return pod["status"].get("phase") in ("Running", "Succeeded", "Failed")
