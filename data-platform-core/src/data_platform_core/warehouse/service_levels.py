"""The service levels that come with the platform, kept in `ops.sla_definitions` by the migrations.

Freshness and owner of an entity are its contract's, so those rows follow it. The others are inserted once: a person may
change or disable them, and no migration undoes that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import psycopg

from data_platform_core.contracts import Contract
from data_platform_core.jobs import LOAD, MARTS
from data_platform_core.naming import SLA_DEFINITIONS_TABLE

#: Days of daily rows are those of the marts: `business_timezone` of dbt_project.yml (a test compares them).
BUSINESS_TIME_ZONE: Final = "UTC"
#: The hourly load is complete five minutes after the hour, the marts at 09:00; the stream is never further behind.
LOAD_MINUTES: Final = 5
MARTS_MINUTES: Final = 9 * 60
LAG_MINUTES: Final = 5
_OWNER: Final = "crm-platform"


@dataclass(frozen=True)
class ServiceLevel:
    """Values of a row. `origin` contract: deadline and owner are updated by each migration."""

    pipeline: str
    kind: Literal["realtime", "hourly", "daily"]
    deadline_minutes: int
    owner: str
    origin: Literal["contract", "seed"]


def service_levels(contracts: Iterable[Contract]) -> Iterator[ServiceLevel]:
    """Every row that comes with the platform."""
    yield ServiceLevel(LOAD, "hourly", LOAD_MINUTES, _OWNER, "seed")
    yield ServiceLevel(MARTS, "daily", MARTS_MINUTES, _OWNER, "seed")
    for contract in contracts:
        names, minutes = contract.names, contract.freshness.error_after_minutes
        yield ServiceLevel(names.landing_table, "realtime", minutes, contract.owner, "contract")
        yield ServiceLevel(names.query, "realtime", LAG_MINUTES, contract.owner, "seed")


def follow(connection: psycopg.Connection, contracts: Iterable[Contract]) -> None:
    """Insert missing rows, and update those that follow a contract, in the caller's transaction."""
    for each in service_levels(contracts):
        values: dict[str, Any] = vars(each) | {"time_zone": BUSINESS_TIME_ZONE}
        connection.execute(
            f"""
            INSERT INTO {SLA_DEFINITIONS_TABLE} AS kept (pipeline, kind, deadline_minutes, time_zone, owner, origin)
            VALUES (%(pipeline)s, %(kind)s, %(deadline_minutes)s, %(time_zone)s, %(owner)s, %(origin)s)
            ON CONFLICT (pipeline, kind) DO UPDATE
            SET deadline_minutes = excluded.deadline_minutes, owner = excluded.owner
            WHERE kept.origin = 'contract'
            """,
            values,
        )
