"""A job that runs one time: a SparkApplication or a Job, as `kubectl create` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import kubernetes_name
from data_platform_core.jobs import Job, Kind, job, load_jobs
from data_platform_core.kubernetes import names, pods, spark
from data_platform_core.kubernetes.services import Service, kubernetes_of, secret_variables, services
from data_platform_core.kubernetes.text import manifest
from data_platform_core.topology import Topology

#: Finished jobs are kept for people to look at, seconds.
_KEPT_S: Final = 86_400


def manifest_text(name: str, topology: Topology, run_id: str | None = None, options: Sequence[str] = ()) -> str:
    """YAML of what runs the job `name` once, with further `options`.

    Raises ConfigurationError as the catalogue and the topology do.
    """
    found = job(name)
    service = services(topology, load_matrix(), load_jobs().values())[found.service]
    if found.kind is Kind.SPARK:
        return manifest(spark.once(found, topology, service, run_id, options))
    command = found.in_environment(topology.environment, *options, run_id=run_id)
    return manifest(process(found, topology, service, command))


def process(found: Job, topology: Topology, service: Service, command: Sequence[str]) -> dict[str, Any]:
    """A Job that runs `command`, which is the catalogue's with options, as the job's service."""
    kubernetes = kubernetes_of(topology)
    labels = names.labels(found) | {names.ENVIRONMENT_LABEL: topology.environment}
    container = {
        "name": found.name,
        "image": names.image(kubernetes, Kind.PROCESS),
        "imagePullPolicy": kubernetes.images.pull,
        "args": list(command),
        "envFrom": [{"configMapRef": {"name": kubernetes_name(found.service)}}],
        "env": secret_variables(service),
        "resources": _RESOURCES,
        "securityContext": pods.container_security(),
        "volumeMounts": pods.mounts(service),
    }
    pod = {
        "serviceAccountName": kubernetes_name(found.service),
        "automountServiceAccountToken": False,
        "priorityClassName": names.JOB_PRIORITY,
        "restartPolicy": "Never",
        "securityContext": pods.pod_security(),
        "containers": [container],
        "volumes": pods.volumes(service),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": f"{found.name}-", "namespace": kubernetes.namespace, "labels": labels},
        "spec": {
            # A failure is one line for a person to read: repeating it would hide it.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": _KEPT_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


#: Of a job's pod: reading a run back is what takes memory.
_RESOURCES: Final = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
