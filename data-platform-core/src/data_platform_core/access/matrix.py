"""The matrix of accounts: models that read and check `services.yaml`. Unknown keys are refused."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from data_platform_core.access.names import RESERVED
from data_platform_core.errors import ConfigurationError
from data_platform_core.topology.endpoints import Frozen

SERVICES_FILE = Path(__file__).parent / "services.yaml"

#: A service's name becomes part of role names, access keys and file names, so it is one plain word.
ServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*$")]


class Operation(StrEnum):
    """Operations of Kafka's rules. READ and WRITE include DESCRIBE."""

    READ = "read"
    WRITE = "write"
    DESCRIBE = "describe"
    DESCRIBE_CONFIGS = "describe_configs"


class StoreAction(StrEnum):
    """Actions on objects."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"


class TablePrivilege(StrEnum):
    """PostgreSQL's privileges on a table."""

    SELECT = "select"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Schema(StrEnum):
    """Schemas of the warehouse by purpose; `postgres.SCHEMA_NAMES` has their names."""

    LANDING = "landing"
    PLATFORM = "platform"
    LOADING = "loading"
    OPS = "ops"
    ERRORS = "errors"
    STAGING = "staging"
    MARTS = "marts"


class KafkaAccess(Frozen):
    """Operations by resource. Topics and query groups: those of every entity.

    `reader_group`, `lag_group` and `spark_groups` are the shared consumer groups of the platform (`kafka.py`).
    Rules don't apply to a super user, so it has none.
    """

    super_user: bool = False
    topics: tuple[Operation, ...] = ()
    dead_letters: tuple[Operation, ...] = ()
    query_groups: tuple[Operation, ...] = ()
    reader_group: tuple[Operation, ...] = ()
    lag_group: tuple[Operation, ...] = ()
    spark_groups: tuple[Operation, ...] = ()
    cluster: tuple[Operation, ...] = ()
    all_topics: tuple[Operation, ...] = ()
    all_groups: tuple[Operation, ...] = ()

    @model_validator(mode="after")
    def _super_users_have_no_rules(self) -> KafkaAccess:
        if self.super_user and self.model_fields_set != {"super_user"}:
            raise ValueError("a super user is bound by no rule; leave out super_user or the operations")
        return self


class ObjectStoreAccess(Frozen):
    """Actions by location. `landing`: the lake's folder for lake backfills; `metrics`: the store's metrics."""

    lake: tuple[StoreAction, ...] = ()
    ledger: tuple[StoreAction, ...] = ()
    landing: tuple[StoreAction, ...] = ()
    metrics: bool = False


class PostgresAccess(Frozen):
    """Privileges in the warehouse's database; every role may connect to it.

    `landing`, `marts`: on each of their tables; `loads`, `completions`, `sla_definitions`, `sla_violations`,
    `dlq_errors`, `retry_history`: on one table each (`postgres.TABLES`). Usage of the table's schema is implied.
    `creates_in`: schemas where the role may create tables. `statistics`: the server's statistics, no table. `owner`:
    owns the database; exactly one service does.
    """

    owner: bool = False
    statistics: bool = False
    temporary_tables: bool = False
    landing: tuple[TablePrivilege, ...] = ()
    loads: tuple[TablePrivilege, ...] = ()
    completions: tuple[TablePrivilege, ...] = ()
    sla_definitions: tuple[TablePrivilege, ...] = ()
    sla_violations: tuple[TablePrivilege, ...] = ()
    dlq_errors: tuple[TablePrivilege, ...] = ()
    retry_history: tuple[TablePrivilege, ...] = ()
    marts: tuple[TablePrivilege, ...] = ()
    creates_in: tuple[Schema, ...] = ()

    @model_validator(mode="after")
    def _the_owner_has_everything(self) -> PostgresAccess:
        if self.owner and self.model_fields_set != {"owner"}:
            raise ValueError("the owner has every privilege; leave out owner or the others")
        return self

    @model_validator(mode="after")
    def _marts_are_only_read(self) -> PostgresAccess:
        # dbt grants them itself, and only SELECT (dbt_project.yml).
        if set(self.marts) - {TablePrivilege.SELECT}:
            raise ValueError("marts are rebuilt by dbt: select is all that may be granted on them")
        return self


class RedisAccess(Frozen):
    """No service uses Redis yet."""


class ServiceAccess(Frozen):
    """One service's entry; None means no account in that system."""

    kafka: KafkaAccess | None = None
    object_store: ObjectStoreAccess | None = None
    postgres: PostgresAccess | None = None
    redis: RedisAccess | None = None


class Matrix(Frozen):
    """Every service with an account, by name."""

    services: dict[ServiceName, ServiceAccess] = Field(min_length=1)

    @property
    def kafka(self) -> dict[str, KafkaAccess]:
        """Services with an account on Kafka."""
        return {name: entry.kafka for name, entry in self.services.items() if entry.kafka is not None}

    @property
    def object_store(self) -> dict[str, ObjectStoreAccess]:
        """Services with an account in the object store."""
        return {name: entry.object_store for name, entry in self.services.items() if entry.object_store is not None}

    @property
    def postgres(self) -> dict[str, PostgresAccess]:
        """Services with a role in PostgreSQL."""
        return {name: entry.postgres for name, entry in self.services.items() if entry.postgres is not None}

    def require(self, service: str) -> ServiceAccess:
        """The entry of `service`. Raises ConfigurationError when there is none."""
        if service not in self.services:
            raise ConfigurationError(
                f"service {service!r} is not in the matrix of accounts; add it to {SERVICES_FILE.name} in "
                f"data_platform_core/access (known: {', '.join(sorted(self.services))})"
            )
        return self.services[service]

    @model_validator(mode="after")
    def _names_are_free(self) -> Matrix:
        if taken := sorted(self.services.keys() & RESERVED):
            raise ValueError(f"services.{taken[0]}: the name belongs to an account of a server's own; choose another")
        return self

    @model_validator(mode="after")
    def _one_owner(self) -> Matrix:
        owners = [name for name, access in self.postgres.items() if access.owner]
        if len(owners) != 1:
            raise ValueError(f"exactly one service must have postgres.owner, found: {', '.join(owners) or 'none'}")
        return self


def load_matrix(path: Path | None = None) -> Matrix:
    """Read and check the matrix (default: SERVICES_FILE). Raises ConfigurationError naming the file and the key."""
    return _load(SERVICES_FILE if path is None else path)


@lru_cache
def _load(path: Path) -> Matrix:
    try:
        return Matrix.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"matrix of accounts {path} can't be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise ConfigurationError(f"matrix of accounts {path}: {key}: {first['msg']}") from None
