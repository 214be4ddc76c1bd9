"""Warehouse and marts: loads and the marts' results; SQL runs as the reader."""

from __future__ import annotations

from data_platform_core.naming import LOADS_TABLE, MARTS_SCHEMA
from monitoring_dashboards.board import Board, Section
from monitoring_dashboards.panels import (
    BYTES,
    COUNT,
    RECORDS,
    SECONDS,
    SHARE,
    WON,
    graph,
    in_column,
    listing,
    number,
)
from monitoring_dashboards.queries import WINDOW, now, over_time, sql, sql_over_time

_DATABASE = 'datname=~"crm.*"'


def _daily(mart: str, columns: str, more: str = "") -> str:
    """A mart of one row per day (and group), as a time series."""
    return (
        f"SELECT business_date::timestamp AS time, {columns} FROM {MARTS_SCHEMA}.{mart} "
        f"WHERE $__timeFilter(business_date) {more} ORDER BY 1"
    )


_FRESHNESS = Section(
    "Freshness",
    [
        number(
            "Since the last load",
            "Time since a load committed, any entity. Longer than the schedule's interval: loads fail or don't run.",
            SECONDS,
            sql(f"SELECT extract(epoch FROM now() - max(loaded_at))::float8 AS value FROM {LOADS_TABLE}"),
        ),
        number(
            "Loads in range",
            "Loads committed within the time range, all entities.",
            COUNT,
            sql(f"SELECT count(*) AS value FROM {LOADS_TABLE} WHERE $__timeFilter(loaded_at)"),
        ),
        number(
            "Rows loaded in range",
            "Rows that these loads brought.",
            RECORDS,
            sql(f"SELECT coalesce(sum(rows), 0)::bigint AS value FROM {LOADS_TABLE} WHERE $__timeFilter(loaded_at)"),
        ),
        number(
            "Marts behind loads",
            "Loads that fct_events does not include yet. Above 0 after a dbt build: the build failed.",
            COUNT,
            sql(
                f"SELECT count(*) AS value FROM {LOADS_TABLE} WHERE entity = 'events' AND rows > 0 AND load_id > "
                f"(SELECT coalesce(max(load_id), 0) FROM {MARTS_SCHEMA}.fct_events)"
            ),
        ),
        number(
            "Newest event in the marts",
            "Age of the newest event that a mart counts: how old the figures are that people read.",
            SECONDS,
            sql(f"SELECT extract(epoch FROM now() - max(event_ts))::float8 AS value FROM {MARTS_SCHEMA}.fct_events"),
        ),
        number(
            "Days in the marts",
            "Days that the sales mart covers.",
            COUNT,
            sql(f"SELECT count(*) AS value FROM {MARTS_SCHEMA}.mart_daily_sales"),
        ),
    ],
)

_LOADS = Section(
    "Loads",
    [
        in_column(
            listing(
                "Last load per entity",
                "An entity whose last load is older than the others' is stuck: run `crm load --entity` for it and read "
                "its output.",
                sql(
                    "SELECT DISTINCT ON (entity) entity, mode, loaded_at, delta_version, rows, rows_known, "
                    f"extract(epoch FROM loaded_at - started_at)::float8 AS seconds FROM {LOADS_TABLE} "
                    "ORDER BY entity, load_id DESC"
                ),
            ),
            "seconds",
            SECONDS,
        ),
        listing(
            "Rows per landing table",
            "Rows that all loads since the last rebuild brought: what each landing table holds. Compare with silver by "
            "`crm reconcile`.",
            sql(
                "SELECT loads.entity, sum(loads.rows)::bigint AS rows, sum(loads.rows_known)::bigint AS known_before, "
                f"count(*) AS loads FROM {LOADS_TABLE} AS loads WHERE loads.load_id >= coalesce((SELECT "
                f"max(rebuild.load_id) FROM {LOADS_TABLE} AS rebuild WHERE rebuild.entity = loads.entity AND "
                "rebuild.mode = 'rebuild'), 0) GROUP BY loads.entity ORDER BY loads.entity"
            ),
        ),
        graph(
            "Rows per load",
            "Even bars are a steady schedule; a tall one follows a gap or a backfill; none is a load that did not run.",
            RECORDS,
            sql_over_time(
                f"SELECT loaded_at AS time, entity AS metric, rows FROM {LOADS_TABLE} WHERE $__timeFilter(loaded_at) "
                "ORDER BY 1"
            ),
            style="bars",
        ),
        graph(
            "Duration of loads",
            "Rises with the rows; rising without them is the warehouse or the object store.",
            SECONDS,
            sql_over_time(
                "SELECT loaded_at AS time, entity AS metric, extract(epoch FROM loaded_at - started_at)::float8 AS "
                f"seconds FROM {LOADS_TABLE} WHERE $__timeFilter(loaded_at) ORDER BY 1"
            ),
            style="bars",
        ),
    ],
)

_SALES = Section(
    "Sales",
    [
        graph(
            "Net sales per day",
            "Paid, less what was refunded or cancelled after payment, each on its own day.",
            WON,
            sql_over_time(_daily("mart_daily_sales", "net_sales_krw, paid_krw")),
            style="bars",
            signed=True,
        ),
        graph(
            "Orders per day",
            "Changes of orders by what they became. Cancelled near placed: check payment.",
            COUNT,
            sql_over_time(_daily("mart_daily_sales", "placed_orders, paid_orders, cancelled_orders, refunded_orders")),
            style="bars",
        ),
    ],
)

_TRAFFIC = Section(
    "Traffic",
    [
        graph(
            "Click-through rate per banner slot",
            "0 is the topmost slot. A slot that falls while the others stay has lost its campaign or its picture.",
            SHARE,
            sql_over_time(
                _daily(
                    "mart_banner_position",
                    "'slot ' || banner_position AS metric, ctr::float8 AS ctr",
                    "AND banner_position >= 0",
                )
            ),
            style="bars",
        ),
        graph(
            "Click-through rate per hour",
            "The day's course; an hour without impressions has no rate.",
            SHARE,
            sql_over_time(
                f"SELECT business_hour AS time, ctr::float8 AS ctr FROM {MARTS_SCHEMA}.mart_hourly_ctr "
                "WHERE $__timeFilter(business_hour) ORDER BY 1"
            ),
        ),
        graph(
            "Events per day",
            "All events, and those of them that were late. Late ones change days that were reported already.",
            RECORDS,
            sql_over_time(_daily("mart_daily_ctr", "events, late_events")),
            style="bars",
            width=8,
        ),
        graph(
            "Purchases per session by device",
            "Where people buy. One device falling alone is a broken page on it.",
            SHARE,
            sql_over_time(
                "SELECT business_date::timestamp AS time, device AS metric, "
                "(sum(purchases) / nullif(sum(sessions), 0))::float8 AS rate "
                f"FROM {MARTS_SCHEMA}.mart_device_performance WHERE $__timeFilter(business_date) "
                "GROUP BY 1, 2 ORDER BY 1"
            ),
            style="bars",
            width=8,
        ),
        listing(
            "Categories",
            "Which categories bring carts and purchases, by surface, within the time range.",
            sql(
                "SELECT surface, page_category, sum(page_views)::bigint AS page_views, sum(add_to_carts)::bigint AS "
                f"add_to_carts, sum(purchases)::bigint AS purchases FROM {MARTS_SCHEMA}.mart_category_analysis "
                "WHERE $__timeFilter(business_date) GROUP BY 1, 2 ORDER BY 5 DESC, 3 DESC LIMIT 20"
            ),
            width=8,
        ),
    ],
)

_VISITS = Section(
    "Visits and customers",
    [
        graph(
            "Visits by how far they came",
            "Each bar is a part of the one before. A step that falls alone has a broken page behind it.",
            COUNT,
            sql_over_time(
                "SELECT business_date::timestamp AS time, sum(visits)::bigint AS visits, "
                "sum(product_visits)::bigint AS product, sum(cart_visits)::bigint AS cart, "
                "sum(checkout_visits)::bigint AS checkout, sum(purchase_visits)::bigint AS purchase "
                f"FROM {MARTS_SCHEMA}.mart_sales_funnel "
                "WHERE $__timeFilter(business_date) GROUP BY 1 ORDER BY 1"
            ),
            style="bars",
            width=8,
        ),
        listing(
            "Channels",
            "What each channel brought within the time range; amounts as they are now, less what went back.",
            sql(
                "SELECT channel, sum(visits)::bigint AS visits, sum(orders)::bigint AS orders, sum(sales)::bigint AS "
                f"sales, sum(net_krw)::bigint AS net_krw FROM {MARTS_SCHEMA}.mart_campaign_performance "
                "WHERE $__timeFilter(business_date) GROUP BY 1 ORDER BY 5 DESC"
            ),
            width=8,
        ),
        listing(
            "Customers by segment",
            "At risk: they bought often, and not of late. The bounds of the segments are variables of the dbt project.",
            sql(
                "SELECT rfm_segment, count(*) AS customers, sum(sales)::bigint AS sales, sum(sales_krw)::bigint AS "
                f"sales_krw FROM {MARTS_SCHEMA}.mart_customer_segments GROUP BY 1 ORDER BY 4 DESC"
            ),
            width=8,
        ),
    ],
)

_SERVER = Section(
    "PostgreSQL",
    [
        graph(
            "Connections",
            "Near max_connections, loads and people are refused.",
            COUNT,
            over_time(f"sum by (datname) (pg_stat_database_numbackends{{{_DATABASE}}})", "{{datname}}"),
            over_time("max(pg_settings_max_connections)", "max_connections"),
            width=8,
        ),
        graph(
            "Rows written and read",
            "A load shows as inserts, a dbt build as inserts and reads.",
            "suffix: rows/s",
            over_time(f"sum(rate(pg_stat_database_tup_inserted{{{_DATABASE}}}[{WINDOW}]))", "inserted"),
            over_time(f"sum(rate(pg_stat_database_tup_deleted{{{_DATABASE}}}[{WINDOW}]))", "deleted"),
            over_time(f"sum(rate(pg_stat_database_tup_fetched{{{_DATABASE}}}[{WINDOW}]))", "fetched"),
            width=8,
        ),
        graph(
            "Size of the database",
            "Grows with the loads; extrapolate it to the disk's size.",
            BYTES,
            over_time(f"max by (datname) (pg_database_size_bytes{{{_DATABASE}}})", "{{datname}}"),
            width=8,
        ),
        graph(
            "Transactions",
            "Rolled back ones that rise are failing loads or queries.",
            "suffix: tx/s",
            over_time(f"sum(rate(pg_stat_database_xact_commit{{{_DATABASE}}}[{WINDOW}]))", "committed"),
            over_time(f"sum(rate(pg_stat_database_xact_rollback{{{_DATABASE}}}[{WINDOW}]))", "rolled back"),
            width=8,
        ),
        graph(
            "Cache hits",
            "Share of blocks found in memory. Under 90% for long: the working set has outgrown shared_buffers.",
            SHARE,
            over_time(
                f"sum(pg_stat_database_blks_hit{{{_DATABASE}}}) / "
                f"sum(pg_stat_database_blks_hit{{{_DATABASE}}} + pg_stat_database_blks_read{{{_DATABASE}}})",
                "hits",
            ),
            width=8,
        ),
        number(
            "PostgreSQL up",
            "1: the exporter reaches the server.",
            COUNT,
            now("min(pg_up)"),
            width=8,
        ),
    ],
)

BOARD = Board(
    name="warehouse",
    title="Warehouse and marts",
    about="What reached PostgreSQL, how fresh it is, and the business figures of the marts.",
    sections=[_FRESHNESS, _LOADS, _SALES, _TRAFFIC, _VISITS, _SERVER],
    warehouse=True,
    since="now-30d",
    refresh="1m",
)
