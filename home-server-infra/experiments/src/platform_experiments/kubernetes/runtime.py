"""`Runtime` over Kubernetes: the stream is a SparkApplication, commands are Jobs, the platform is a chart's release.

The stores stay outside of the cluster. Where the topology has a section `pods` they are the embedded stack beside the
cluster; experiments, which begin with empty stores, run there only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, NoReturn

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import STREAMING
from data_platform_core.commands import call, last_words
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.jobs import BATCH, Job, Kind, job, load_jobs
from data_platform_core.kubernetes import names, once, spark
from data_platform_core.kubernetes.applications import APPLICATIONS_DIR
from data_platform_core.kubernetes.chart import CHART_DIR
from data_platform_core.kubernetes.secrets import secrets_text
from data_platform_core.kubernetes.services import Service, kubernetes_of, services
from data_platform_core.topology import load_topology
from data_platform_core.waiting import ask_until
from platform_experiments.embedded import EmbeddedRuntime
from platform_experiments.kubernetes import commands
from platform_experiments.kubernetes.cluster import Cluster, Objects, is_ready, is_running, reason
from platform_experiments.runtime import Alerting, Finished, Part, Process, Progress, Running, Wish

#: The release of the platform's chart, as `make deploy` calls it.
RELEASE: Final = "crm"
_HELM_SECONDS = 900
#: A driver's start on a machine that also runs the stores, the cluster and its executors.
_START_SECONDS = 900.0
_STOP_SECONDS = 180.0
_POLL_SECONDS = 1.0
#: Jobs that run in the cluster. The others (reconcile, drain) write files for the experiment and run beside it.
_IN_CLUSTER = ("generate-normal", "generate-spike", "generate-backfill", *BATCH)
#: Spark's label of a pod's role.
_ROLE: Final = "spark-role"
_ROLES: Final = {Part.DRIVER: "driver", Part.EXECUTORS: "executor"}
#: Values of a release during an experiment: nothing sends, builds or watches but what the experiment starts.
_QUIET_VALUES: Final = ("generator.normal.replicas=0", "marts.enabled=false", "monitoring.enabled=false")


class KubernetesRuntime:
    """One environment on the cluster of the kubeconfig. Raises ConfigurationError when it has none."""

    def __init__(self, environment: str) -> None:
        self.topology = load_topology(environment)
        self._environment = environment
        self._kubernetes = kubernetes_of(self.topology)
        if self.topology.pods is None:
            raise ConfigurationError(
                f"environment {environment} keeps its data on machines, and an experiment begins by deleting all data; "
                "run it where the stores are the embedded stack, as in k8s-lab"
            )
        self._stores = EmbeddedRuntime(environment)
        self._cluster = Cluster(self._kubernetes.namespace)
        self._services = services(self.topology, load_matrix(), load_jobs().values())

    @property
    def spark_cluster(self) -> str:
        return "Kubernetes, by Spark's operator"

    @property
    def folder(self) -> Path:
        return self._stores.folder

    @property
    def brokers(self) -> Sequence[str]:
        return self._stores.brokers

    @property
    def alerting(self) -> Alerting:
        self._refuse("following alerts")

    def command(self, wish: Wish, **variables: str) -> str:
        in_namespace = f"kubectl -n {self._kubernetes.namespace}"
        if wish == "logs" and variables.get("SERVICE") == STREAMING:
            return f"{in_namespace} logs {spark.STREAM}-driver"
        if wish == "status":
            return f"{in_namespace} get sparkapplications,pods"
        return self._stores.command(wish, **variables)

    def up(self, progress: Progress | None = None, *, room_for: Sequence[str] = ()) -> None:
        self._stores.up(progress, room_for=room_for)
        self._cluster.kubectl("apply", "-f", "-", stdin=secrets_text(self.topology))
        values = ("--values", str(CHART_DIR / "environments" / f"{self._environment}.yaml"))
        call([
            "helm", "upgrade", "--install", RELEASE, str(CHART_DIR), "--namespace", self._kubernetes.namespace, *values,
            *(part for value in _QUIET_VALUES for part in ("--set", value)), "--wait", f"--timeout={_HELM_SECONDS}s",
        ])  # fmt: skip

    def down(self) -> None:
        self.stop(STREAMING)
        # Also what runs by a schedule: in an experiment nothing loads but what the experiment starts.
        overlay = APPLICATIONS_DIR / "overlays" / self._environment
        self._cluster.kubectl("delete", "-k", str(overlay), "--ignore-not-found", "--wait")
        call(["helm", "uninstall", RELEASE, "--namespace", self._kubernetes.namespace, "--ignore-not-found", "--wait"])
        self._stores.down()

    def clean(self) -> None:
        self._stores.clean()

    def start(self, service: str, settings: Mapping[str, str] | None = None) -> None:
        if service != STREAMING:
            self._stores.start(service, settings)
            return
        self.stop(STREAMING)
        self.change(settings or {})
        self.wait_for_driver("")

    def change(self, settings: Mapping[str, str]) -> None:
        """Apply the stream's manifest under `settings`; the operator replaces a driver that runs under others."""
        found = job(spark.STREAM)
        self._cluster.apply(spark.under_settings(found, self.topology, self._service(found), settings))

    def wait_for_driver(self, previous: str, within_s: float = _START_SECONDS) -> None:
        """Until a driver other than the instance `previous` is ready. Raises ServiceError with the reason why not."""

        def ready() -> bool:
            return self.instance(STREAMING) not in ("", previous) and any(map(is_ready, self._pods(Part.DRIVER)))

        if not ask_until(bool, ready, within_s=within_s, every_s=_POLL_SECONDS):
            state = commands.application_state(self._cluster, spark.STREAM) or "not submitted"
            why = "; ".join(reason(pod) for pod in self._pods(Part.DRIVER)) or "no driver's pod"
            logs = self.command("logs", SERVICE=STREAMING)
            raise ServiceError(f"the streaming driver is not ready after {within_s:g} s: {state}, {why}; see `{logs}`")

    def stop(self, service: str) -> None:
        if service != STREAMING:
            self._stores.stop(service)
            return
        self._cluster.delete(commands.APPLICATIONS, spark.STREAM)
        gone = ask_until(
            bool,
            lambda: not (self._pods(Part.DRIVER) or self._pods(Part.EXECUTORS)),
            within_s=_STOP_SECONDS,
            every_s=_POLL_SECONDS,
        )
        if not gone:
            raise ServiceError(
                f"pods of {spark.STREAM} are left {_STOP_SECONDS:g} s after its end; delete them by hand"
            )

    def kill(self, service: str) -> None:
        if service != STREAMING:
            self._stores.kill(service)
            return
        self.kill_pod(Part.DRIVER)

    def kill_pod(self, part: Part) -> str:
        """Delete the first pod of a part without grace; its name. Raises ServiceError when there is none."""
        running = [pod for pod in self._pods(part) if is_running(pod)]
        if not running:
            raise ServiceError(f"no pod of {part} runs; `{self.command('status')}` shows what does")
        name = str(running[0]["metadata"]["name"])
        self._cluster.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
        return name

    def start_second(self) -> str:
        """Start a second application of the stream beside the first; what it says when it ends, as it must."""
        found = job(spark.STREAM)
        second = spark.under_settings(found, self.topology, self._service(found), {})
        name = f"{spark.STREAM}-second"
        second["metadata"]["name"] = name
        second["spec"]["restartPolicy"] = {"type": "Never"}
        self._cluster.apply(second)
        try:
            state = ask_until(
                lambda now: now in ("FAILED", "COMPLETED"),
                lambda: commands.application_state(self._cluster, name),
                within_s=_START_SECONDS,
                every_s=_POLL_SECONDS,
            )
            if state != "FAILED":
                raise ServiceError(
                    f"application {name} is {state or 'not submitted'} beside {spark.STREAM}; it must fail"
                )
            return last_words(self._cluster.log(f"{name}-driver"))
        finally:
            self._cluster.delete(commands.APPLICATIONS, name)

    def restart_operator(self) -> str:
        """Delete the pods of Spark's operator without grace, and wait for others; the name of its deployment."""
        deployment, namespace = "spark-operator-controller", ("--namespace", self._kubernetes.operator_namespace)
        labels = "app.kubernetes.io/name=spark-operator,app.kubernetes.io/component=controller"
        self._cluster.kubectl(*namespace, "delete", "pods", "-l", labels, "--grace-period=0", "--force")
        self._cluster.kubectl(*namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=180s")
        return deployment

    def instance(self, service: str) -> str:
        if service != STREAMING:
            return self._stores.instance(service)
        running = [pod for pod in self._pods(Part.DRIVER) if is_running(pod)]
        if not running:
            return ""
        restarts = sum(status["restartCount"] for status in running[0]["status"].get("containerStatuses", ()))
        return f"{running[0]['metadata']['uid']}/{restarts}"

    def problems(self) -> dict[str, str]:
        pods = [*self._pods(Part.DRIVER), *self._pods(Part.EXECUTORS)]
        found = {pod["metadata"]["name"]: reason(pod) for pod in pods if not is_ready(pod)}
        return {**self._stores.problems(), **found}

    def processes(self, part: Part) -> list[Process]:
        return self._cluster.processes(self._pods(part)) if part in _ROLES else self._stores.processes(part)

    def metrics(self, service: str) -> str:
        endpoint = self._services[service].metrics_port
        pods = [pod for pod in self._cluster.get("pods", {names.SERVICE_LABEL: service}) if is_running(pod)]
        serving = [pod for pod in pods if pod["metadata"]["labels"].get(_ROLE) != _ROLES[Part.EXECUTORS]]
        return self._cluster.metrics(serving[0], endpoint) if serving and endpoint else ""

    def paused(self, part: Part) -> AbstractContextManager[None]:
        if part in _ROLES:
            self._refuse(f"pausing {part}")
        return self._stores.paused(part)

    def recorded(self, part: Part, path: Path) -> AbstractContextManager[None]:
        self._refuse(f"a flight recording of {part} into {path}")

    @contextmanager
    def executor_room(self) -> Iterator[Mapping[str, str]]:
        yield {}

    def run(self, command: Sequence[str], settings: Mapping[str, str] | None = None, *, check: bool = True) -> Finished:
        found = self.catalogued(command)
        if found is None or settings:
            return self._stores.run(command, settings, check=check)
        if found.kind is Kind.SPARK:
            manifest = spark.once(found, self.topology, self._service(found))
            return commands.run_application(self._cluster, manifest, check=check)
        return commands.run_job(self._cluster, self.manifest(found, command), check=check)

    def follow(self, command: Sequence[str]) -> int:
        found = self.catalogued(command)
        if found is None or found.kind is Kind.SPARK:
            return self._stores.follow(command)
        running = commands.JobRun(self._cluster, self._cluster.create(self.manifest(found, command))).begun()
        return commands.follow(running, lambda line: print(line, file=sys.stdout, flush=True))

    def begin(self, name: str, command: Sequence[str]) -> Running:
        found = self.catalogued(command)
        if found is None:
            return self._stores.begin(name, command)
        manifest = self.manifest(found, command)
        manifest["metadata"]["generateName"] = f"{name}-"
        return commands.JobRun(self._cluster, self._cluster.create(manifest)).begun()

    def kafka_tool(self, program: str) -> tuple[str, ...]:
        return self._stores.kafka_tool(program)

    def catalogued(self, command: Sequence[str]) -> Job | None:
        """The job of the catalogue that `command` runs in the cluster; None for a command of this machine."""
        for name in _IN_CLUSTER:
            beginning = job(name).without_run(self._environment)
            if tuple(command[: len(beginning)]) == beginning:
                return job(name)
        return None

    def manifest(self, found: Job, command: Sequence[str]) -> Objects:
        """The Job that runs `command`, as `found` of the catalogue with options."""
        return once.process(found, self.topology, self._service(found), command)

    def _service(self, found: Job) -> Service:
        return self._services[found.service]

    def _pods(self, part: Part) -> list[Objects]:
        """Pods of the stream; those that have ended are left out."""
        labels = {_ROLE: _ROLES[part], commands.APPLICATION_LABEL: spark.STREAM}
        ended = ("Succeeded", "Failed")
        return [pod for pod in self._cluster.get("pods", labels) if pod["status"].get("phase") not in ended]

    def _refuse(self, what: str) -> NoReturn:
        raise ServiceError(f"{what} is not possible on Kubernetes yet; run this experiment on the embedded stack")
