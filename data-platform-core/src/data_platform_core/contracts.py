"""Truth 1: what the data is, read from `data-platform-core/contracts/<entity>/`.

A folder has `schema.avsc` (the wire schema, registered unchanged) and `contract.yaml` (grain, key, topic, checks,
silver's rules). `load_contracts` checks them against each other before anything uses them.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data_platform_core.errors import ConfigurationError
from data_platform_core.naming import EntityNames, names
from data_platform_core.paths import CONTRACTS_DIR, require_folder

#: Equal for duplicates of a record: silver keeps the first, the warehouse stores one.
IDEMPOTENCY_KEY = "event_id"
#: Every record of every entity starts with these; accounting and deduplication depend on them.
ENVELOPE = (IDEMPOTENCY_KEY, "event_ts", "produced_ts", "source", "run_id", "producer_id", "seq")

#: `source` of records whose event times lie in the past on purpose: they are not late.
BACKFILL_SOURCE, SEED_SOURCE = HISTORICAL_SOURCES = ("backfill", "seed")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TopicSpec(_Frozen):
    partitions: int = Field(ge=1)
    retention_hours: int = Field(ge=1)


class SilverSpec(_Frozen):
    """`append`: each row is a fact. `latest`: each row is a version, the newest by event time is the entity."""

    merge: Literal["append", "latest"]
    dedup_window_minutes: int = Field(ge=1)
    allowed_lateness_minutes: int = Field(ge=0)
    trigger_ms: int = Field(ge=0)


class Freshness(_Frozen):
    warn_after_minutes: int = Field(ge=1)
    error_after_minutes: int = Field(ge=1)


class SumsSpec(_Frozen):
    """What accounting sums: rows per value of `kind`, and the total of `amount` (whole KRW) if there is one."""

    kind: str
    amount: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.kind, self.amount) if self.amount else (self.kind,)


class MaxLength(BaseModel):
    """Maximum length of text fields in characters: `default`, and exceptions by field name."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, int]

    default: int = Field(ge=1)

    def of(self, field: str) -> int:
        """The maximum length of `field`."""
        return self.__pydantic_extra__.get(field, self.default)


class _ContractFile(_Frozen):
    entity: str
    description: str
    owner: str
    grain: str
    key: str
    event_time: str
    pii: tuple[str, ...]
    topic: TopicSpec
    dlq: TopicSpec
    silver: SilverSpec
    accepted_values: dict[str, tuple[str, ...]]
    max_length: MaxLength
    checks: dict[str, str]
    relationships: dict[str, str]
    sums: SumsSpec
    freshness: Freshness


class Contract(_ContractFile):
    """One entity's contract. `avro` is the parsed wire schema; names come from `naming.py`."""

    avro: dict[str, Any]

    @cached_property
    def names(self) -> EntityNames:
        return names(self.entity)

    @property
    def avro_json(self) -> str:
        """The wire schema as registered."""
        return json.dumps(self.avro)

    @property
    def columns(self) -> tuple[str, ...]:
        """Field names in wire order, envelope first."""
        return tuple(field["name"] for field in self.avro["fields"])

    @property
    def max_lengths(self) -> dict[str, int]:
        """Maximum length by field that is or contains text; a field with accepted values needs none."""
        texts = (field["name"] for field in self.avro["fields"] if holds_text(field["type"]))
        return {name: self.max_length.of(name) for name in texts if name not in self.accepted_values}


def holds_text(avro_type: Any) -> bool:
    """Whether an Avro type is a string or contains one at any depth. The keys of a map are text."""
    if isinstance(avro_type, list):
        return any(holds_text(branch) for branch in avro_type)
    if isinstance(avro_type, str):
        return avro_type == "string"
    if avro_type["type"] == "record":
        return any(holds_text(field["type"]) for field in avro_type["fields"])
    if avro_type["type"] == "array":
        return holds_text(avro_type["items"])
    return avro_type["type"] == "map" or holds_text(avro_type["type"])


def entities(folder: Path = CONTRACTS_DIR) -> tuple[str, ...]:
    """Every entity that has a contract folder, sorted."""
    require_folder(folder, "contracts")
    found = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    if not found:
        raise ConfigurationError(f"contracts folder {folder} holds no entity; restore it from the repository")
    return found


def load_contracts(folder: Path = CONTRACTS_DIR) -> dict[str, Contract]:
    """Every contract by entity, in a stable order. Raises ConfigurationError naming the file and the key."""
    return {entity: load_contract(entity, folder) for entity in entities(folder)}


def load_contract(entity: str, folder: Path = CONTRACTS_DIR) -> Contract:
    """The contract of one entity, checked. Raises ConfigurationError naming the file and the key."""
    where = folder / entity
    if not where.is_dir():
        raise ConfigurationError(f"entity {entity!r} has no contract; known: {', '.join(entities(folder))}")
    avro = _read_avro(where / "schema.avsc")
    raw = _read_yaml(where / "contract.yaml")
    try:
        contract = Contract(**raw, avro=avro)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"contract {where / 'contract.yaml'}: {key}: {first['msg']}") from None
    _check_against_schema(contract, where)
    return contract


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise ConfigurationError(
            f"contract file {path} is missing; a contract is schema.avsc and contract.yaml"
        ) from None


def _read_avro(path: Path) -> dict[str, Any]:
    try:
        avro = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"contract schema {path} is not JSON: line {error.lineno}: {error.msg}") from None
    if not isinstance(avro, dict) or avro.get("type") != "record" or not isinstance(avro.get("fields"), list):
        raise ConfigurationError(f"contract schema {path} must be an Avro record with fields")
    return avro


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"contract {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigurationError(f"contract {path} must be a mapping of keys, found {type(raw).__name__}")
    return raw


def _check_against_schema(contract: Contract, where: Path) -> None:
    if contract.entity != where.name:
        raise ConfigurationError(f"contract {where}: entity is {contract.entity!r}, the folder says {where.name!r}")
    if contract.columns[: len(ENVELOPE)] != ENVELOPE:
        raise ConfigurationError(f"contract schema {where / 'schema.avsc'} must start with {', '.join(ENVELOPE)}")
    undocumented = [field["name"] for field in contract.avro["fields"] if not field.get("doc")]
    if undocumented:
        raise ConfigurationError(f"contract schema {where / 'schema.avsc'}: field {undocumented[0]} has no doc")
    for role, fields in (
        ("key", (contract.key,)),
        ("event_time", (contract.event_time,)),
        ("pii", contract.pii),
        ("accepted_values", tuple(contract.accepted_values)),
        ("relationships", tuple(contract.relationships)),
        ("sums", contract.sums.columns),
        ("max_length", tuple(contract.max_length.__pydantic_extra__)),
    ):
        for field in fields:
            if field not in contract.columns:
                raise ConfigurationError(
                    f"contract {where / 'contract.yaml'}: {role} names {field}, not in schema.avsc"
                )
