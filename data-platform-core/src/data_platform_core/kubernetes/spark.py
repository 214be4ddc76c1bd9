"""SparkApplications: a Spark job of the catalogue as the operator's resource.

A base says what every environment shares, an overlay what its topology decides. The driver runs the job's own command,
with settings of the same names as on a laptop; Spark's submission only decides where executors come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from data_platform_core.access.names import kubernetes_name
from data_platform_core.elasticity import dynamic_allocation
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import Job, Kind
from data_platform_core.kubernetes import names, pods
from data_platform_core.kubernetes.services import Service, kubernetes_of, secret_variables, variable
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import Topology
from data_platform_core.topology.cluster import SparkPods
from data_platform_core.yaml_files import merged

API: Final = "sparkoperator.k8s.io/v1beta2"
#: The one job that runs until it is stopped; the others end.
STREAM: Final = "ingest"
_BOUNDS = REPOSITORY_ROOT / "requirements" / "constraints.txt"

#: Seconds between two starts of a driver, times the starts so far: Spark's operator backs off linearly, and counts from
#: the last start, so that a driver which ran for long is started at once.
_RETRY_S: Final = 5
#: Times that a job which ends is tried in all, beside its first: an outage is waited for inside the job (ADR 0018).
_RETRIES: Final = 2
#: A batch, its commits and the lease: the time that a driver has to end cleanly, seconds.
_DRIVER_GRACE_S: Final = 90
#: An executor that is taken away hands its blocks to others, seconds.
_EXECUTOR_GRACE_S: Final = 60
#: Finished applications are kept for people to look at, seconds.
_KEPT_S: Final = 86_400
_HISTORY: Final = 3
#: From the start of Spark's JVM to its first batch, on a machine that does other things too, seconds.
_START_S: Final = 600
_PROBE_S: Final = 10
#: Names that Spark's operator and Spark give the containers.
_DRIVER_CONTAINER: Final = "spark-kubernetes-driver"
_EXECUTOR_CONTAINER: Final = "spark-kubernetes-executor"
#: Keys of `spec.dynamicAllocation`, which therefore are not in `sparkConf` a second time.
_ALLOCATION_FIELDS: Final = ("enabled", "minExecutors", "maxExecutors", "shuffleTracking.enabled")


def spark_version() -> str:
    """The version of Spark that images have. Raises ConfigurationError when the bound is no single version."""
    found = re.search(r"^pyspark==(\S+)", _BOUNDS.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ConfigurationError(f"{_BOUNDS} has no line `pyspark==<version>`; SparkApplications take it from there")
    return found.group(1)


def application(job: Job) -> dict[str, Any]:
    """The SparkApplication of `job` as far as it is the same in every environment."""
    return {
        "apiVersion": API,
        "kind": "SparkApplication",
        "metadata": {"name": job.name, "labels": names.labels(job)},
        "spec": _base_spec(job),
    }


def scheduled(job: Job) -> dict[str, Any]:
    """The same on a schedule: never two at a time."""
    return {
        "apiVersion": API,
        "kind": "ScheduledSparkApplication",
        "metadata": {"name": job.name, "labels": names.labels(job)},
        "spec": {
            "concurrencyPolicy": "Forbid",
            "successfulRunHistoryLimit": _HISTORY,
            "failedRunHistoryLimit": _HISTORY,
            "timeZone": "UTC",
            "template": _base_spec(job),
        },
    }


def patch(job: Job, topology: Topology, service: Service, run_id: str | None = None) -> dict[str, Any]:
    """What an environment adds to `application`. Raises ConfigurationError when its topology has no size for it."""
    return _of(application(job)) | {"spec": _environment_spec(job, topology, service, run_id)}


def scheduled_patch(job: Job, topology: Topology, service: Service) -> dict[str, Any]:
    """What an environment adds to `scheduled`."""
    spec = {
        "schedule": kubernetes_of(topology).schedules[job.name],
        "template": _environment_spec(job, topology, service, None),
    }
    return _of(scheduled(job)) | {"spec": spec}


def once(
    job: Job, topology: Topology, service: Service, run_id: str | None = None, options: Sequence[str] = ()
) -> dict[str, Any]:
    """A whole SparkApplication that runs `job` one time, with further `options`, for `kubectl create`."""
    whole = _whole(job, topology, service, run_id)
    whole["spec"]["arguments"] += options
    whole["metadata"]["generateName"] = f"{whole['metadata'].pop('name')}-"
    return whole


def under_settings(job: Job, topology: Topology, service: Service, settings: Mapping[str, str]) -> dict[str, Any]:
    """The whole SparkApplication of `job` with other settings (variables of its environment), for an experiment.

    Settings about executors become what the operator is asked for: on a cluster it decides about them, not the job.
    """
    whole, rest = _whole(job, topology, service), dict(settings)
    spec = whole["spec"]
    if executors := rest.pop(variable("spark", "executors_max"), None):
        allocation = spec["dynamicAllocation"]
        allocation["maxExecutors"] = int(executors)
        allocation["minExecutors"] = min(allocation["minExecutors"], int(executors))
        allocation["initialExecutors"] = allocation["minExecutors"]
    if slots := rest.pop(variable("spark", "executor_cores"), None):
        spec["executor"]["cores"] = int(slots)
    spec["driver"]["env"] += [{"name": name, "value": value} for name, value in rest.items()]
    return whole


def _whole(job: Job, topology: Topology, service: Service, run_id: str | None = None) -> dict[str, Any]:
    # Kustomize patches a kind that it does not know in the same way.
    whole = merged(application(job), patch(job, topology, service, run_id))
    whole["metadata"]["namespace"] = kubernetes_of(topology).namespace
    whole["metadata"]["labels"] |= {names.ENVIRONMENT_LABEL: topology.environment}
    return whole


def _of(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a patch must name of the manifest that it changes."""
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": manifest["metadata"]["name"]},
    }


def _base_spec(job: Job) -> dict[str, Any]:
    program = job.command[0]
    return {
        "type": "Python",
        "pythonVersion": "3",
        "mode": "cluster",
        "sparkVersion": spark_version(),
        "mainApplicationFile": f"local://{names.PROGRAMS}/{program}.py",
        **_restarts(job),
        "sparkConf": {
            # An executor that must go moves what it holds to others first.
            "spark.decommission.enabled": "true",
            "spark.storage.decommission.enabled": "true",
            "spark.storage.decommission.rddBlocks.enabled": "true",
            "spark.storage.decommission.shuffleBlocks.enabled": "true",
            "spark.kubernetes.decommission.script": f"{names.PROGRAMS}/decommission.sh",
        },
        "driver": {
            "cores": 1,
            "serviceAccount": kubernetes_name(job.service),
            "priorityClassName": names.DRIVER_PRIORITY,
            "labels": names.labels(job),
            "envFrom": [{"configMapRef": {"name": kubernetes_name(job.service)}}],
            "securityContext": pods.container_security(),
            "podSecurityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": _DRIVER_GRACE_S,
        },
        "executor": {
            "serviceAccount": names.EXECUTOR_ACCOUNT,
            "priorityClassName": names.EXECUTOR_PRIORITY,
            "labels": names.labels(job),
            "deleteOnTermination": True,
            "securityContext": pods.container_security(),
            "podSecurityContext": pods.pod_security(),
            "terminationGracePeriodSeconds": _EXECUTOR_GRACE_S,
            "template": {
                "spec": {"automountServiceAccountToken": False, "containers": [{"name": _EXECUTOR_CONTAINER}]}
            },
        },
    }


def _restarts(job: Job) -> dict[str, Any]:
    if job.name == STREAM:
        return {
            "restartPolicy": {
                "type": "Always",
                "onFailureRetryInterval": _RETRY_S,
                "onSubmissionFailureRetryInterval": _RETRY_S,
            }
        }
    return {
        "restartPolicy": {
            "type": "OnFailure",
            "onFailureRetries": _RETRIES,
            "onFailureRetryInterval": _RETRY_S,
            "onSubmissionFailureRetries": _RETRIES,
            "onSubmissionFailureRetryInterval": _RETRY_S,
        },
        "timeToLiveSeconds": _KEPT_S,
    }


def _environment_spec(job: Job, topology: Topology, service: Service, run_id: str | None) -> dict[str, Any]:
    kubernetes, size = kubernetes_of(topology), _size(job, topology)
    _program, *arguments = job.in_environment(topology.environment, run_id=run_id)
    marked = {"labels": {names.ENVIRONMENT_LABEL: topology.environment}}
    return {
        "image": names.image(kubernetes, Kind.SPARK),
        "imagePullPolicy": kubernetes.images.pull,
        "arguments": arguments,
        "volumes": pods.volumes(service),
        **_allocation(size),
        "driver": {
            **marked,
            "memory": f"{size.driver_memory_mb}m",
            "memoryOverhead": f"{size.driver_overhead_mb}m",
            "coreRequest": f"{size.driver_cpu_m}m",
            "env": [
                # The heap as the job itself knows it: its JVM gets that much.
                {"name": variable("spark", "driver_memory_mb"), "value": str(size.driver_memory_mb)},
                *secret_variables(service),
            ],
            "volumeMounts": pods.mounts(service),
            **_endpoint(job, service),
        },
        "executor": {
            **marked,
            "instances": size.executors_min,
            "cores": size.executor_slots,
            "memory": f"{size.executor_memory_mb}m",
            "memoryOverhead": f"{size.executor_overhead_mb}m",
            "coreRequest": f"{size.executor_cpu_m}m",
            "volumeMounts": pods.mounts(service),
        },
    }


def _size(job: Job, topology: Topology) -> SparkPods:
    sizes = kubernetes_of(topology).spark
    if job.name not in sizes:
        raise ConfigurationError(
            f"topology {topology.environment}: kubernetes.spark has no sizes for job {job.name}; add them "
            f"(it has: {', '.join(sorted(sizes))})"
        )
    return sizes[job.name]


def _allocation(size: SparkPods) -> dict[str, Any]:
    conf = dynamic_allocation(size.executors_min, size.executors_max)
    as_fields = {f"spark.dynamicAllocation.{key}" for key in _ALLOCATION_FIELDS}
    return {
        "dynamicAllocation": {
            "enabled": True,
            "initialExecutors": size.executors_min,
            "minExecutors": size.executors_min,
            "maxExecutors": size.executors_max,
            "shuffleTrackingEnabled": True,
        },
        "sparkConf": {key: value for key, value in conf.items() if key not in as_fields},
    }


def _endpoint(job: Job, service: Service) -> dict[str, Any]:
    """Metrics, and the probes beside them, of the job that serves them.

    No readiness probe: the driver's Service gives its address to executors only once it is ready, and it needs them to
    get there.
    """
    if job.name != STREAM or service.metrics_port is None:
        return {}
    port = service.metrics_port
    return {
        "ports": [{"name": "metrics", "containerPort": port, "protocol": "TCP"}],
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": _DRIVER_CONTAINER,
                        "startupProbe": _probe("/healthz", port, failures=_START_S // _PROBE_S),
                        "livenessProbe": _probe("/healthz", port, failures=3),
                    }
                ]
            }
        },
    }


def _probe(path: str, port: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": _PROBE_S,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
