"""The one place that reads the environment.

Settings resolve once, at an entry point: defaults < topology/<environment>.yaml < environment < CLI flag. Locally the
environment comes from `<state>/<environment>/secrets/<service>.env`, which the embedded stack writes; on Kubernetes a
ConfigMap and a Secret set the same names. The result is frozen and passed down. Only the locations of files are
resolved earlier: `paths.py` reads CRM_HOME and CRM_STATE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from data_platform_core.access.matrix import load_matrix
from data_platform_core.elasticity import require_in_order
from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import HOME_VARIABLE, JARS_DIR, STATE_VARIABLE, environment_folder
from data_platform_core.topology import Topology, load_topology

ENV_PREFIX = "CRM_"
ENV_NESTING = "__"


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(_Group):
    bootstrap_servers: str
    replication_factor: int = Field(ge=1)
    min_insync_replicas: int = Field(ge=1)
    security_protocol: Literal["PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str = ""
    #: The principal; by default the service's own name.
    username: str = ""
    password: SecretStr = SecretStr("")
    #: Certificate of the authority that signed the brokers' certificates, PEM.
    ca_file: str = ""

    @property
    def secured(self) -> bool:
        """Whether clients must authenticate."""
        return self.security_protocol != "PLAINTEXT"


class RegistrySettings(_Group):
    url: str


class ObjectStoreSettings(_Group):
    url: str
    region: str
    lake_bucket: str
    ledger_bucket: str
    access_key: SecretStr = SecretStr("")
    secret_key: SecretStr = SecretStr("")

    def lake_uri(self, relative: str) -> str:
        """`s3a://` address of a folder of the lake, for Spark."""
        return f"s3a://{self.lake_bucket}/{relative}"


class PostgresSettings(_Group):
    host: str
    port: int = Field(ge=1, le=65535)
    database: str
    user: str = ""
    password: SecretStr = SecretStr("")


class MetricsSettings(_Group):
    """The address on which this process serves its metrics. Port 0 disables them."""

    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)


class SparkSettings(_Group):
    """The engine of any Spark job: master and resources. Sizes in megabytes; effects are in ADR 0005 and 0013.

    With `executors_max` above `executors_min`, Spark requests more while tasks wait (dynamic allocation). Both need a
    cluster as `master`.
    """

    master: str = "local[2]"
    #: A file of Spark properties for secrets that must not be on a command line: that of a standalone cluster.
    properties_file: str = ""
    #: Jars of Spark, Delta, S3A and Kafka, for a local or standalone master; elsewhere the image has them.
    jars_dir: Path = JARS_DIR / "spark"
    #: Scratch space of a local or standalone master; by default a folder of the environment's.
    local_dir: Path | None = None
    driver_memory_mb: int = Field(default=2048, ge=512)
    executor_memory_mb: int = Field(default=1024, ge=512)
    executor_cores: int = Field(default=4, ge=1)
    executors_min: int = Field(default=1, ge=1)
    executors_max: int = Field(default=1, ge=1)
    shuffle_partitions: int = Field(default=2, ge=1)
    #: Spark configuration that overrides ours, as JSON; for measurements.
    conf: dict[str, str] = {}

    @model_validator(mode="after")
    def _executors_in_order(self) -> SparkSettings:
        require_in_order(self.executors_min, self.executors_max)
        return self


#: Pace `economy`: a batch costs much the same for one record as for thousands, so there are fewer of them.
ECONOMY_BACK_TO_BACK_MS, ECONOMY_TRIGGER_MS = 5_000, 30_000


class IngestSettings(_Group):
    """The stream's ingestion: batches, compaction, timeouts. Only the streaming driver reads it.

    `min_partitions`: number of tasks into which a batch is split, regardless of the topic's partitions, for entities
    that run back to back; 0 means one task per partition.
    """

    #: `contract`: batches as often as each contract's `trigger_ms` says; `economy`: fewer, for a home server.
    pace: Literal["contract", "economy"] = "contract"
    max_offsets_per_trigger: int = Field(default=100_000, ge=1)
    min_partitions: int = Field(default=0, ge=0)
    #: Least milliseconds between batches of an entity that its contract lets run back to back. A batch costs the same
    #: for 100 records as for 1,000: more batches a second only cost more (ADR 0012).
    trigger_ms: int = Field(default=1_000, ge=0)
    #: Seconds between searches for small files to merge; 0 turns compaction and vacuum off.
    compact_every_s: float = Field(default=60.0, ge=0)
    #: Number of small files from which a day's partition is compacted; a fifth of it once the day is over.
    compact_min_files: int = Field(default=200, ge=2)
    #: Target size of compaction; files of at least half of it are left alone.
    compact_file_mb: int = Field(default=64, ge=1)
    #: Compaction pauses while an entity has more waiting records than this.
    compact_below_lag: int = Field(default=20_000, ge=0)
    #: Seconds without progress after which a driver exits and is restarted: twice the duration of Spark's start, its
    #: longest step, with six drivers on two cores. Every batch must finish within it.
    hang_s: float = Field(default=600.0, ge=5)

    def query_trigger_ms(self, contract_ms: int) -> int:
        """Least milliseconds between batches of a query whose contract says `contract_ms`; 0 for back to back."""
        if self.pace == "economy":
            return ECONOMY_TRIGGER_MS if contract_ms else ECONOMY_BACK_TO_BACK_MS
        return contract_ms or self.trigger_ms


class ExperimentSettings(_Group):
    """Deliberate delays of experiments; none in normal operation.

    `record_cost_us` delays each record by that many microseconds in its task, like a slow lookup. It limits the
    stream to a known capacity.
    """

    record_cost_us: int = Field(default=0, ge=0)


class LeaseSettings(_Group):
    """The lease for the writer of bronze and silver (ADR 0021).

    Writers on other machines may take over from a writer that has not renewed for `ttl_s` seconds. It exits a little
    sooner. It renews three times per `ttl_s`.
    """

    ttl_s: float = Field(default=30.0, ge=6, le=600)


class Settings(BaseSettings):
    """All settings of a process, frozen. Secrets are SecretStr: printing them shows stars."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_NESTING
    )

    environment: str = "local"
    kafka: KafkaSettings
    registry: RegistrySettings
    object_store: ObjectStoreSettings
    postgres: PostgresSettings
    metrics: MetricsSettings = MetricsSettings()
    spark: SparkSettings = SparkSettings()
    ingest: IngestSettings = IngestSettings()
    lease: LeaseSettings = LeaseSettings()
    experiment: ExperimentSettings = ExperimentSettings()

    @property
    def data_path(self) -> Path:
        """The folder to which this process writes: the environment's part of the state folder."""
        return environment_folder(self.environment)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The topology arrives as init arguments: the environment overrides it.
        return env_settings, dotenv_settings, init_settings


def load_settings(service: str, environment: str | None = None) -> Settings:
    """Resolve the settings of `service` in `environment` (default: CRM_ENVIRONMENT, then `local`).

    Raises ConfigurationError naming a service that is not in the matrix of accounts, or the variable when a value is
    impossible or a CRM_ variable is unknown.
    """
    load_matrix().require(service)
    _refuse_unknown(os.environ)
    environment = environment or os.environ.get(f"{ENV_PREFIX}ENVIRONMENT") or "local"
    topology = load_topology(environment)
    secrets = topology.secrets_path / f"{service}.env"
    places = _from_topology(topology, service)
    try:
        found = Settings(_env_file=secrets if secrets.is_file() else None, **places)  # type: ignore[call-arg]
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        variable = ENV_PREFIX + ENV_NESTING.join(str(part) for part in first["loc"]).upper()
        raise ConfigurationError(f"setting {variable}: {first['msg']}") from None
    # The flag overrides CRM_ENVIRONMENT: addresses and name must be of one environment.
    return found.model_copy(update={"environment": topology.environment})


def _from_topology(topology: Topology, service: str) -> dict[str, Any]:
    store, postgres = topology.object_store, topology.postgres
    metrics = topology.metrics.of(service)
    security = topology.kafka.security
    login: dict[str, str] = {}
    if security:
        login = {
            "security_protocol": security.protocol,
            "sasl_mechanism": security.mechanism,
            "username": service,
            "ca_file": str(topology.ca_path),
        }
    return {
        "environment": topology.environment,
        "kafka": {
            "bootstrap_servers": topology.kafka.bootstrap_servers,
            "replication_factor": topology.kafka.replication_factor,
            "min_insync_replicas": topology.kafka.min_insync_replicas,
            **login,
        },
        "registry": {"url": topology.schema_registry.url},
        "object_store": {
            "url": store.url,
            "region": store.region,
            "lake_bucket": store.buckets.lake,
            "ledger_bucket": store.buckets.ledger,
        },
        "postgres": {"host": postgres.host, "port": postgres.port, "database": postgres.database},
        **({"metrics": {"host": metrics.bind, "port": metrics.port}} if metrics else {}),
    }


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _variables(kind, f"{prefix}{name.upper()}{ENV_NESTING}")
        else:
            yield f"{prefix}{name.upper()}"


def known_variables() -> frozenset[str]:
    """Every environment variable that sets a setting."""
    return frozenset({HOME_VARIABLE, STATE_VARIABLE, *_variables(Settings, ENV_PREFIX)})


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    unknown = sorted(name for name in environment if name.startswith(ENV_PREFIX) and name not in known_variables())
    if unknown:
        raise ConfigurationError(
            f"environment variable {unknown[0]} is not a setting of this platform; "
            f"unset it or correct its name (known: {', '.join(sorted(known_variables()))})"
        )
