"""What the chart `crm-platform` is given: values of each environment, and copies of the files it must hold itself.

Helm reads only files of a chart's own folder: rules and dashboards are copied there from home-server-infra/monitoring.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from data_platform_core.access.matrix import Matrix
from data_platform_core.access.names import kubernetes_name
from data_platform_core.jobs import SETUP, Job, Kind
from data_platform_core.kubernetes import names, pods, spark
from data_platform_core.kubernetes.services import Service, api_server, kubernetes_of, secret_variables, services
from data_platform_core.kubernetes.text import generated, manifest
from data_platform_core.paths import REPOSITORY_ROOT, TOPOLOGY_DIR
from data_platform_core.settings import known_variables
from data_platform_core.topology import Address, Topology

CHART_DIR: Final[Path] = REPOSITORY_ROOT / "helm" / "charts" / "crm-platform"
#: Values for other people's charts.
VALUES_DIR: Final[Path] = REPOSITORY_ROOT / "helm" / "values"
_MONITORING: Final = REPOSITORY_ROOT / "home-server-infra" / "monitoring"
#: What is copied, by its folder there.
_COPIED: Final = {"rules": "*.yaml", "dashboards": "*.json"}
#: The job that writes rules to Kafka.
_RULES: Final = "acls"
#: Spark's own label of a driver's pod.
_DRIVER: Final = {"spark-role": "driver"}


def chart_files(topologies: Iterable[Topology], matrix: Matrix, jobs: Iterable[Job]) -> dict[Path, str]:
    """Every generated file of the chart, and what other people's charts are told of an environment."""
    jobs, topologies = tuple(jobs), tuple(topologies)
    files = {
        CHART_DIR / "environments" / f"{topology.environment}.yaml": generated(values(topology, matrix, jobs))
        for topology in topologies
    }
    for topology in topologies:
        operator = {"spark": {"jobNamespaces": [kubernetes_of(topology).namespace]}}
        files[VALUES_DIR / topology.environment / "spark-operator.yaml"] = generated(operator)
    for folder, pattern in _COPIED.items():
        for path in sorted((_MONITORING / folder).glob(pattern)):
            text = path.read_text(encoding="utf-8")
            # JSON knows no comments; the chart's README says where dashboards come from.
            head = "" if path.suffix == ".json" else f"# GENERATED from home-server-infra/monitoring/{folder}.\n"
            files[CHART_DIR / "files" / folder / path.name] = head + text
    return files


def values(topology: Topology, matrix: Matrix, jobs: Iterable[Job]) -> dict[str, Any]:
    """The values of one environment: facts that no person types into a values file."""
    jobs, kubernetes = tuple(jobs), kubernetes_of(topology)
    accounts = services(topology, matrix, jobs)
    server = api_server(kubernetes)
    return {
        "platform": {
            "environment": topology.environment,
            "namespace": kubernetes.namespace,
            "labels": {**names.PART_OF, names.ENVIRONMENT_LABEL: topology.environment},
            "serviceLabel": names.SERVICE_LABEL,
            "image": names.image(kubernetes, Kind.PROCESS),
            "imagePullPolicy": kubernetes.images.pull,
            "podSecurityContext": pods.pod_security(),
            "securityContext": pods.container_security(),
            "priorityClasses": {"service": names.SERVICE_PRIORITY, "job": names.JOB_PRIORITY},
            "topology": {"name": names.TOPOLOGY, "files": _topology_files(topology)},
            "knownSettings": sorted(known_variables()),
            "services": {name: _service(each, jobs) for name, each in accounts.items()},
            "jobs": {
                job.name: {
                    "service": job.service,
                    "command": list(job.without_run(topology.environment)),
                    "takesRunId": job.takes_run_id,
                }
                for job in jobs
                if job.kind is Kind.PROCESS
            },
            # Without security Kafka has no rules, and the job says so by failing.
            "setup": [name for name in SETUP if name != _RULES or topology.kafka.security],
            "schedules": {name: when for name, when in kubernetes.schedules.items() if name in _processes(jobs)},
            "apiServer": _call(server),
            "monitoring": _monitoring(topology),
            "executorsMin": kubernetes.spark[spark.STREAM].executors_min,
            "stream": spark.STREAM,
        }
    }


def _monitoring(topology: Topology) -> dict[str, Any]:
    """Who may scrape, and how often: the cluster's own Prometheus, and the machines' where there is one."""
    prometheus, interval = topology.monitoring.prometheus, topology.monitoring.scrape.pipeline_seconds
    return {
        "namespace": kubernetes_of(topology).monitoring_namespace,
        "interval": f"{round(interval * 1000)}ms",
        **({} if prometheus.is_loopback else {"prometheus": _block(prometheus.host)}),
    }


def _processes(jobs: tuple[Job, ...]) -> set[str]:
    return {job.name for job in jobs if job.kind is Kind.PROCESS}


def _service(service: Service, jobs: tuple[Job, ...]) -> dict[str, Any]:
    return {
        "account": kubernetes_name(service.name),
        "settings": dict(service.settings),
        "secretKeys": list(service.secrets),
        "env": secret_variables(service),
        "volumes": pods.volumes(service),
        "volumeMounts": pods.mounts(service),
        "calls": [_call(address) for address in service.calls],
        "drivesSpark": service.drives_spark,
        **({"endpoint": _endpoint(service, jobs)} if service.metrics_port else {}),
    }


def _endpoint(service: Service, jobs: tuple[Job, ...]) -> dict[str, Any]:
    """Which pods serve its metrics: of Spark's, the driver that runs until it is stopped."""
    streams = any(job.name == spark.STREAM and job.service == service.name for job in jobs)
    chosen = {"app.kubernetes.io/name": spark.STREAM, **_DRIVER} if streams else {}
    return {"port": service.metrics_port, "selector": {names.SERVICE_LABEL: service.name, **chosen}}


def _call(address: Address) -> dict[str, Any]:
    return {"cidr": _block(address.host), "port": address.port}


def _block(host: str) -> str:
    """`host` as a network policy names it; a name, which policies don't know, may be anywhere."""
    try:
        return f"{ipaddress.IPv4Address(host)}/32"
    except ValueError:
        return "0.0.0.0/0"


def _topology_files(topology: Topology) -> dict[str, str]:
    """The files that the environment's topology is read from: its own, and those that it extends.

    Where pods reach services at other addresses than this machine does, a single file with those.
    """
    if topology.pods is None:
        return _files_as_written(topology.environment)
    keys = topology.model_dump(mode="json", exclude={"environment", "data_path", "pods"}, exclude_none=True)
    return {f"{topology.environment}.yaml": manifest(keys)}


def _files_as_written(environment: str) -> dict[str, str]:
    keys = yaml.safe_load((TOPOLOGY_DIR / f"{environment}.yaml").read_text(encoding="utf-8"))
    parent = keys.get("extends")
    return {f"{environment}.yaml": manifest(keys), **(_files_as_written(parent) if parent else {})}
