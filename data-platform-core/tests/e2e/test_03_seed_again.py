"""A second seed replaces the earlier fixtures, unless `--append` is given."""

from __future__ import annotations

from pathlib import Path

import story
from pipeline import Pipeline

from data_platform_core.warehouse.connections import connect

pytestmark = story.MARKS

AGAIN = f"{story.SEED}-again"
#: What a second seed must not change: rows and their content.
COUNTED = {
    "orders": "select count(*), sum(amount_krw) from marts.fct_orders where order_id like 'seed-%'",
    "order states": "select count(*) from marts.fct_order_changes where order_id like 'seed-%' and not is_replaced",
    "reviews": "select count(*), sum(rating) from marts.fct_reviews",
    "products": "select count(*) from marts.dim_products where product_id > 900000000",
    "profiles": "select count(*) from marts.dim_profiles where profile_id > 900000000",
    "sales": "select sum(placed_orders), sum(placed_krw), sum(paid_krw) from marts.mart_daily_sales",
}


def counted(pipeline: Pipeline) -> dict[str, tuple[object, ...]]:
    with connect(pipeline.settings("dbt").postgres, "crm-test") as connection:
        return {what: connection.execute(query).fetchone() or () for what, query in COUNTED.items()}


def test_a_second_seed_replaces_the_first(loaded: Pipeline, tmp_path: Path) -> None:
    before = counted(loaded)
    assert before["orders"][0] == 400
    assert before["reviews"][0] == 200
    story.send(loaded, "seed", "--run-id", AGAIN, *story.FIXTURES)
    story.load_and_build(loaded)
    assert counted(loaded) == before
    report = loaded.reconcile(AGAIN, tmp_path / "again.json")
    assert report["code"] == 0, report["printed"]
    with connect(loaded.settings("dbt").postgres, "crm-test") as connection:
        query = "select distinct run_id from marts.fct_orders where order_id like 'seed-%%'"
        assert connection.execute(query).fetchall() == [(AGAIN,)]


def test_a_seed_that_is_appended_comes_beside_what_is_there(loaded: Pipeline) -> None:
    before = counted(loaded)
    story.send(loaded, "seed", "--append", "--run-id", f"{story.SEED}-more", *story.FIXTURES)
    story.load_and_build(loaded)
    after = counted(loaded)
    assert after["orders"][0] == before["orders"][0] + 400
    assert after["reviews"][0] == before["reviews"][0] + 200
