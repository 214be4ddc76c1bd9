"""Bronze and silver as delta-rs reads them: only the columns that an equation needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from data_platform_core.accounting.equations import positions_of
from data_platform_core.accounting.verdict import Longs
from data_platform_core.contracts import Contract
from data_platform_core.kafka.serialisation import DecodeError, decode
from data_platform_core.lake.delta import delta_table, store_errors, table_rows
from data_platform_core.settings import ObjectStoreSettings

_BRONZE_COLUMNS = ["producer_id", "seq", "partition", "offset", "key"]
_SILVER_COLUMNS = ["producer_id", "seq", "kafka_partition", "kafka_offset", "kafka_ts", "is_late", "event_id"]
#: Rows of a batch: large enough for Arrow, some 20 MB of bronze.
SCAN_ROWS = 50_000


class LakeReader:
    """One entity's tables, each at the version it had when first asked for. Raises ServiceError."""

    def __init__(self, settings: ObjectStoreSettings, contract: Contract) -> None:
        self._settings = settings
        self._contract = contract
        self._tables: dict[tuple[str, int | None], Any] = {}

    def bronze_positions(self) -> Longs:
        """Packed (partition, offset) of every row of every run."""
        return positions_of(self._read(self._contract.names.bronze, ["partition", "offset"]))

    def silver_positions(self) -> Longs:
        """Packed (partition, offset) of every row of every run."""
        rows = self._read(self._contract.names.silver, ["kafka_partition", "kafka_offset"])
        return positions_of(rows, "kafka_")

    def bronze_of(self, run_id: str) -> pa.Table:
        return self._read(self._contract.names.bronze, _BRONZE_COLUMNS, ds.field("run_id") == run_id)

    def silver_of(self, run_id: str) -> pa.Table:
        return self._read(self._contract.names.silver, _SILVER_COLUMNS, ds.field("run_id") == run_id)

    def silver_columns(self, columns: Iterable[str], version: int | None = None, run_id: str | None = None) -> pa.Table:
        """`columns` of every row (of `run_id` only, when given), at `version` of the table (default: the newest)."""
        rows = None if run_id is None else ds.field("run_id") == run_id
        return self._read(self._contract.names.silver, list(columns), rows, version)

    def scan(self, folder: str, columns: Iterable[str], run_id: str) -> pa.RecordBatchReader:
        """A run's rows of a table (`names.bronze` or `names.silver`), a batch at a time."""
        with store_errors(self._settings, self._settings.lake_bucket):
            scanner = self._dataset(folder).scanner(
                columns=list(columns),
                filter=ds.field("run_id") == run_id,
                batch_size=SCAN_ROWS,
                batch_readahead=2,
                fragment_readahead=2,
            )
            return scanner.to_reader()

    def repeats(self, run_id: str, candidates: Longs, schemas: Mapping[int, str]) -> dict[int, int]:
        """Where silver has the event that the bronze record at each of `candidates` (positions) repeats.

        -1 when its bytes do not decode or silver does not have its event_id.
        """
        if not len(candidates):
            return {}
        ids = self._event_ids(run_id, candidates, schemas)
        originals = self._places(ids.values())
        return {position: originals.get(ids.get(position, ""), -1) for position in candidates.tolist()}

    def _event_ids(self, run_id: str, candidates: Longs, schemas: Mapping[int, str]) -> dict[int, str]:
        found: dict[int, str] = {}
        columns = ["partition", "offset", "value"]
        dataset = self._dataset(self._contract.names.bronze)
        with store_errors(self._settings, self._settings.lake_bucket):
            for batch in dataset.to_batches(columns=columns, filter=ds.field("run_id") == run_id):
                rows = pa.Table.from_batches([batch])
                positions = positions_of(rows)
                mine = np.isin(positions, candidates)
                values = rows["value"].filter(pa.array(mine)).to_pylist()
                for position, value in zip(positions[mine].tolist(), values, strict=True):
                    event_id = _event_id(value, schemas)
                    if event_id is not None:
                        found[position] = event_id
        return found

    def _places(self, event_ids: Iterable[str]) -> dict[str, int]:
        wanted = pa.array(sorted(set(event_ids)), pa.string())
        columns = ["event_id", "kafka_partition", "kafka_offset"]
        places: list[tuple[str, int]] = []
        with store_errors(self._settings, self._settings.lake_bucket):
            # Keys are random: no file can be skipped, so the filter is not pushed down.
            for batch in self._dataset(self._contract.names.silver).to_batches(columns=columns):
                rows = pa.Table.from_batches([batch])
                rows = rows.filter(pc.is_in(rows["event_id"].cast(pa.string()), value_set=wanted))
                places += zip(rows["event_id"].to_pylist(), positions_of(rows, "kafka_").tolist(), strict=True)
        # Of several the first arrival: what comes later is judged elsewhere.
        return dict(sorted(places, key=lambda place: place[1], reverse=True))

    def _table(self, folder: str, version: int | None = None) -> Any:
        key = (folder, version)
        if key not in self._tables:
            self._tables[key] = delta_table(self._settings, folder, version)
        return self._tables[key]

    def _dataset(self, folder: str, version: int | None = None) -> Any:
        return table_rows(self._settings, self._table(folder, version))

    def _read(self, folder: str, columns: list[str], rows: Any = None, version: int | None = None) -> pa.Table:
        dataset = self._dataset(folder, version)
        with store_errors(self._settings, self._settings.lake_bucket):
            return dataset.to_table(columns=columns, filter=rows)


def _event_id(value: bytes | None, schemas: Mapping[int, str]) -> str | None:
    try:
        return str(decode(value, schemas)["event_id"])
    except (DecodeError, KeyError):
        return None
