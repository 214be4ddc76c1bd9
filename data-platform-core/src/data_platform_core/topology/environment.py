"""One environment: its services, the machines they run on, and what must fit together."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from data_platform_core.errors import ConfigurationError
from data_platform_core.topology.cluster import Kubernetes, check_endpoints
from data_platform_core.topology.endpoints import Endpoint, Frozen
from data_platform_core.topology.hosts import Host, Proxmox, Role, check_hosts, with_role
from data_platform_core.topology.monitoring import Metrics, Monitoring
from data_platform_core.topology.pods import Pods
from data_platform_core.topology.services import (
    Broker,
    Kafka,
    ObjectStore,
    Postgres,
    Redis,
    Requires,
    SchemaRegistry,
    Spark,
)


class Topology(Frozen):
    """One environment. Ports are TCP.

    `environment` is the file's name. `data_path` is this machine's folder for the environment's secrets, logs and
    embedded stack data, below the state folder.
    """

    environment: str
    data_path: Path
    kafka: Kafka
    schema_registry: SchemaRegistry
    object_store: ObjectStore
    postgres: Postgres
    metrics: Metrics
    monitoring: Monitoring
    requires: Requires = Requires()
    spark: Spark | None = None
    redis: Redis | None = None
    pods: Pods | None = None
    kubernetes: Kubernetes | None = None
    proxmox: Proxmox | None = None
    hosts: dict[str, Host] = Field(default_factory=dict)

    @property
    def spark_cluster(self) -> Spark:
        """Spark's standalone cluster. Raises ConfigurationError if there is none (Spark on Kubernetes)."""
        if self.spark is None:
            raise ConfigurationError(
                f"topology {self.environment} has no section spark, so the embedded stack can't run it; "
                "give an environment that has one, as local"
            )
        return self.spark

    @property
    def relayed(self) -> dict[str, Endpoint]:
        """Service -> where pods reach it (`address`), what a relay passes that to (`listen`); without `pods`, none."""
        if self.pods is None:
            return {}
        return self.pods.relayed(self.kafka, self.schema_registry, self.object_store, self.postgres)

    def pods_listener(self, broker: Broker) -> Endpoint | None:
        """Where pods reach `broker`, in a topology with `pods`."""
        return self.pods.listener(broker) if self.pods else None

    def seen_by_pods(self) -> Topology:
        """The same services at the addresses that pods connect to; unchanged without `pods`."""
        if self.pods is None:
            return self
        brokers = tuple(
            broker.model_copy(update=self.pods.listener(broker).model_dump(include={"host", "port"}))
            for broker in self.kafka.brokers
        )
        moved = {"host": self.pods.host}
        return self.model_copy(
            update={
                "kafka": self.kafka.model_copy(update={"brokers": brokers}),
                "schema_registry": self.schema_registry.model_copy(update=moved),
                "object_store": self.object_store.model_copy(update=moved),
                "postgres": self.postgres.model_copy(update=moved),
            }
        )

    @property
    def secrets_path(self) -> Path:
        """Folder with one `<service>.env` per service, created by the embedded stack, mode 0700."""
        return self.data_path / "secrets"

    @property
    def ca_path(self) -> Path:
        """Certificate of the authority that signs the hosts' certificates, PEM; Ansible makes it."""
        return self.data_path / "pki" / "ca.crt"

    @model_validator(mode="after")
    def _services_run_on_hosts_for_them(self) -> Topology:
        check_hosts(self.hosts, self.proxmox)
        if self.kubernetes is not None:
            check_endpoints(self.kubernetes, {name: (each.host, each.bind) for name, each in self.metrics})
        if not self.hosts:
            return self
        brokers = {broker.host for broker in self.kafka.brokers}
        for name, host in self.hosts.items():
            if (Role.KAFKA in host.roles) != (host.address in brokers):
                raise ValueError(f"hosts.{name}: role kafka and kafka.brokers must name the same hosts")
        if len({(broker.port, broker.controller_port, broker.metrics_port) for broker in self.kafka.brokers}) > 1:
            raise ValueError("kafka.brokers on hosts of their own must have the same ports")
        self.monitoring.require_one_bind()
        for key, endpoint, role in (
            ("schema_registry", self.schema_registry, Role.SCHEMA_REGISTRY),
            ("object_store", self.object_store, Role.OBJECT_STORE),
            ("postgres", self.postgres, Role.POSTGRES_PRIMARY),
        ):
            bearers = {host.address for host in with_role(self.hosts, role).values()}
            # On loopback it is part of the embedded stack, which runs beside the hosts.
            if bearers and endpoint.host not in bearers and not endpoint.is_loopback:
                raise ValueError(f"{key}.host {endpoint.host} is none of the hosts with role {role}")
        return self
