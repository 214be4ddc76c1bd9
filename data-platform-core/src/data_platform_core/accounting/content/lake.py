"""Bronze against the ledger's digests, and silver against bronze decoded anew: every row of the run, every column."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing import get_context

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.accounting.content.engine import Engine, Side
from data_platform_core.accounting.content.wire import BRONZE_COLUMNS, BYTES, SilverOf, decode_batch, set_decoder
from data_platform_core.accounting.equations import Ledger, positions_of
from data_platform_core.accounting.lake_reader import LakeReader
from data_platform_core.accounting.verdict import Longs, Violation
from data_platform_core.contracts import Contract
from data_platform_core.naming import landing_prefix
from data_platform_core.wire.columns import BRONZE_PARTITION
from data_platform_core.wire.ledger import Outcome

_SILVER_KEY = ("kafka_partition", "kafka_offset")
#: Rows that are decoded at a time.
_DECODE_ROWS = 20_000
#: From so many batches on, processes of their own pay for their start, a second of CPU each.
_WORTH_PROCESSES = 6


def check_lake(
    engine: Engine, lake: LakeReader, contract: Contract, run_id: str, ledger: Ledger, schemas: Mapping[int, str]
) -> list[Violation]:
    """A8 for bronze and silver of a run. Leaves silver's rows of the run in the engine's table `silver`.

    `schemas` are the subject's writer schemas by id. Raises ServiceError when a table can't be read.
    """
    expected = SilverOf(contract, schemas)
    engine.load("silver", lake.scan(contract.names.silver, expected.schema.names[1:], run_id))
    _load_ledger(engine, ledger)
    bronze = lake.scan(contract.names.bronze, (*BRONZE_COLUMNS, "topic", BRONZE_PARTITION), run_id)
    batches = _judged(bronze, expected, _positions(engine), (contract.names.topic, landing_prefix(run_id)))
    engine.load("bronze", pa.RecordBatchReader.from_batches(expected.batch_schema, batches))
    engine.sql.execute("CREATE OR REPLACE VIEW decoded AS SELECT * FROM bronze WHERE decodes")
    engine.sql.execute(
        "CREATE OR REPLACE VIEW sent AS "
        f"SELECT origin_producer_id AS producer_id, origin_seq AS seq, {BYTES} FROM bronze"
    )
    return [
        *_without_digest(engine),
        *engine.differences(
            Side("sent", "bronze"), Side("ledger", "the ledger"), ("producer_id", "seq"), (BYTES,), matching=True
        ),
        *_misplaced(engine),
        *engine.differences(
            Side("silver", "silver"), Side("decoded", "bronze decoded"), _SILVER_KEY, expected.schema.names[1:]
        ),
    ]


def _judged(
    bronze: Iterable[pa.RecordBatch], expected: SilverOf, in_silver: Longs, topics: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    wanted = (_wanted(batch, in_silver, topics) for batch in joined(bronze, _DECODE_ROWS))
    first = list(islice(wanted, _WORTH_PROCESSES))
    if len(first) < _WORTH_PROCESSES:
        yield from map(expected.batch, first)
        return
    # The decoder is Python: only processes put the other cores to work.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), set_decoder, (expected,)) as pool:
        waiting: deque[Future[pa.RecordBatch]] = deque()
        for batch in chain(first, wanted):
            waiting.append(pool.submit(decode_batch, batch))
            if len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


def _wanted(batch: pa.RecordBatch, in_silver: Longs, topics: tuple[str, ...]) -> pa.RecordBatch:
    """Bronze's rows, `wanted` where silver has them: the others are dead letters or duplicates, which A4 judges."""
    wanted = _members(positions_of(pa.Table.from_batches([batch])), in_silver)
    in_place = pc.and_(
        pc.is_in(batch["topic"], value_set=pa.array(topics, pa.string())),
        pc.equal(batch[BRONZE_PARTITION], batch["kafka_ts"].cast(pa.date32())),
    )
    columns = {name: batch[name] for name in BRONZE_COLUMNS}
    return pa.record_batch({**columns, "wanted": pa.array(wanted), "in_place": in_place})


def joined(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at least `rows`: a stream's files hold some thousand each."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(map(len, held)) >= rows:
            yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]
            held = []
    if held and sum(map(len, held)):
        yield pa.Table.from_batches(held).combine_chunks().to_batches()[0]


def _without_digest(engine: Engine) -> list[Violation]:
    return engine.violations(
        "acknowledged records whose ledger has no digest: a generator from before digests sent them",
        f"SELECT 'producer_id=' || producer_id || ' seq=' || seq FROM ledger_rows WHERE outcome = '{Outcome.OK}' "
        "AND digest IS NULL",
    )


def _misplaced(engine: Engine) -> list[Violation]:
    return engine.violations(
        f"rows of bronze whose topic or {BRONZE_PARTITION} is not their own",
        "SELECT 'partition=' || kafka_partition || ' offset=' || kafka_offset FROM bronze WHERE NOT in_place",
    )


def _members(positions: Longs, of: Longs) -> npt.NDArray[np.bool_]:
    """Which are among `of`, which is sorted: `np.isin` would sort it anew for each batch."""
    if not len(of):
        return np.zeros(len(positions), dtype=bool)
    return of[np.minimum(np.searchsorted(of, positions), len(of) - 1)] == positions


def _positions(engine: Engine) -> Longs:
    """Sorted positions of silver's rows of the run."""
    return np.sort(
        positions_of(engine.sql.sql(f"SELECT {', '.join(_SILVER_KEY)} FROM silver").to_arrow_table(), "kafka_")
    )


def _load_ledger(engine: Engine, ledger: Ledger) -> None:
    rows = ledger.rows.select(["producer_id", "seq", "digest", "outcome"])
    engine.load("ledger_rows", rows.to_reader())
    engine.sql.execute(
        f"CREATE OR REPLACE VIEW ledger AS SELECT producer_id, seq, digest AS {BYTES} FROM ledger_rows "
        "WHERE digest IS NOT NULL"
    )
