"""Records at the limits of a contract's types, derived from its schema and its contract file.

For every field: the limits of its type, every number and day that a check names with the adjacent values, the bound of
its length and one more, empty, huge, Unicode of every kind, bytes that are not UTF-8, null. `singles` has each of them
once, in a record that is otherwise good; `combinations` is a strategy for several at once. A new field or bound of a
contract is covered without a change here.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import oracle
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracle import CENTURY_MS, DAY_MS, LAST_MS, Record

from data_platform_core.contracts import Contract

#: Fields that name the send: in a record with false ones the origin header can't be true.
OF_THE_SEND = ("run_id", "producer_id", "seq")
_EPOCH = date(1970, 1, 1)
_INT, _LONG = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_SMALL, _HUGE = 9_000, 900_000
#: Unicode that keeps a text's characters apart, so that an identifier stays one: astral, combining, right to left.
_DISGUISES = (0x10000, 0x300, 0x600)
_TEXTS = (
    "", " ", "\0", "a\0b", "\\N", "\\.", "\\", "\\\\", "\t\n\r\x0b\x0c", "\x1b[31m", "\x7f", "\u2028", "\ufeff",
    "\ufffd", "\uffff", "\U0010ffff", "\u202egnp.exe", "e\u0301\u0327", "\U0001f469\u200d\U0001f467", "\u0645", "한",
    "'", '"', "';--", "{{ this }}", "%s{0}", "null", "NaN", "infinity", "a/b/../c", "-", "\u0130\u0131ß",
    b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"abc\x80",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A record, the fields that it is extreme in, and these with their values for a person to read."""

    entity: str
    fields: tuple[str, ...]
    label: str
    record: Record

    @property
    def is_foreign(self) -> bool:
        """Whether it names a send that is not its own."""
        return any(name in OF_THE_SEND for name in self.fields)


@dataclass(frozen=True)
class Arrival:
    """When records arrive, ms since 1970, and how far from a bound that depends on it a time must stay."""

    ms: int
    slack_ms: int = 1

    @property
    def day(self) -> int:
        return self.ms // DAY_MS

    @property
    def slack_days(self) -> int:
        return -(-self.slack_ms // DAY_MS)


def singles(contract: Contract, bases: list[Record], arrival: Arrival, huge: bool = False) -> list[Example]:
    """Each extreme of each field in a good record; where it needs good values in other fields, also with those."""
    ends, found = _Ends(contract, arrival, huge), list[Example]()
    for field in contract.avro["fields"]:
        name = field["name"]
        for value in ends.of(name, field["type"], bases[0][name]):
            found += _placed(contract, bases, name, value, arrival)
    return [_own(contract, example, number) for number, example in enumerate(found)]


def _placed(contract: Contract, bases: list[Record], name: str, value: Any, arrival: Arrival) -> Iterator[Example]:
    """The value in the first base that stays good with it; and once for each set of rules that it breaks."""
    label = f"{name}={_shown(value)}"
    seen: set[frozenset[str]] = {frozenset()}
    for base in bases:
        plain = base | {name: value}
        reasons = oracle.broken(contract, plain, arrival.ms)
        if reasons not in seen:
            seen.add(reasons)
            yield Example(contract.entity, (name,), label, plain)
    for base in bases:
        cured = oracle.mended(contract, base | {name: value}, arrival.ms, keep=name)
        if cured[name] == value and not oracle.broken(contract, cured, arrival.ms):
            yield Example(contract.entity, (name,), label, cured)
            return


def combinations(
    contract: Contract, bases: list[Record], arrival: Arrival, count: int, first_number: int
) -> list[Example]:
    """`count` records with several extremes at once, or with values anywhere in their types; always the same ones."""
    ends = _Ends(contract, arrival, huge=False)
    values = {
        field["name"]: ends.anything(field["name"], field["type"], bases[0][field["name"]])
        for field in contract.avro["fields"]
    }
    changes = st.lists(st.sampled_from(sorted(values)), min_size=2, max_size=5, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: values[name] for name in names})
    )
    found: list[Example] = []

    @settings(max_examples=count, derandomize=True, database=None, phases=[Phase.generate], deadline=None)
    @given(st.sampled_from(bases), changes, st.booleans())
    def collect(base: Record, changed: Record, cure: bool) -> None:
        record = base | changed
        if cure:
            record = oracle.mended(contract, record, arrival.ms)
        label = " ".join(f"{name}={_shown(value)}" for name, value in changed.items())
        found.append(Example(contract.entity, tuple(changed), label, record))

    collect()
    return [_own(contract, example, first_number + number) for number, example in enumerate(found)]


def _own(contract: Contract, example: Example, number: int) -> Example:
    """Every record is its own event: equal ones would be dropped as duplicates. An extreme id is kept.

    Half of them also have their own entity key: versions of one key replace each other, and sums count only the last.
    """
    changes: Record = {}
    found = example.record["event_id"]
    if isinstance(found, str) and len(found) == 36:
        shift = ord(found[0]) - ord(found[0]) % 0x100
        changes["event_id"] = "".join(chr(shift + ord(digit)) for digit in f"{number:08x}") + found[8:]
    if contract.key not in example.fields and number % 4 < 2:
        key = example.record[contract.key]
        changes[contract.key] = key + 1_000_000 * (number + 1) if isinstance(key, int) else f"{key}-{number}"
    return replace(example, record=example.record | changes)


@dataclass(frozen=True)
class _Ends:
    """The limits of each type as the contract uses it, in a stable order: hypothesis draws the same in each process."""

    contract: Contract
    arrival: Arrival
    huge: bool

    def of(self, name: str, kind: Any, base: Any) -> Iterator[Any]:
        """Extreme values of a field (`lines.note` inside a list) of Avro type `kind`; `base` is a good one."""
        if isinstance(kind, list):
            yield None
            for branch in kind:
                yield from self.of(name, branch, base) if branch != "null" else ()
        elif isinstance(kind, str):
            yield from self._primitive(name, kind, base)
        else:
            yield from self._complex(name, kind, base)

    def anything(self, name: str, kind: Any, base: Any) -> st.SearchStrategy[Any]:
        """An extreme, or any value of the type near what the contract allows."""
        extreme = st.sampled_from(list(self.of(name, kind, base)))
        if name in self.contract.accepted_values:
            return st.sampled_from(self.contract.accepted_values[name]) | extreme
        if name in self.contract.max_lengths and isinstance(base, str | None):
            most = self.contract.max_lengths[name]
            return st.text(st.characters(codec="utf-8"), max_size=most) | st.binary(min_size=1, max_size=40) | extreme
        inner = next(branch for branch in kind if branch != "null") if isinstance(kind, list) else kind
        if inner in ("int", "long"):
            return st.integers(*(_INT if inner == "int" else _LONG)) | st.integers(0, 10) | extreme
        if isinstance(inner, dict) and inner.get("logicalType") == "timestamp-millis":
            return st.integers(CENTURY_MS, self.arrival.ms - 3 * DAY_MS) | extreme
        return extreme

    def _complex(self, name: str, kind: Any, base: Any) -> Iterator[Any]:
        logical = {"timestamp-millis": self._times, "date": self._days}.get(kind.get("logicalType"))
        nested = {"array": self._arrays, "record": self._records, "map": self._maps}.get(kind["type"])
        if logical:
            yield from logical()
        elif nested:
            yield from nested(name, kind, base)
        elif kind["type"] == "enum":
            yield from kind["symbols"]
        else:
            yield from self.of(name, kind["type"], base)

    def _primitive(self, name: str, kind: str, base: Any) -> Iterable[Any]:
        if kind == "string":
            return self._texts(name, base)
        if kind == "boolean":
            return (True, False)
        if kind in ("int", "long"):
            low, high = _INT if kind == "int" else _LONG
            near = {0, 1, -1, 2**31, 2**53, 10**18, low, high} | set(_named_numbers(self.contract))
            return sorted({n + step for n in near for step in (-1, 0, 1) if low <= n + step <= high})
        if kind in ("float", "double"):
            return (0.0, -0.0, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"), float("nan"))
        raise ValueError(f"no extremes for Avro type {kind!r}: add them to tests/support/extremes.py")

    def _texts(self, name: str, base: Any) -> Iterator[str | bytes]:
        column = name.split(".", maxsplit=1)[0]
        yield from _TEXTS
        for value in self.contract.accepted_values.get(column, ()):
            yield from (value, value.upper(), f"{value} ", f" {value}", f"{value}\0", value.encode() + b"\xff")
        if isinstance(base, str) and base:
            for start in _DISGUISES:
                yield "".join(chr(start + ord(letter) % 0x80) for letter in base)
            yield from (base[:-1] + "\0", base[:-1] + "\n", base + "\n", base.encode()[:-1] + b"\xff")
        if column in self.contract.max_lengths:
            most = self.contract.max_lengths[column]
            for first, last in (("!", "~"), ("\U0001d400", "\U0001d7ff"), ("\u0300", "\u036f")):
                yield from (_mixed(first, last, most), _mixed(first, last, most + 1))
            yield from ("x" * (most - 2) + "@x", "x" * (most - 1) + "@x")
        yield _mixed("!", "~", _SMALL)
        if self.huge:
            yield _mixed("!", "~", _HUGE)

    def _arrays(self, name: str, kind: Any, base: Any) -> Iterator[list[Any]]:
        items, item = kind["items"], base[0] if base else None
        yield []
        sizes = {size + step for size in _named_numbers(self.contract) if size <= 20_000 for step in (-1, 0, 1)}
        for size in sorted(sizes | ({oracle.MOST_ITEMS, oracle.MOST_ITEMS + 1} if self.huge else set())):
            if size > 0:
                yield [_least(items)] * size
        for value in self.of(name, items, item):
            yield [value]
            yield [value, item] if item is not None else [value, value]

    def _records(self, name: str, kind: Any, base: Any) -> Iterator[Record]:
        for field in kind["fields"]:
            for value in self.of(f"{name}.{field['name']}", field["type"], base[field["name"]]):
                yield base | {field["name"]: value}

    def _maps(self, name: str, kind: Any, base: Any) -> Iterator[Record]:
        yield {}
        value = next(iter(base.values()))
        yield from ({"key": end} for end in self.of(name, kind["values"], value))
        yield from ({end: value} for end in self._texts(name, "key"))

    def _times(self) -> Iterable[int]:
        now, slack = self.arrival.ms, self.arrival.slack_ms
        late = now - self.contract.silver.allowed_lateness_minutes * 60_000
        midnight = now - now % DAY_MS
        return sorted({
            CENTURY_MS - 1, CENTURY_MS, now, now + DAY_MS - slack, now + DAY_MS + slack, late - slack, late + slack,
            midnight - 1, midnight, -1, 0, 1, now // 1000, now * 1000, LAST_MS, LAST_MS + 1, -LAST_MS, -LAST_MS - 1,
            253_402_300_799_999, 253_402_300_800_000, -62_135_596_800_001, -62_167_219_200_001, 1_709_164_800_000,
            1_774_742_400_000, now - DAY_MS, now - 400 * DAY_MS, *_LONG,
        })  # fmt: skip

    def _days(self) -> Iterable[int]:
        today, slack = self.arrival.day, self.arrival.slack_days
        named = {date.fromisoformat(found) for found in re.findall(r"DATE '(\d{4}-\d\d-\d\d)'", _checks(self.contract))}
        edges = {(day - _EPOCH) // timedelta(days=1) for day in named} | {0, -719_162, -719_528, 2_932_896, -2_440_588}
        edges |= {106_751_991, 106_751_992, -106_751_992, 2_145_031_948, *_INT}
        near = {day + step for day in edges for step in (-1, 0, 1) if _INT[0] <= day + step <= _INT[1]}
        return sorted(near | {today - 1, today, today + 2 - slack, today + 1 + slack})


def _mixed(first: str, last: str, length: int) -> str:
    """Text that no stage can shorten by compression."""
    return "".join(map(chr, random.Random(length).choices(range(ord(first), ord(last) + 1), k=length)))


def _least(kind: Any) -> Any:
    """The shortest item that is not nothing."""
    if isinstance(kind, dict) and kind["type"] == "record":
        return {field["name"]: _least(field["type"]) for field in kind["fields"]}
    return {"string": "x", "boolean": True}.get(kind, 1) if isinstance(kind, str) else None


def _named_numbers(contract: Contract) -> list[int]:
    """The whole numbers that the checks name."""
    text = re.sub(r"'[^']*'", "", _checks(contract))
    return sorted({int(number) for number in re.findall(r"\b(\d+)L?\b", text)})


def _checks(contract: Contract) -> str:
    return "\n".join(contract.checks.values())


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{len(value)} items: {_shown(value[0])}]" if value else "[]"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(value) if hasattr(value, '__len__') else '?'})"
