"""Every name that is derived from an entity's name, so that no name is written twice.

`orders` is `orders` at each hop. `docs/ai-context/entities.md` lists the names of each entity.
"""

from __future__ import annotations

from dataclasses import dataclass

TOPIC_PREFIX = "crm"
TOPIC_VERSION = "v1"
LANDING_SCHEMA = "raw_crm"
PLATFORM_SCHEMA = "platform"
#: Where a load writes rows before the transaction that moves them; empty between loads.
LOADING_SCHEMA = "loading"
#: What dbt builds: views over the landing tables (with PII), and marts (without).
STAGING_SCHEMA = "staging"
MARTS_SCHEMA = "marts"
LOADS_TABLE = f"{PLATFORM_SCHEMA}.loads"
#: The outcomes of jobs, and what was promised of them.
OPS_SCHEMA = "ops"
COMPLETIONS_TABLE = f"{OPS_SCHEMA}.pipeline_completion_log"
SLA_DEFINITIONS_TABLE = f"{OPS_SCHEMA}.sla_definitions"
SLA_VIOLATIONS_TABLE = f"{OPS_SCHEMA}.sla_violations"
#: Dead letters, with PII, and what became of each.
ERRORS_SCHEMA = "errors"
DLQ_ERRORS_TABLE = f"{ERRORS_SCHEMA}.dlq_errors"
RETRY_HISTORY_TABLE = f"{ERRORS_SCHEMA}.retry_history"
#: Where a downgrade puts tables with rows; no role has access, and the next upgrade brings them back.
RETIRED_SCHEMA = "retired"
#: Folder in the lake bucket for the files of lake backfills.
LANDING_ROOT = "landing"
CHECKPOINT_ROOT = "_checkpoints"
CHECKPOINT_VERSION = "v1"
#: The writer lease of bronze and silver (ADR 0021), an object of the lake bucket.
LEASE_KEY = "_lease/writer.json"


@dataclass(frozen=True)
class EntityNames:
    """The names of one entity (`orders`) at each hop, as properties."""

    entity: str

    @property
    def topic(self) -> str:
        return f"{TOPIC_PREFIX}.{self.entity}.{TOPIC_VERSION}"

    @property
    def dlq_topic(self) -> str:
        return f"{self.topic}.dlq"

    @property
    def subject(self) -> str:
        """Schema registry subject, by Confluent's TopicNameStrategy."""
        return f"{self.topic}-value"

    @property
    def query(self) -> str:
        return f"ingest_{self.entity}"

    @property
    def checkpoint(self) -> str:
        """Checkpoint folder, relative to the lake bucket."""
        return f"{CHECKPOINT_ROOT}/{self.query}/{CHECKPOINT_VERSION}"

    @property
    def bronze(self) -> str:
        """Delta table folder, relative to the lake bucket."""
        return f"bronze/{self.entity}"

    @property
    def silver(self) -> str:
        """Delta table folder, relative to the lake bucket."""
        return f"silver/{self.entity}"

    @property
    def landing_table(self) -> str:
        """Schema-qualified PostgreSQL table that the batch load writes; dbt's `source('crm', ...)`."""
        return f"{LANDING_SCHEMA}.{self.entity}"

    @property
    def staging_model(self) -> str:
        return f"stg_{TOPIC_PREFIX}__{self.entity}"


def names(entity: str) -> EntityNames:
    """The names of `entity`, a folder of the contracts."""
    return EntityNames(entity)


def landing_prefix(run_id: str) -> str:
    """Folder of a lake backfill's files in the lake bucket; also their `topic` in bronze."""
    return f"{LANDING_ROOT}/{run_id}"


def landing_part(run_id: str, entity: str, number: int) -> str:
    """Object key of a file of a lake backfill."""
    return f"{landing_prefix(run_id)}/{entity}/part-{number:06d}.parquet"


def landing_manifest(run_id: str) -> str:
    """Object key of the manifest, written after all files; it must match them."""
    return f"{landing_prefix(run_id)}/manifest.json"


def labels_key(run_id: str) -> str:
    """Object key of the labels of a seed's orders in the ledger bucket: beside the ledger, not in the data."""
    return f"labels/{run_id}.parquet"


def ledger_prefix(run_id: str) -> str:
    """Prefix of the ledger of a run in the ledger bucket."""
    return f"runs/{run_id}/"
