"""The ledger of a run, read back from the object store."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from minio import Minio
from pydantic import ValidationError

from data_platform_core.accounting.equations import Ledger
from data_platform_core.accounting.objects import s3_client, store_errors
from data_platform_core.errors import AccountingError
from data_platform_core.ledger import LEDGER_SCHEMA, ProducerSummary, unsettled_below
from data_platform_core.naming import ledger_prefix, names
from data_platform_core.settings import ObjectStoreSettings

_READERS = 8
_SUMMARY = "summary.json"


@dataclass(frozen=True)
class RunLedger:
    """All producers' accounts of a run."""

    run_id: str
    summaries: tuple[ProducerSummary, ...]
    rows: dict[str, pa.Table]  # by entity: LEDGER_SCHEMA and producer_id

    @property
    def unfinished(self) -> tuple[int, ...]:
        """Producers that still run, or were killed."""
        return tuple(summary.producer_id for summary in self.summaries if not summary.finished)

    def of(self, entity: str) -> Ledger:
        """The ledger of one entity, empty when the run has none of it."""
        return Ledger(
            topic=names(entity).topic,
            rows=self.rows.get(entity, _empty()),
            sent={s.producer_id: s.sent.get(entity, 0) for s in self.summaries if s.finished},
            unsettled={s.producer_id: unsettled_below(s, entity) for s in self.summaries if not s.finished},
        )


def read_ledger(settings: ObjectStoreSettings, run_id: str) -> RunLedger:
    """Everything below the run's prefix.

    Raises AccountingError when the run has no ledger or an object of it is not what it must be, ServiceError when the
    object store refuses us.
    """
    client, bucket, prefix = s3_client(settings), settings.ledger_bucket, ledger_prefix(run_id)
    with store_errors(settings, bucket):
        keys = sorted(str(item.object_name) for item in client.list_objects(bucket, prefix, recursive=True))
        if not keys:
            raise AccountingError(
                f"run {run_id!r} has no ledger in bucket {bucket}; known runs: {_known_runs(client, bucket)}"
            )
        with ThreadPoolExecutor(_READERS) as pool:
            contents = dict(zip(keys, pool.map(lambda key: _get(client, bucket, key), keys), strict=True))
    return assemble(run_id, {key.removeprefix(prefix): content for key, content in contents.items()})


def assemble(run_id: str, objects: dict[str, bytes]) -> RunLedger:
    """A run's ledger from its objects by key below the prefix. Raises AccountingError naming the object at fault."""
    summaries: list[ProducerSummary] = []
    parts: dict[str, list[pa.Table]] = {}
    for key, content in objects.items():
        producer, _, name = key.partition("/")
        if name == _SUMMARY:
            summaries.append(_summary(run_id, key, content))
        elif name.endswith(".parquet") and producer.isdigit():
            parts.setdefault(name.split("/")[0], []).append(_part(run_id, key, int(producer), content))
        else:
            raise AccountingError(f"ledger of run {run_id}: object {key} is neither a summary nor a part")
    silent = {int(key.split("/")[0]) for key in objects} - {summary.producer_id for summary in summaries}
    if silent:
        raise AccountingError(f"ledger of run {run_id}: producer {min(silent)} has parts but no {_SUMMARY}")
    rows = {entity: pa.concat_tables(tables) for entity, tables in parts.items()}
    return RunLedger(run_id, tuple(sorted(summaries, key=lambda summary: summary.producer_id)), rows)


def _summary(run_id: str, key: str, content: bytes) -> ProducerSummary:
    try:
        return ProducerSummary.model_validate_json(content)
    except ValidationError as error:
        raise AccountingError(f"ledger of run {run_id}: {key}: {error.errors()[0]['msg']}") from None


def _part(run_id: str, key: str, producer: int, content: bytes) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(content)).select(LEDGER_SCHEMA.names).cast(LEDGER_SCHEMA)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise AccountingError(
            f"ledger of run {run_id}: {key} is no ledger part: {' '.join(str(error).split())}"
        ) from None
    return table.append_column("producer_id", pa.array(np.full(len(table), producer), pa.int32()))


def _empty() -> pa.Table:
    return LEDGER_SCHEMA.empty_table().append_column("producer_id", pa.array([], pa.int32()))


def _get(client: Minio, bucket: str, key: str) -> bytes:
    response = client.get_object(bucket, key)
    try:
        return bytes(response.read())
    finally:
        response.close()
        response.release_conn()


def _known_runs(client: Minio, bucket: str) -> str:
    folders: Iterable[str] = (str(item.object_name) for item in client.list_objects(bucket, ledger_prefix("")[:-1]))
    runs = sorted(folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders)
    return ", ".join(runs[-5:]) or "none"
