"""`docs/ai-context/entities.md`: every entity's contract, for people. GENERATED."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_platform_core.contracts import Contract
from data_platform_core.paths import REPOSITORY_ROOT

ENTITIES_PAGE: Path = REPOSITORY_ROOT / "docs" / "ai-context" / "entities.md"


def entities_page(contracts: Mapping[str, Contract]) -> str:
    """Every entity's contract as Markdown."""
    head = (
        "<!-- GENERATED from data-platform-core/contracts by `make generate`; change the contracts, not this file. -->"
    )
    return (
        "\n".join([head, "# Entities", "", *(line for c in contracts.values() for line in _entity(c))]).rstrip() + "\n"
    )


def _entity(contract: Contract) -> list[str]:
    names, silver = contract.names, contract.silver
    return [
        f"## {contract.entity}",
        "",
        f"{contract.description} Grain: {contract.grain}.",
        "",
        f"- topic `{names.topic}` ({contract.topic.partitions} partitions, {contract.topic.retention_hours} h), "
        f"dead letters `{names.dlq_topic}`, subject `{names.subject}`, key `{contract.key}`",
        f"- query `{names.query}`, tables `{names.bronze}`, `{names.silver}` ({silver.merge}), "
        f"landing `{names.landing_table}`, staging `{names.staging_model}`",
        f"- duplicates are dropped within {silver.dedup_window_minutes} min, late is more than "
        f"{silver.allowed_lateness_minutes} min after `{contract.event_time}`",
        f"- PII: {', '.join(f'`{name}`' for name in contract.pii) or 'none'}",
        "",
        "| field | type | meaning |",
        "|---|---|---|",
        *(f"| `{field['name']}` | {_type(field['type'])} | {field['doc']} |" for field in contract.avro["fields"]),
        "",
        "| check | condition |",
        "|---|---|",
        *(f"| `{name}_text` | valid UTF-8 without U+0000 |" for name in contract.max_lengths),
        *(f"| `{name}_length` | at most {most} characters |" for name, most in contract.max_lengths.items()),
        *(f"| `{name}_accepted` | one of {', '.join(values)} |" for name, values in contract.accepted_values.items()),
        *(f"| `{name}` | `{condition.replace('|', chr(92) + '|')}` |" for name, condition in contract.checks.items()),
        "",
    ]


def _type(avro: object) -> str:
    if isinstance(avro, list):
        return " or ".join(_type(option) for option in avro)
    if isinstance(avro, dict):
        if avro.get("type") == "array":
            return f"list of {_type(avro['items'])}"
        if avro.get("type") == "record":
            return f"{avro['name']}({', '.join(field['name'] for field in avro['fields'])})"
        return str(avro.get("logicalType", avro["type"]))
    return str(avro)
