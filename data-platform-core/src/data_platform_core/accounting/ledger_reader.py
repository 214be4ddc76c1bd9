"""The ledger of a run, read back from the object store."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from minio import Minio
from pydantic import ValidationError

from data_platform_core.accounting.equations import Ledger
from data_platform_core.accounting.objects import s3_client
from data_platform_core.errors import AccountingError
from data_platform_core.lake.delta import store_errors
from data_platform_core.naming import ledger_prefix, names
from data_platform_core.settings import ObjectStoreSettings
from data_platform_core.wire.ledger import (
    LEDGER_SCHEMA,
    ProducerSummary,
    newest_summary,
    summary_number,
    unsettled_below,
)

_READERS = 8
_DIGEST = "digest"


@dataclass(frozen=True)
class RunLedger:
    """All producers' accounts of a run. `overwritten`: keys of objects that were written again or deleted since."""

    run_id: str
    summaries: tuple[ProducerSummary, ...]
    rows: dict[str, pa.Table]  # by entity: LEDGER_SCHEMA and producer_id
    overwritten: tuple[str, ...] = ()

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
    """Everything below the run's prefix, each object as it was first written.

    Raises AccountingError when the run has no ledger or an object of it is not what it must be, ServiceError when the
    object store refuses us.
    """
    client, bucket, prefix = s3_client(settings), settings.ledger_bucket, ledger_prefix(run_id)
    with store_errors(settings, bucket):
        versions = _versions(client, bucket, prefix)
        if not versions:
            raise AccountingError(
                f"run {run_id!r} has no ledger in bucket {bucket}; known runs: {_known_runs(client, bucket)}"
            )
        wanted = _that_count(versions)
        with ThreadPoolExecutor(_READERS) as pool:
            contents = pool.map(lambda key: _get(client, bucket, key, versions[key][0]), wanted)
            objects = {key.removeprefix(prefix): content for key, content in zip(wanted, contents, strict=True)}
    overwritten = tuple(key for key, found in sorted(versions.items()) if len(found) > 1)
    return replace(assemble(run_id, objects), overwritten=overwritten)


def _versions(client: Minio, bucket: str, prefix: str) -> dict[str, list[str | None]]:
    """Versions by key, the first one first. A bucket that keeps none has one of each, without a name."""
    found: dict[str, list[tuple[Any, str | None]]] = {}
    for item in client.list_objects(bucket, prefix, recursive=True, include_version=True):
        found.setdefault(str(item.object_name), []).append((item.last_modified, item.version_id))
    return {key: [version for _, version in sorted(items, key=itemgetter(0))] for key, items in found.items()}


def _that_count(keys: Iterable[str]) -> list[str]:
    """Every object but the summaries that a later one of the same producer has replaced."""
    by_producer: dict[str, list[str]] = {}
    for key in keys:
        by_producer.setdefault(key.rsplit("/", 1)[0], []).append(key)
    newest = {newest_summary(mine) for mine in by_producer.values()}
    return sorted(key for key in keys if summary_number(key) < 0 or key in newest)


def assemble(run_id: str, objects: dict[str, bytes]) -> RunLedger:
    """A run's ledger from its objects by key below the prefix. Raises AccountingError naming the object at fault."""
    summaries: list[ProducerSummary] = []
    parts: dict[str, list[pa.Table]] = {}
    for key, content in objects.items():
        producer, _, name = key.partition("/")
        if summary_number(key) >= 0:
            summaries.append(_summary(run_id, key, content))
        elif name.endswith(".parquet") and producer.isdigit():
            parts.setdefault(name.split("/")[0], []).append(_part(run_id, key, int(producer), content))
        else:
            raise AccountingError(f"ledger of run {run_id}: object {key} is neither a summary nor a part")
    silent = {int(key.split("/")[0]) for key in objects} - {summary.producer_id for summary in summaries}
    if silent:
        raise AccountingError(f"ledger of run {run_id}: producer {min(silent)} has parts but no summary")
    rows = {entity: pa.concat_tables(tables) for entity, tables in parts.items()}
    return RunLedger(run_id, tuple(sorted(summaries, key=lambda summary: summary.producer_id)), rows)


def _summary(run_id: str, key: str, content: bytes) -> ProducerSummary:
    try:
        return ProducerSummary.model_validate_json(content)
    except ValidationError as error:
        raise AccountingError(f"ledger of run {run_id}: {key}: {error.errors()[0]['msg']}") from None


def _part(run_id: str, key: str, producer: int, content: bytes) -> pa.Table:
    try:
        table = pq.read_table(io.BytesIO(content))
        if _DIGEST not in table.column_names:  # a run from before digests
            table = table.append_column(LEDGER_SCHEMA.field(_DIGEST), pa.nulls(len(table), pa.uint64()))
        table = table.select(LEDGER_SCHEMA.names).cast(LEDGER_SCHEMA)
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise AccountingError(
            f"ledger of run {run_id}: {key} is no ledger part: {' '.join(str(error).split())}"
        ) from None
    return table.append_column("producer_id", pa.array(np.full(len(table), producer), pa.int32()))


def _empty() -> pa.Table:
    return LEDGER_SCHEMA.empty_table().append_column("producer_id", pa.array([], pa.int32()))


def _get(client: Minio, bucket: str, key: str, version: str | None) -> bytes:
    response = client.get_object(bucket, key, version_id=version)
    try:
        return bytes(response.read())
    finally:
        response.close()
        response.release_conn()


def _known_runs(client: Minio, bucket: str) -> str:
    folders: Iterable[str] = (str(item.object_name) for item in client.list_objects(bucket, ledger_prefix("")[:-1]))
    runs = sorted(folder.rstrip("/").rsplit("/", 1)[-1] for folder in folders)
    return ", ".join(runs[-5:]) or "none"
