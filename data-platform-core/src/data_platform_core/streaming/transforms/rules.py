"""A contract's rules as Spark SQL: the common ones, derived from its schema, then its own checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from data_platform_core.contracts import Contract

#: Makes the condition for a text value, from the SQL expression of that value.
_Rule = Callable[[str], str]


def contract_checks(contract: Contract) -> dict[str, str]:
    """Spark SQL condition by check name, in the order of evaluation.

    Plausible times, text that every stage can store, its length, accepted values, the contract's own checks. Conditions
    may use the contract's columns and Kafka's (`kafka_ts` is the broker's clock).
    """
    types = {field["name"]: field["type"] for field in contract.avro["fields"]}
    times = {
        "event_time_plausible": _plausible(contract.event_time),
        "produced_ts_plausible": _plausible("produced_ts"),
    }
    texts = {f"{column}_text": _every_text(types[column], column, _storable) for column in contract.max_lengths}
    lengths = {
        f"{column}_length": _every_text(types[column], column, _at_most(characters))
        for column, characters in contract.max_lengths.items()
    }
    accepted = {
        f"{column}_accepted": f"{column} IS NULL OR {column} IN ({', '.join(repr(value) for value in values)})"
        for column, values in contract.accepted_values.items()
    }
    return {**times, **texts, **lengths, **accepted, **contract.checks}


def _plausible(time: str) -> str:
    """A time neither before this century nor well after its arrival. Catches microseconds sent as milliseconds."""
    return f"{time} >= TIMESTAMP '2000-01-01' AND {time} <= kafka_ts + INTERVAL 1 DAY"


def _storable(text: str) -> str:
    """Text that every stage stores unchanged.

    Avro and Spark accept any bytes. PostgreSQL refuses invalid UTF-8 and U+0000. Other readers of the lake fail on
    invalid UTF-8.
    """
    return f"is_valid_utf8({text}) AND locate(char(0), {text}) = 0"


def _at_most(characters: int) -> _Rule:
    return lambda text: f"length({text}) <= {characters}"


def _every_text(avro_type: Any, value: str, rule: _Rule, depth: int = 0) -> str:
    """`rule` for each text in `value` of `avro_type`; null contains none. Returns "" if the type has no text."""
    if isinstance(avro_type, list):
        branches = [branch for branch in avro_type if branch != "null"]
        return _every_text(branches[0], value, rule, depth) if len(branches) == 1 else ""
    if isinstance(avro_type, str):
        return f"({value} IS NULL OR ({rule(value)}))" if avro_type == "string" else ""
    kind, item = avro_type["type"], f"x{depth}"
    inner: Iterable[str]
    if kind == "record":
        inner = (_every_text(field["type"], f"{value}.{field['name']}", rule, depth) for field in avro_type["fields"])
    elif kind == "array":
        inner = (_forall(value, item, _every_text(avro_type["items"], item, rule, depth + 1)),)
    elif kind == "map":
        values = _every_text(avro_type["values"], item, rule, depth + 1)
        inner = (_forall(f"map_keys({value})", item, rule(item)), _forall(f"map_values({value})", item, values))
    else:
        inner = (_every_text(kind, value, rule, depth),)
    return " AND ".join(condition for condition in inner if condition)


def _forall(array: str, item: str, condition: str) -> str:
    return f"({array} IS NULL OR forall({array}, {item} -> {condition}))" if condition else ""
