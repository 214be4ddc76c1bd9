"""Files generated from contracts, topology and the matrix of accounts.

`make generate` writes them. CI fails when they have drifted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from data_platform_core.access.matrix import load_matrix
from data_platform_core.account_files import account_files
from data_platform_core.contracts import Contract, load_contracts
from data_platform_core.errors import AccountingError
from data_platform_core.inventory import inventories
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.settings import known_variables
from data_platform_core.warehouse.dbt_sources import SOURCES_FILE, sources_text

ENTITIES_PAGE: Path = REPOSITORY_ROOT / "docs" / "ai-context" / "entities.md"
ENV_EXAMPLE: Path = REPOSITORY_ROOT / ".env.example"


class DriftError(AccountingError):
    """A generated file differs from its current sources."""


def generated_files() -> dict[Path, str]:
    """The required text of each generated file."""
    contracts = load_contracts()
    return {
        SOURCES_FILE: sources_text(contracts),
        ENTITIES_PAGE: entities_page(contracts),
        ENV_EXAMPLE: env_example(),
        **inventories(contracts.values()),
        **account_files(load_matrix()),
    }


def write() -> list[Path]:
    """Write the files that differ; returns them."""
    changed = [path for path, text in generated_files().items() if _read(path) != text]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated_files()[path], encoding="utf-8")
    return changed


def check() -> None:
    """Raises DriftError naming the first file that differs."""
    for path, text in generated_files().items():
        if _read(path) != text:
            drifted = path.relative_to(REPOSITORY_ROOT)
            raise DriftError(f"{drifted} is not what contracts, topology and accounts say; run `make generate`")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def env_example() -> str:
    """Every environment variable of a setting, commented out."""
    head = """\
# GENERATED from data_platform_core/settings.py by `make generate`. No variable is required: the topology and the
# accounts in <state>/<ENV>/secrets/<service>.env (written by `make up`) are enough. To override a value, set the
# variable in a command's environment, or in a ConfigMap or Secret on Kubernetes.
"""
    return head + "".join(f"#{name}=\n" for name in sorted(known_variables()))


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
