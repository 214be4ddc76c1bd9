"""What a contract decides for a record, computed without Spark: the names of the rules that it breaks.

Rules that every contract has are derived from its schema. A contract's own checks are SQL there and Python here, by
name; one that is missing here is an error, so that each new check is also implemented here.

A record is its wire level: times in ms, days since 1970, text as `str` or, when it need not be UTF-8, `bytes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from data_platform_core.contracts import Contract

Record = dict[str, Any]

#: What decodes to a time at all: Spark counts in microseconds.
LAST_MS = (2**63 - 1) // 1000
CENTURY_MS = 946_684_800_000
DAY_MS = 86_400_000
HISTORICAL = ("backfill", "seed")
MOST_ITEMS = 100_000
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Rule:
    """`holds(record, arrival in ms)`; each of `mends` changes a record so that it holds."""

    holds: Callable[[Record, int], bool]
    mends: tuple[Callable[[Record], Record], ...] = ()


def broken(contract: Contract, record: Record, arrival_ms: int) -> frozenset[str]:
    """The reasons for which the record may become a dead letter; none for one that satisfies its contract."""
    if not _decodes(contract, record):
        return frozenset({"undecodable"})
    lengths = contract.max_lengths  # derived from the schema each time
    found = {f"{name}_text" for name in lengths if not all(map(storable, texts(record[name])))}
    record = {name: readable(value) for name, value in record.items()}
    found |= {
        f"{name}_length" for name, most in lengths.items() if any(len(text) > most for text in texts(record[name]))
    }
    found |= {
        f"{name}_accepted"
        for name, values in contract.accepted_values.items()
        if record[name] is not None and record[name] not in values
    }
    for rule, field in (("event_time_plausible", contract.event_time), ("produced_ts_plausible", "produced_ts")):
        if not CENTURY_MS <= record[field] <= arrival_ms + DAY_MS:
            found.add(rule)
    own = RULES[contract.entity]
    assert set(own) == set(contract.checks), f"the oracle must know exactly the checks of {contract.entity}"
    found |= {name for name, rule in own.items() if not rule.holds(record, arrival_ms)}
    return frozenset(f"contract:{name}" for name in found)


def late(contract: Contract, record: Record, arrival_ms: int) -> bool:
    """Whether silver marks the record as late."""
    allowed = contract.silver.allowed_lateness_minutes * 60_000
    return arrival_ms - allowed > record[contract.event_time] and readable(record["source"]) not in HISTORICAL


def mended(contract: Contract, record: Record, arrival_ms: int, keep: str | None = None) -> Record:
    """The record with fields other than `keep` changed so that every rule with `mends` holds."""
    for rule in RULES[contract.entity].values():
        if not rule.holds({name: readable(value) for name, value in record.items()}, arrival_ms):
            cures = [mend(record) for mend in rule.mends]
            record = next((cure for cure in cures if keep is None or cure[keep] == record[keep]), record)
    return record


def texts(value: Any) -> Iterator[str | bytes]:
    """Every piece of text in a value, a map's keys among them; a record's names are short."""
    if isinstance(value, str | bytes):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def storable(text: str | bytes) -> bool:
    """Valid UTF-8 without U+0000."""
    try:
        return "\0" not in (text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError:
        return False


def readable(value: Any) -> Any:
    """The value with its bytes as text."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else value


def _decodes(contract: Contract, record: Record) -> bool:
    for field in contract.avro["fields"]:
        kind, value = field["type"], record[field["name"]]
        if isinstance(kind, dict) and kind.get("logicalType") == "timestamp-millis" and abs(value) > LAST_MS:
            return False
        if isinstance(value, list) and len(value) > MOST_ITEMS:
            return False
    return True


def _total(lines: list[Record]) -> int | None:
    """Quantity times price over the lines; None once it leaves 64 bits."""
    total = 0
    for line in lines:
        product = line["quantity"] * line["unit_price_krw"]
        total += product
        if product not in _INT64 or total not in _INT64:
            return None
    return total


def _with_total(order: Record) -> Record:
    total = _total(order["lines"])
    return order if total is None else order | {"amount_krw": total}


def _with_lines(order: Record) -> Record:
    """A line that is the whole amount."""
    whole = {"quantity": 1, "unit_price_krw": order["amount_krw"]}
    return order | {"lines": [line | whole for line in order["lines"][:1]]}


def _as_review(event: Record) -> Record:
    return event | {"event_type": "review", "rating": event["rating"] or 3, "product_id": event["product_id"] or 1}


def _on_the_site(event: Record) -> Record:
    return (
        event
        | {"site_category": "home" if event["site_category"] is None else event["site_category"]}
        | {"app_category": None}
    )


def _in_the_app(event: Record) -> Record:
    return (
        event
        | {"app_category": "home" if event["app_category"] is None else event["app_category"]}
        | {"site_category": None}
    )


def _card(order: Record) -> Record:
    return order | {"card_fingerprint": "c" * 64 if order["payment_method"] == "card" else None}


def _match(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.DOTALL) is not None


_UUID = Rule(lambda record, _: len(record["event_id"]) == 36)

RULES: dict[str, dict[str, Rule]] = {
    "events": {
        "id_is_uuid": _UUID,
        "product_where_needed": Rule(
            lambda e, _: e["product_id"] is not None or e["event_type"] in ("page_view", "search"),
            (lambda e: e | {"product_id": 1}, lambda e: e | {"event_type": "search", "rating": None}),
        ),
        "one_category": Rule(
            lambda e, _: (e["site_category"] is None) != (e["app_category"] is None),
            (_on_the_site, _in_the_app),
        ),
        "banner_only_when_shown": Rule(
            lambda e, _: (
                e["banner_position"] is None
                or (e["banner_position"] >= 0 and e["event_type"] in ("impression", "click"))
            ),
            (lambda e: e | {"banner_position": None}, lambda e: e | {"event_type": "click", "rating": None}),
        ),
        "rating_of_reviews": Rule(
            lambda e, _: (e["rating"] is not None) == (e["event_type"] == "review"),
            (_as_review, lambda e: e | {"rating": None}),
        ),
        "rating_in_range": Rule(lambda e, _: e["rating"] is None or 1 <= e["rating"] <= 5),
    },
    "orders": {
        "id_is_uuid": _UUID,
        "has_lines": Rule(lambda o, _: len(o["lines"]) > 0),
        "amount_is_sum_of_lines": Rule(lambda o, _: o["amount_krw"] == _total(o["lines"]), (_with_total, _with_lines)),
        "quantities_positive": Rule(
            lambda o, _: all(line["quantity"] > 0 and line["unit_price_krw"] >= 0 for line in o["lines"])
        ),
        "lines_in_bounds": Rule(lambda o, _: len(o["lines"]) <= 10_000),
        "amounts_in_bounds": Rule(
            lambda o, _: (
                o["amount_krw"] <= 10**12
                and all(line["quantity"] <= 10**6 and line["unit_price_krw"] <= 10**12 for line in o["lines"])
            )
        ),
        "card_hashed": Rule(
            lambda o, _: o["card_fingerprint"] is None or _match("[0-9a-f]{64}", o["card_fingerprint"])
        ),
        "card_only_for_cards": Rule(
            lambda o, _: (o["card_fingerprint"] is not None) == (o["payment_method"] == "card"), (_card,)
        ),
    },
    "products": {
        "id_is_uuid": _UUID,
        "price_not_negative": Rule(lambda p, _: p["price_krw"] >= 0),
        "price_in_bounds": Rule(lambda p, _: p["price_krw"] <= 10**12),
        "stock_not_negative": Rule(lambda p, _: p["stock"] >= 0),
    },
    "profiles": {
        "id_is_uuid": _UUID,
        "email_has_at": Rule(lambda p, _: _match(".+@.+", p["email"])),
        "signup_plausible": Rule(lambda p, arrival: _day(1900, 1, 1) <= p["signup_date"] <= arrival // DAY_MS + 1),
    },
}


def _day(year: int, month: int, day: int) -> int:
    return (date(year, month, day) - date(1970, 1, 1)) // timedelta(days=1)
