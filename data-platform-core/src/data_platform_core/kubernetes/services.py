"""What a pod of a service gets, whichever job it runs: settings, secrets, and whom it may call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from data_platform_core.access.matrix import Matrix
from data_platform_core.access.names import access_key, kubernetes_name, role
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import Job, Kind, System
from data_platform_core.kubernetes import names
from data_platform_core.paths import HOME_VARIABLE, STATE_VARIABLE
from data_platform_core.settings import ENV_NESTING, ENV_PREFIX
from data_platform_core.topology import Address, Endpoint, Topology
from data_platform_core.topology.cluster import API_PORT, Kubernetes


@dataclass(frozen=True)
class Service:
    """`settings`: its ConfigMap; `secrets`: keys of its Secret; `calls`: the addresses that its jobs need.

    `metrics_port` None: it serves none. `drives_spark`: it makes pods of executors, so it calls the API server.
    """

    name: str
    settings: Mapping[str, str]
    secrets: tuple[str, ...]
    calls: tuple[Address, ...]
    metrics_port: int | None
    drives_spark: bool

    @property
    def trusts_authority(self) -> bool:
        """Whether it checks certificates against the installation's own authority."""
        return variable("kafka", "ca_file") in self.settings


def variable(group: str, name: str) -> str:
    """`CRM_POSTGRES__USER` for ("postgres", "user")."""
    return f"{ENV_PREFIX}{group}{ENV_NESTING}{name}".upper()


#: Spark takes master, executors and scratch space from what the operator submits.
_MASTER: Final = variable("spark", "master")


def kubernetes_of(topology: Topology) -> Kubernetes:
    """Its section. Raises ConfigurationError where there is no cluster."""
    if topology.kubernetes is None:
        raise ConfigurationError(
            f"topology {topology.environment} has no section kubernetes, so nothing of it runs there; add one, or give "
            "an environment that has it, as home"
        )
    return topology.kubernetes


def services(topology: Topology, matrix: Matrix, jobs: Iterable[Job]) -> dict[str, Service]:
    """Every service that a job runs as, in the order of the catalogue."""
    of_service: dict[str, list[Job]] = {}
    for job in jobs:
        of_service.setdefault(job.service, []).append(job)
    return {name: _service(name, theirs, topology, matrix) for name, theirs in of_service.items()}


def _service(name: str, jobs: list[Job], topology: Topology, matrix: Matrix) -> Service:
    access, metrics = matrix.require(name), topology.metrics.of(name)
    drives_spark = any(job.kind is Kind.SPARK for job in jobs)
    settings = {
        HOME_VARIABLE: names.HOME,
        STATE_VARIABLE: names.STATE,
        f"{ENV_PREFIX}ENVIRONMENT": topology.environment,
    }
    secrets: list[str] = []
    if topology.kafka.security and access.kafka:
        settings[variable("kafka", "ca_file")] = f"{names.PKI}/{names.AUTHORITY_KEY}"
        secrets.append(variable("kafka", "password"))
    if access.object_store:
        settings[variable("object_store", "access_key")] = access_key(name)
        secrets.append(variable("object_store", "secret_key"))
    if access.postgres:
        settings[variable("postgres", "user")] = role(name)
        secrets.append(variable("postgres", "password"))
    if drives_spark:
        settings[_MASTER] = ""
    needs = {system for job in jobs for system in job.needs}
    return Service(
        name=name,
        settings=settings,
        secrets=tuple(secrets),
        calls=tuple(each for system in sorted(needs) for each in _addresses(system, topology)),
        metrics_port=metrics.port if metrics else None,
        drives_spark=drives_spark,
    )


def api_server(kubernetes: Kubernetes) -> Address:
    """Where drivers ask for executors."""
    return Address(host=kubernetes.api_server.host, port=API_PORT)


def _addresses(system: System, topology: Topology) -> tuple[Address, ...]:
    monitoring = topology.monitoring
    found: dict[System, tuple[Address, ...]] = {
        System.KAFKA: topology.kafka.brokers,
        System.REGISTRY: (topology.schema_registry,),
        System.OBJECT_STORE: (topology.object_store,),
        System.POSTGRES: (topology.postgres,),
        System.PROMETHEUS: _from_pods(monitoring.prometheus),
        System.ALERTMANAGER: _from_pods(monitoring.alertmanager),
    }
    return found[system]


def _from_pods(endpoint: Endpoint) -> tuple[Address, ...]:
    """None for a server on a machine's loopback: no pod reaches that, and its own is another one."""
    return () if endpoint.is_loopback else (endpoint,)


def secret_variables(service: Service) -> list[dict[str, Any]]:
    """The container's `env` from the service's Secret: a key that is missing keeps the pod from starting, by name."""
    return [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": kubernetes_name(service.name), "key": key}}}
        for key in service.secrets
    ]
