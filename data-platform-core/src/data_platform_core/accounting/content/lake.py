"""Bronze against the ledger's digests, and silver against bronze decoded anew: every row of the run, every column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.accounting.content.engine import Engine, Side
from data_platform_core.accounting.content.wire import BRONZE_COLUMNS, SilverOf, digests
from data_platform_core.accounting.equations import Ledger, positions_of
from data_platform_core.accounting.lake_reader import LakeReader
from data_platform_core.accounting.verdict import Longs, Violation
from data_platform_core.contracts import Contract
from data_platform_core.ledger import Outcome
from data_platform_core.naming import landing_prefix

_SILVER_KEY = ("kafka_partition", "kafka_offset")
#: What a digest stands for, in a report's words.
_BYTES = "bytes"


def check_lake(
    engine: Engine, lake: LakeReader, contract: Contract, run_id: str, ledger: Ledger, schemas: Mapping[int, str]
) -> list[Violation]:
    """A8 for bronze and silver of a run. Leaves silver's rows of the run in the engine's table `silver`.

    `schemas` are the subject's writer schemas by id. Raises ServiceError when a table can't be read.
    """
    expected = SilverOf(contract, schemas)
    engine.load("silver", lake.scan(contract.names.silver, expected.schema.names[1:], run_id))
    _load_ledger(engine, ledger)
    bronze = lake.scan(contract.names.bronze, (*BRONZE_COLUMNS, "topic", "ingest_date"), run_id)
    batches = _judged(bronze, expected, _positions(engine), (contract.names.topic, landing_prefix(run_id)))
    schema = pa.schema([*_BRONZE_EXTRA, *expected.schema])
    engine.load("bronze", pa.RecordBatchReader.from_batches(schema, batches))
    engine.sql.execute("CREATE OR REPLACE VIEW decoded AS SELECT * FROM bronze WHERE decodes")
    engine.sql.execute(
        "CREATE OR REPLACE VIEW sent AS "
        f"SELECT origin_producer_id AS producer_id, origin_seq AS seq, {_BYTES} FROM bronze"
    )
    return [
        *_without_digest(engine),
        *engine.differences(
            Side("sent", "bronze"), Side("ledger", "the ledger"), ("producer_id", "seq"), (_BYTES,), matching=True
        ),
        *_misplaced(engine),
        *engine.differences(
            Side("silver", "silver"), Side("decoded", "bronze decoded"), _SILVER_KEY, expected.schema.names[1:]
        ),
    ]


#: Beside silver's columns, of each row of bronze: its send, its digest, whether topic and day are its own.
_BRONZE_EXTRA = (
    pa.field("origin_producer_id", pa.int32()),
    pa.field("origin_seq", pa.int64()),
    pa.field(_BYTES, pa.uint64()),
    pa.field("in_place", pa.bool_()),
)


def _judged(
    bronze: pa.RecordBatchReader, expected: SilverOf, in_silver: Longs, topics: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    for batch in bronze:
        rows = pa.Table.from_batches([batch])
        # Only what silver has must decode: the others are dead letters or duplicates, which A4 judges.
        wanted = pa.array(np.isin(positions_of(rows), in_silver))
        values = pc.if_else(wanted, rows["value"], pa.scalar(None, rows["value"].type))
        decoded = expected.rows(rows.set_column(rows.column_names.index("value"), "value", values))
        in_place = pc.and_(
            pc.is_in(rows["topic"], value_set=pa.array(topics, pa.string())),
            pc.equal(rows["ingest_date"], rows["kafka_ts"].cast(pa.date32())),
        )
        extra = (rows["producer_id"], rows["seq"], digests(rows), in_place)
        arrays = [one.combine_chunks() if isinstance(one, pa.ChunkedArray) else one for one in extra]
        yield pa.record_batch([*arrays, *decoded.columns], schema=pa.schema([*_BRONZE_EXTRA, *expected.schema]))


def _without_digest(engine: Engine) -> list[Violation]:
    return engine.violations(
        "acknowledged records whose ledger has no digest: a generator from before digests sent them",
        f"SELECT 'producer_id=' || producer_id || ' seq=' || seq FROM ledger_rows WHERE outcome = '{Outcome.OK}' "
        "AND digest IS NULL",
    )


def _misplaced(engine: Engine) -> list[Violation]:
    return engine.violations(
        "rows of bronze whose topic or ingest_date is not their own",
        "SELECT 'partition=' || kafka_partition || ' offset=' || kafka_offset FROM bronze WHERE NOT in_place",
    )


def _positions(engine: Engine) -> Longs:
    return positions_of(engine.sql.sql(f"SELECT {', '.join(_SILVER_KEY)} FROM silver").to_arrow_table(), "kafka_")


def _load_ledger(engine: Engine, ledger: Ledger) -> None:
    rows = ledger.rows.select(["producer_id", "seq", "digest", "outcome"])
    engine.load("ledger_rows", rows.to_reader())
    engine.sql.execute(
        f"CREATE OR REPLACE VIEW ledger AS SELECT producer_id, seq, digest AS {_BYTES} FROM ledger_rows "
        "WHERE digest IS NOT NULL"
    )
