"""A5: counts and amounts of silver beside those of the warehouse, as pure functions of small tables.

Sums are compared per group, a day and a kind (event type, order status, ...), in whole rows and whole KRW. Two sums are
equal or not: nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from data_platform_core.accounting.verdict import EXAMPLES, Violation

#: The day of a mart that keeps one row per thing, not per day.
NO_DAY = "-"
#: The kind that stands for all of them.
ANY = "all"


class Group(NamedTuple):
    day: str  # ISO date, or NO_DAY
    kind: str


class Total(NamedTuple):
    rows: int
    krw: int = 0

    def __str__(self) -> str:
        return f"{self.rows:,} rows" + (f" {self.krw:,} KRW" if self.krw else "")


Sums = Mapping[Group, Total]

#: Order of what was produced at one moment: a key may be in several partitions, a foreign producer chooses.
_WITHIN_A_MOMENT = ("kafka_offset", "kafka_partition")
#: Holds a sum of 10^19 amounts of any int64.
_EXACT = pa.decimal128(38, 0)


#: Columns of silver that every sum needs.
SUMMED_COLUMNS = ("event_date", "event_ts", "produced_ts", *_WITHIN_A_MOMENT, "run_id")


@dataclass(frozen=True)
class Measure:
    """What is counted: rows per `kind` where there is one, and the sum of `amount` (KRW) where there is one."""

    kind: str | None = None
    amount: str | None = None


def sums(rows: pa.Table, measure: Measure, day: str | None = "event_date") -> Sums:
    """Totals per day and kind of `rows` (silver's columns). `day` None: of all days together."""
    keys = [column for column in (day, measure.kind) if column]
    counted: list[tuple[object, str]] = [([], "count_all")]
    if measure.amount:
        # Arrow's sum of whole numbers wraps around in silence.
        at = rows.column_names.index(measure.amount)
        rows = rows.set_column(at, measure.amount, rows[measure.amount].cast(_EXACT))
        counted.append((measure.amount, "sum"))
    found: dict[Group, Total] = {}
    for row in rows.group_by(keys).aggregate(counted).to_pylist():
        group = Group(row[day].isoformat() if day else NO_DAY, str(row[measure.kind]) if measure.kind else ANY)
        found[group] = Total(row["count_all"], int(row[f"{measure.amount}_sum"] or 0) if measure.amount else 0)
    return found


def latest(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """The newest version of each `key`: by event time, then production time, offset and partition."""
    order = [(column, "ascending") for column in ("event_ts", "produced_ts", *_WITHIN_A_MOMENT)]
    ordered = rows.sort_by(order)
    ordered = ordered.append_column("_row", pa.array(range(len(ordered)), pa.int64()))
    newest = ordered.group_by(list(key)).aggregate([("_row", "max")])["_row_max"]
    return ordered.take(newest).drop_columns("_row")


def not_replaced(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """Of rows that are one state of one thing, sent again (equal `key`: thing and kind), the one produced last."""
    ordered = rows.sort_by([(column, "ascending") for column in ("produced_ts", *_WITHIN_A_MOMENT)])
    ordered = ordered.append_column("_row", pa.array(range(len(ordered)), pa.int64()))
    newest = ordered.group_by(list(key)).aggregate([("_row", "max")])["_row_max"]
    return ordered.take(newest).drop_columns("_row")


def with_business_date(rows: pa.Table, timezone: str) -> pa.Table:
    """`rows` with the day of `event_ts` in `timezone` as `business_date`."""
    local = pc.local_timestamp(
        rows["event_ts"].cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us", tz=timezone))
    )
    return rows.append_column("business_date", local.cast(pa.date32()))


def of_run(rows: pa.Table, run_id: str) -> pa.Table:
    """The rows of one run."""
    return rows.filter(pc.equal(rows["run_id"], run_id))


def having(rows: pa.Table, values: Mapping[str, str]) -> pa.Table:
    """The rows with these values, by column."""
    for column, value in values.items():
        rows = rows.filter(pc.equal(rows[column], value))
    return rows


def only(found: Sums, kinds: Iterable[str]) -> Sums:
    """The groups of `kinds`; ANY among them adds the sum over every kind, per day."""
    wanted = set(kinds)
    picked = {group: total for group, total in found.items() if group.kind in wanted}
    if ANY in wanted:
        for group, total in found.items():
            every = Group(group.day, ANY)
            so_far = picked.get(every, Total(0))
            picked[every] = Total(so_far.rows + total.rows, so_far.krw + total.krw)
    return picked


def total_rows(found: Sums) -> int:
    """Rows over all groups."""
    return sum(total.rows for total in found.values())


def a5_sums(silver: Sums, name: str, other: Sums) -> list[Violation]:
    """Each group of `name` has silver's total, and there are no others. A group that is absent has a total of 0."""
    nothing = Total(0)
    differing = sorted(group for group in {*silver, *other} if silver.get(group, nothing) != other.get(group, nothing))
    if not differing:
        return []
    examples = tuple(
        f"{group.day} {group.kind}: {other.get(group, nothing)}, silver {silver.get(group, nothing)}"
        for group in differing[:EXAMPLES]
    )
    return [Violation(f"groups of {name} that differ from silver", len(differing), examples)]
