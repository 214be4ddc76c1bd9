"""Truth 2: where things run, read from `home-server-infra/topology/<environment>.yaml`.

Hosts, ports, brokers, bucket and database names exist only there. Clients connect to `host`; `bind` is the listen
address if it differs. A topology may extend another one (`extends: <other>`). `port_offset: N` adds N to every `*port`,
so that a second stack runs beside the first one. A key set to null removes the other's key. With `hosts`, `host:` may
be the name of one.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from data_platform_core.errors import ConfigurationError
from data_platform_core.infrastructure import Frozen, Host, Proxmox, Role, check_hosts, resolve_hosts, with_role
from data_platform_core.paths import TOPOLOGY_DIR, environment_folder, require_folder

#: Wildcard addresses: a listener on them accepts connections on every address of the machine.
_EVERY_ADDRESS = ("0.0.0.0", "::")
#: Keys that no file may set, and where their values come from.
_NOT_IN_FILES = {"environment": "is the file's name", "data_path": "is below the state folder, CRM_STATE"}


class Address(Frozen):
    """The address of a listener as clients use it."""

    host: str
    port: int = Field(ge=1, le=65535)

    @field_validator("host")
    @classmethod
    def _can_be_connected_to(cls, host: str) -> str:
        if host in _EVERY_ADDRESS:
            raise ValueError(f"{host} is no address to connect to; give one that clients reach, and `bind: {host}`")
        return host

    @property
    def is_loopback(self) -> bool:
        """Whether it is reachable from this machine only."""
        return _is_loopback(self.host)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Endpoint(Address):
    """An address of one of our services. It listens on `bind`, by default on `host`."""

    bind: str = ""

    @model_validator(mode="before")
    @classmethod
    def _binds_its_host(cls, raw: Any) -> Any:
        return {"bind": raw["host"], **raw} if isinstance(raw, dict) and "host" in raw else raw

    @property
    def listen(self) -> str:
        """Address and port to listen on."""
        return f"{self.bind}:{self.port}"

    @property
    def binds_elsewhere(self) -> bool:
        """Whether its listen address differs from the clients' address."""
        return self.bind != self.host

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine: one of its addresses is loopback."""
        return self.is_loopback or _is_loopback(self.bind)

    def at(self, port: int) -> Endpoint:
        """The same service at another port."""
        return Endpoint(host=self.host, bind=self.bind, port=port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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


class Metrics(Frozen):
    """Metrics endpoints of processes; a key is the process's service in the matrix of accounts."""

    generator: Endpoint
    streaming: Endpoint

    def of(self, service: str) -> Endpoint | None:
        """The metrics endpoint of `service`; None if it has none."""
        return getattr(self, service) if service in type(self).model_fields else None


class Scrape(Frozen):
    """Seconds between scrapes: of generator and streaming, whose lag people watch, and of the servers."""

    pipeline_seconds: float = Field(ge=1)
    servers_seconds: float = Field(ge=1)


class Retention(Frozen):
    """Prometheus drops data older than `days`, and the oldest data above `size_mb`."""

    days: int = Field(ge=1)
    size_mb: int = Field(ge=64)


class Mail(Address):
    """The SMTP server for alerts, with sender and recipient. `tls`: whether STARTTLS is required."""

    sender: str
    recipient: str
    user: str = ""
    tls: bool = True


class AlertSink(Endpoint):
    """Receives alerts while no real receiver is configured: webhooks on `port`, mail on `smtp_port`."""

    smtp_port: int = Field(ge=1, le=65535)

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Monitoring(Frozen):
    """Prometheus, Alertmanager and exporters. With `mail` None, mail goes to the sink."""

    prometheus: Endpoint
    alertmanager: Endpoint
    node_exporter: Endpoint
    postgres_exporter: Endpoint
    alert_sink: AlertSink
    scrape: Scrape
    retention: Retention
    mail: Mail | None = None

    def require_one_bind(self) -> None:
        """Raises ValueError when the agents that Ansible's one role installs listen on addresses of several kinds."""
        agents = (self.prometheus, self.node_exporter, self.postgres_exporter)
        if len({agent.bind if agent.binds_elsewhere else None for agent in agents}) > 1:
            raise ValueError("monitoring: prometheus and its exporters must have the same bind, or none")


class Redis(Frozen):
    """Runs on every host with the role `redis`."""

    port: int = Field(ge=1, le=65535)


class Requires(Frozen):
    """Free resources that the embedded stack requires; none if Ansible builds the hosts."""

    disk_mb: int = Field(default=0, ge=0)


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


def load_topology(environment: str, folder: Path = TOPOLOGY_DIR) -> Topology:
    """Read and check `<folder>/<environment>.yaml`.

    Raises ConfigurationError naming the file and the key.
    """
    raw = _read_layers(environment, folder)
    offset = raw.pop("port_offset", 0)
    if not isinstance(offset, int):
        raise ConfigurationError(f"topology {environment}: port_offset is {offset!r}, give a whole number")
    raw = resolve_hosts(raw, str(folder / f"{environment}.yaml"))
    raw |= {"environment": environment, "data_path": environment_folder(environment)}
    try:
        return Topology.model_validate(_shift_ports(raw, offset))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise ConfigurationError(f"topology {folder / f'{environment}.yaml'}: {key}: {first['msg']}") from None


def _read_layers(environment: str, folder: Path) -> dict[str, Any]:
    path = require_folder(folder, "topologies") / f"{environment}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"topology {path} does not exist; known environments: {known}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"topology {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigurationError(f"topology {path} must be a mapping of keys, found {type(raw).__name__}")
    for key, decided in _NOT_IN_FILES.items():
        if key in raw:
            raise ConfigurationError(f"topology {path}: {key} {decided}; remove the key")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    return _merge(_read_layers(parent, folder), raw)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        merged[key] = _merge(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
    return {key: value for key, value in merged.items() if value is not None}


def _shift_ports(node: Any, offset: int) -> Any:
    if isinstance(node, dict):
        return {
            key: value + offset
            if isinstance(value, int) and (key == "port" or key.endswith("_port"))
            else _shift_ports(value, offset)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_shift_ports(item, offset) for item in node]
    return node
