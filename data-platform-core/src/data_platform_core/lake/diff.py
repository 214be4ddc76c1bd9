"""What two versions of a table differ in, row by row: only the files that one of them alone has are read.

A row is known by its place in Kafka. A row whose values were changed is in both lists. A compaction writes other files
with the same rows, so it shows no difference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import duckdb
import pyarrow.dataset as ds
from deltalake import DeltaTable

from data_platform_core.contracts import IDEMPOTENCY_KEY, Contract
from data_platform_core.errors import ServiceError
from data_platform_core.lake.delta import delta_table, store_errors, table_rows
from data_platform_core.settings import ObjectStoreSettings

#: What a comparison may hold in memory, MB; the rest goes to a temporary folder.
MEMORY_MB: Final = 512
_BATCH_ROWS: Final = 20_000


@dataclass(frozen=True)
class Difference:
    """Rows of the later version that the earlier one lacks, and the other way round.

    `changed`: rows that are in both lists under one key. `examples`: sign, then the values of `columns`, up to a limit,
    in order of the key.
    """

    added: int
    removed: int
    changed: int
    columns: tuple[str, ...]
    examples: tuple[tuple[Any, ...], ...]


def row_key(contract: Contract, folder: str) -> tuple[str, ...]:
    """The columns that name a row of the table, and those that people know it by."""
    if folder == contract.names.bronze:
        return ("topic", "partition", "offset", "run_id", "seq")
    known = (contract.key, IDEMPOTENCY_KEY, contract.event_time)
    return ("kafka_partition", "kafka_offset", *dict.fromkeys(known))


def difference(
    settings: ObjectStoreSettings, folder: str, versions: tuple[int, int], key: Sequence[str], limit: int
) -> Difference:
    """Compare two versions of the table at `folder`; `key` names its rows.

    Raises ServiceError when the object store fails, or no longer has a version or a file of it.
    """
    earlier, later = (_version(settings, folder, version) for version in versions)
    before, after = (set(table.get_add_actions(flatten=True)["path"].to_pylist()) for table in (earlier, later))
    with _engine() as sql:
        _load(settings, sql, "earlier", earlier, before - after)
        _load(settings, sql, "later", later, after - before)
        return _compare(sql, tuple(key), limit)


def _version(settings: ObjectStoreSettings, folder: str, version: int) -> DeltaTable:
    try:
        return delta_table(settings, folder, version)
    except ServiceError as error:
        raise ServiceError(
            f"version {version} of table {folder} can't be read; the log keeps a week, `crm lake history` lists "
            f"what it has: {error}"
        ) from None


def _load(
    settings: ObjectStoreSettings, sql: duckdb.DuckDBPyConnection, name: str, table: DeltaTable, paths: set[str]
) -> None:
    """Make a table of the rows of some of the version's files."""
    rows = table_rows(settings, table)
    files = {unquote(path) for path in paths}  # as the log encodes them
    fragments = [fragment for fragment in rows.get_fragments() if fragment.path in files]
    chosen = ds.FileSystemDataset(fragments, rows.schema, rows.format, rows.filesystem)
    with store_errors(settings, settings.lake_bucket):
        scanner = chosen.scanner(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=2)
        sql.register("arriving", scanner.to_reader())
        try:
            sql.execute(f"CREATE TABLE {name} AS SELECT * FROM arriving")
        except duckdb.Error as error:  # whatever Arrow raises comes out as an error of DuckDB
            reason = " ".join(str(error).split())[:300]
            raise ServiceError(
                f"version {table.version()} of table {table.table_uri} can't be read; files that no version of "
                f"the last week needs are deleted: {reason}"
            ) from None
        finally:
            sql.unregister("arriving")


def _compare(sql: duckdb.DuckDBPyConnection, key: tuple[str, ...], limit: int) -> Difference:
    named = _listed(key)
    # A hash of 64 bits stands for a row's values, of the columns that both versions have.
    values = _listed(sorted(_columns(sql, "earlier") & _columns(sql, "later")))
    for name in ("earlier", "later"):
        sql.execute(f"CREATE VIEW {name}_rows AS SELECT {named}, hash({values}) AS digest FROM {name}")
    sql.execute("CREATE TABLE removed AS FROM earlier_rows EXCEPT ALL FROM later_rows")
    sql.execute("CREATE TABLE added AS FROM later_rows EXCEPT ALL FROM earlier_rows")
    both = f"(SELECT {named} FROM added INTERSECT SELECT {named} FROM removed)"
    added, removed, changed = (_count(sql, rows) for rows in ("added", "removed", both))
    order = ", ".join(str(place) for place in range(2, len(key) + 2))
    examples = sql.execute(
        f"SELECT '-', {named} FROM removed UNION ALL SELECT '+', {named} FROM added ORDER BY {order}, 1 DESC LIMIT ?",
        [limit],
    ).fetchall()
    return Difference(added, removed, changed, key, tuple(examples))


def _columns(sql: duckdb.DuckDBPyConnection, table: str) -> set[str]:
    return {str(name) for (name,) in sql.execute(f"SELECT column_name FROM (DESCRIBE {table})").fetchall()}


def _count(sql: duckdb.DuckDBPyConnection, rows: str) -> int:
    found = sql.execute(f"SELECT count(*) FROM {rows}").fetchone()
    return int(found[0]) if found else 0


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)


@contextmanager
def _engine() -> Iterator[duckdb.DuckDBPyConnection]:
    with tempfile.TemporaryDirectory(prefix="crm-diff-") as folder:
        sql = duckdb.connect(
            str(Path(folder) / "diff.duckdb"),
            config={
                "memory_limit": f"{MEMORY_MB}MB",
                "temp_directory": folder,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
            },
        )
        try:
            sql.execute("SET TimeZone = 'UTC'")
            yield sql
        finally:
            sql.close()
