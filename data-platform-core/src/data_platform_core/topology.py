"""Truth 2: where things run, read from `home-server-infra/topology/<environment>.yaml`.

Hosts, ports, brokers, bucket and database names exist only there. A topology may say `extends: <other>` and
`port_offset: N`, which moves every `*port` by N, so that a second stack runs beside the first one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import REPOSITORY_ROOT

TOPOLOGY_DIR = REPOSITORY_ROOT / "home-server-infra" / "topology"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Endpoint(_Frozen):
    host: str
    port: int = Field(ge=1, le=65535)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Broker(Endpoint):
    """`metrics_port` is where the broker's JMX exporter serves Prometheus."""

    id: int = Field(ge=1)
    controller_port: int = Field(ge=1, le=65535)
    metrics_port: int = Field(ge=1, le=65535)

    @property
    def metrics(self) -> Endpoint:
        return Endpoint(host=self.host, port=self.metrics_port)


class Kafka(_Frozen):
    cluster_id: str
    replication_factor: int = Field(ge=1)
    min_insync_replicas: int = Field(ge=1)
    heap_mb: int = Field(ge=128)
    brokers: tuple[Broker, ...] = Field(min_length=1)

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


class Buckets(_Frozen):
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


class SparkWorker(Endpoint):
    """`cores` are slots: tasks that run at a time. They share the machine's real cores."""

    id: int = Field(ge=1)
    console_port: int = Field(ge=1, le=65535)
    cores: int = Field(ge=1)
    memory_mb: int = Field(ge=512)


class Spark(Endpoint):
    """A Spark standalone cluster; the endpoint is its master."""

    console_port: int = Field(ge=1, le=65535)
    workers: tuple[SparkWorker, ...] = Field(min_length=1)

    @property
    def url(self) -> str:
        return f"spark://{self.address}"


class Metrics(_Frozen):
    generator: Endpoint
    streaming: Endpoint


class Scrape(_Frozen):
    """Seconds between two scrapes: of generator and streaming, whose lag people watch, and of the servers."""

    pipeline_seconds: float = Field(ge=1)
    servers_seconds: float = Field(ge=1)


class Retention(_Frozen):
    """Prometheus drops what is older than `days`, and the oldest when it holds more than `size_mb`."""

    days: int = Field(ge=1)
    size_mb: int = Field(ge=64)


class Mail(Endpoint):
    """The SMTP server that takes alerts' mail, and from whom to whom. `tls`: whether it must speak STARTTLS."""

    sender: str
    recipient: str
    user: str = ""
    tls: bool = True


class AlertSink(Endpoint):
    """Where alerts go while nobody has given a real receiver: `port` takes webhooks, `smtp_port` mail."""

    smtp_port: int = Field(ge=1, le=65535)

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Monitoring(_Frozen):
    """Prometheus, Alertmanager and exporters. `mail` None: mail goes to the sink."""

    prometheus: Endpoint
    alertmanager: Endpoint
    node_exporter: Endpoint
    postgres_exporter: Endpoint
    alert_sink: AlertSink
    scrape: Scrape
    retention: Retention
    mail: Mail | None = None


class Requires(_Frozen):
    memory_mb: int = Field(ge=0)
    disk_mb: int = Field(ge=0)


class Topology(_Frozen):
    """One environment. Ports are TCP; `data_dir` is relative to the repository root."""

    environment: str
    data_dir: Path
    kafka: Kafka
    schema_registry: SchemaRegistry
    object_store: ObjectStore
    postgres: Postgres
    spark: Spark
    metrics: Metrics
    monitoring: Monitoring
    requires: Requires

    @property
    def data_path(self) -> Path:
        return REPOSITORY_ROOT / self.data_dir

    @property
    def secrets_path(self) -> Path:
        """Folder of one `<service>.env` per service, made by the embedded stack, mode 0700."""
        return self.data_path / "secrets"


def load_topology(environment: str, folder: Path = TOPOLOGY_DIR) -> Topology:
    """Read and check `<folder>/<environment>.yaml`.

    Raises ConfigurationError naming the file and the key.
    """
    raw = _read_layers(environment, folder)
    offset = raw.pop("port_offset", 0)
    if not isinstance(offset, int):
        raise ConfigurationError(f"topology {environment}: port_offset is {offset!r}, give a whole number")
    try:
        return Topology.model_validate(_shift_ports(raw, offset))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise ConfigurationError(f"topology {folder / f'{environment}.yaml'}: {key}: {first['msg']}") from None


def _read_layers(environment: str, folder: Path) -> dict[str, Any]:
    path = folder / f"{environment}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"topology {path} does not exist; known environments: {known}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"topology {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigurationError(f"topology {path} must be a mapping of keys, found {type(raw).__name__}")
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    return _merge(_read_layers(parent, folder), raw)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        merged[key] = _merge(inherited, value) if isinstance(inherited, dict) and isinstance(value, dict) else value
    return merged


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
