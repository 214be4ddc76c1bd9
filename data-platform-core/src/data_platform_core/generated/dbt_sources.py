"""dbt's sources file, generated from the contracts, so that dbt and the lake agree on the columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_platform_core.contracts import Contract
from data_platform_core.naming import LANDING_SCHEMA, LOADS_TABLE, TOPIC_PREFIX
from data_platform_core.paths import DBT_DIR
from data_platform_core.warehouse.columns import Column, landing_columns
from data_platform_core.yaml_files import PlainDumper

SOURCES_FILE: Path = DBT_DIR / "models" / "staging" / "_crm__sources.yml"

_HEADER = "# GENERATED from data-platform-core/contracts by `make generate`; change the contracts, not this file.\n"


def sources_text(contracts: Mapping[str, Contract]) -> str:
    """The whole text of SOURCES_FILE for these contracts. Pure: the caller writes or compares it."""
    document = {
        "version": 2,
        "sources": [
            {
                "name": TOPIC_PREFIX,
                "schema": LANDING_SCHEMA,
                "description": "Landing tables, filled from silver by the batch load; no row is changed after that.",
                "tables": [_table(contract) for _, contract in sorted(contracts.items())],
            }
        ],
    }
    return _HEADER + yaml.dump(document, Dumper=PlainDumper, sort_keys=False, allow_unicode=True, width=116)


def _table(contract: Contract) -> dict[str, Any]:
    freshness = contract.freshness
    return {
        "name": contract.entity,
        "description": f"{contract.description} Grain: {contract.grain}.",
        "config": {
            "freshness": {
                "warn_after": {"count": freshness.warn_after_minutes, "period": "minute"},
                "error_after": {"count": freshness.error_after_minutes, "period": "minute"},
            },
            # By the record of loads, a row each: the newest row of a landing table is found only by reading all of it.
            "loaded_at_query": f"select max(loaded_at) from {LOADS_TABLE} where entity = '{contract.entity}'",
            "meta": {"owner": contract.owner, "key": contract.key, "merge": contract.silver.merge},
        },
        "columns": [_column(column, contract) for column in landing_columns(contract)],
    }


def _column(column: Column, contract: Contract) -> dict[str, Any]:
    described: dict[str, Any] = {"name": column.name, "description": column.comment, "data_type": column.sql_type}
    if column.pii:
        described["config"] = {"meta": {"pii": True}}
    # Keys and NOT NULL are constraints of the table, from the same contract: a test would repeat them.
    if column.name in contract.accepted_values:
        values = list(contract.accepted_values[column.name])
        described["data_tests"] = [{"accepted_values": {"arguments": {"values": values}}}]
    return described
