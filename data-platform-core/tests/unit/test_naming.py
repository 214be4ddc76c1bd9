"""One entity, one name at every hop."""

from __future__ import annotations

import pytest

from data_platform_core.naming import ledger_prefix, names

pytestmark = pytest.mark.unit


def test_each_hop_of_orders_has_the_documented_name() -> None:
    orders = names("orders")
    assert orders.topic == "crm.orders.v1"
    assert orders.dlq_topic == "crm.orders.v1.dlq"
    assert orders.subject == "crm.orders.v1-value"
    assert orders.query == "ingest_orders"
    assert orders.checkpoint == "_checkpoints/ingest_orders/v1"
    assert (orders.bronze, orders.silver) == ("bronze/orders", "silver/orders")
    assert orders.landing_table == "raw_crm.orders"
    assert orders.staging_model == "stg_crm__orders"


def test_the_ledger_of_one_run_is_no_prefix_of_another() -> None:
    assert not ledger_prefix("run-10").startswith(ledger_prefix("run-1"))
