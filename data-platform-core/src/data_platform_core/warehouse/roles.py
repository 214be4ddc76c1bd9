"""PostgreSQL's schemas and roles: one role per service, each with the least it needs."""

from __future__ import annotations

from typing import Final

from data_platform_core.naming import LANDING_SCHEMA
from data_platform_core.settings import Service

PLATFORM_SCHEMA: Final = "platform"
#: Where a load puts rows down before the transaction that takes them over; empty between loads.
LOADING_SCHEMA: Final = "loading"
#: What dbt builds: views over the landing tables (with PII), and marts (without).
STAGING_SCHEMA: Final = "staging"
MARTS_SCHEMA: Final = "marts"
SCHEMAS: Final = (LANDING_SCHEMA, PLATFORM_SCHEMA, LOADING_SCHEMA, STAGING_SCHEMA, MARTS_SCHEMA)

LOADS_TABLE: Final = f"{PLATFORM_SCHEMA}.loads"

_ROLE_PREFIX = "crm_"


def role(service: Service) -> str:
    """The PostgreSQL role of a service."""
    return f"{_ROLE_PREFIX}{service}"


#: Schema privileges by service. Tables of staging and marts are dbt's own: it grants them itself (dbt_project.yml).
SCHEMA_GRANTS: Final[dict[Service, dict[str, str]]] = {
    "batch": {LANDING_SCHEMA: "USAGE", PLATFORM_SCHEMA: "USAGE", LOADING_SCHEMA: "USAGE, CREATE"},
    "dbt": {
        LANDING_SCHEMA: "USAGE",
        PLATFORM_SCHEMA: "USAGE",
        STAGING_SCHEMA: "USAGE, CREATE",
        MARTS_SCHEMA: "USAGE, CREATE",
    },
    "accounting": dict.fromkeys((LANDING_SCHEMA, PLATFORM_SCHEMA, MARTS_SCHEMA), "USAGE"),
    "reader": {MARTS_SCHEMA: "USAGE", PLATFORM_SCHEMA: "USAGE"},
}
#: Privileges on every landing table. A load inserts; it deletes only when told to rebuild a table.
LANDING_GRANTS: Final[dict[Service, str]] = {
    "batch": "SELECT, INSERT, DELETE",
    "dbt": "SELECT",
    "accounting": "SELECT",
}
#: Privileges on the record of loads. It holds counts, versions and times, no PII: dashboards show it as the reader.
LOADS_GRANTS: Final[dict[Service, str]] = {
    "batch": "SELECT, INSERT",
    "dbt": "SELECT",
    "accounting": "SELECT",
    "reader": "SELECT",
}
