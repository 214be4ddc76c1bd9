"""The services of an environment: Kafka, schema registry, object store, PostgreSQL, Spark, Redis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from data_platform_core.topology.endpoints import Endpoint, Frozen


class Broker(Endpoint):
    """`metrics_port` is where the broker's JMX exporter serves Prometheus."""

    id: int = Field(ge=1)
    controller_port: int = Field(ge=1, le=65535)
    metrics_port: int = Field(ge=1, le=65535)

    @property
    def metrics(self) -> Endpoint:
        return self.at(self.metrics_port)

    @property
    def controller(self) -> Endpoint:
        return self.at(self.controller_port)


class KafkaSecurity(Frozen):
    """Authentication of clients and brokers; the only variant that roles and clients are tested with."""

    protocol: Literal["SASL_SSL"] = "SASL_SSL"
    mechanism: Literal["SCRAM-SHA-512"] = "SCRAM-SHA-512"


class Kafka(Frozen):
    """`security` None: plaintext, for loopback only. `quorum` zookeeper is for Kafka 3.9, the last to support it."""

    cluster_id: str
    replication_factor: int = Field(ge=1)
    min_insync_replicas: int = Field(ge=1)
    heap_mb: int = Field(ge=128)
    brokers: tuple[Broker, ...] = Field(min_length=1)
    quorum: Literal["kraft", "zookeeper"] = "kraft"
    security: KafkaSecurity | None = None

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    @model_validator(mode="after")
    def _replicas_fit_brokers(self) -> Kafka:
        if self.replication_factor > len(self.brokers):
            raise ValueError(
                f"replication_factor {self.replication_factor} needs as many brokers, topology has {len(self.brokers)}"
            )
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError(f"min_insync_replicas {self.min_insync_replicas} is above replication_factor")
        if len({broker.id for broker in self.brokers}) != len(self.brokers):
            raise ValueError("two brokers have the same id")
        return self


class SchemaRegistry(Endpoint):
    path: str
    heap_mb: int = Field(ge=128)

    @property
    def url(self) -> str:
        return f"http://{self.address}{self.path}"


class Buckets(Frozen):
    lake: str
    ledger: str


class ObjectStore(Endpoint):
    console_port: int = Field(ge=1, le=65535)
    region: str
    buckets: Buckets

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Postgres(Endpoint):
    database: str


class _SparkEndpoint(Endpoint):
    """Refuse `bind`: Spark's daemons announce the address that they listen on."""

    @model_validator(mode="after")
    def _listens_where_it_is_reached(self) -> _SparkEndpoint:
        if self.binds_elsewhere:
            raise ValueError(f"bind is {self.bind}, but a daemon of Spark listens on its host {self.host}; remove bind")
        return self


class SparkWorker(_SparkEndpoint):
    """`cores` are slots: the number of concurrent tasks. They share the machine's physical cores."""

    id: int = Field(ge=1)
    console_port: int = Field(ge=1, le=65535)
    cores: int = Field(ge=1)
    memory_mb: int = Field(ge=512)


class Spark(_SparkEndpoint):
    """A Spark standalone cluster; the endpoint is its master."""

    console_port: int = Field(ge=1, le=65535)
    workers: tuple[SparkWorker, ...] = Field(min_length=1)

    @property
    def url(self) -> str:
        return f"spark://{self.address}"


class Redis(Frozen):
    """Runs on every host with the role `redis`."""

    port: int = Field(ge=1, le=65535)


class Requires(Frozen):
    """Free resources that the embedded stack requires; none if Ansible builds the hosts."""

    disk_mb: int = Field(default=0, ge=0)
