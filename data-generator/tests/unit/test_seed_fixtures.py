"""Fixtures are the same in every run, and the fault of each wrong one is visible."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from data_generator.entities.orders import Order
from data_generator.scenario import load_model, scenario_path
from data_generator.seed.fixtures import Fixtures
from data_generator.seed.patterns import Placed
from data_generator.seed.plan import ID_BASE, Counts, Reached, SeedScenario
from data_platform_core.errors import ConfigurationError

pytestmark = pytest.mark.unit

FILE = scenario_path("seed")


@pytest.fixture(scope="module")
def scenario() -> SeedScenario:
    return load_model(SeedScenario, FILE)


@pytest.fixture(scope="module")
def fixtures(scenario: SeedScenario) -> Fixtures:
    return Fixtures(scenario, Reached())


def of(fixtures: Fixtures, pattern: str) -> list[Placed]:
    return [one for one in fixtures.orders if one.pattern == pattern]


def test_fixtures_have_the_default_counts(fixtures: Fixtures) -> None:
    assert (len(fixtures.profiles), len(fixtures.products), len(fixtures.orders)) == (1_000, 500, 10_000)
    assert sum(fixture.entity == "events" for fixture in fixtures.traffic()) == 5_000
    assert Counter(one["label"] for one in fixtures.labels()) == {"normal": 8_500, "suspicious": 1_000, "fraud": 500}


def test_a_second_time_they_are_the_same(scenario: SeedScenario, fixtures: Fixtures) -> None:
    again = Fixtures(scenario, Reached())
    assert list(again.initial()) == list(fixtures.initial())
    assert again.traffic() == fixtures.traffic()
    assert again.labels() == fixtures.labels()


def test_appended_ones_share_no_identifier_with_those_there_are(scenario: SeedScenario, fixtures: Fixtures) -> None:
    reached = Reached().after(Reached(), scenario.counts)
    more = Fixtures(scenario, reached)
    for before, after in ((fixtures, more),):
        assert not {p.product_id for p in before.products} & {p.product_id for p in after.products}
        assert not {p.profile_id for p in before.profiles} & {p.profile_id for p in after.profiles}
        assert not {o.order.order_id for o in before.orders} & {o.order.order_id for o in after.orders}
    assert {one.order.profile_id for one in more.orders} <= {profile.profile_id for profile in more.profiles}
    assert reached.after(Reached(), Counts(profiles=1, products=1, orders=1, reviews=1)) == reached


def test_identifiers_are_a_namespace_of_their_own(fixtures: Fixtures) -> None:
    assert min(product.product_id for product in fixtures.products) == ID_BASE + 1
    assert max(profile.profile_id for profile in fixtures.profiles) == ID_BASE + 1_000
    assert all(one.order.order_id.startswith("seed-") for one in fixtures.orders)


def test_records_come_by_time_and_within_the_days_of_the_file(fixtures: Fixtures) -> None:
    traffic = fixtures.traffic()
    times = [fixture.event_ts for fixture in traffic]
    assert times == sorted(times)
    states: dict[str, list[str]] = defaultdict(list)
    for fixture in traffic:
        if fixture.entity == "orders":
            states[fixture.draft.fields["order_id"]].append(fixture.draft.fields["order_status"])
    assert {tuple(history) for history in states.values()} == {
        ("placed",),
        ("placed", "paid"),
        ("placed", "paid", "refunded"),
    }
    placed = [f.event_ts for f in traffic if f.draft.fields.get("order_status") == "placed"]
    seoul = ZoneInfo("Asia/Seoul")
    days = [datetime.fromtimestamp(ms / 1000, seoul).date().isoformat() for ms in (min(placed), max(placed))]
    assert days == ["2026-08-03", "2026-10-31"]


def test_a_review_is_of_one_customer_and_product_once_with_one_to_five_stars(fixtures: Fixtures) -> None:
    reviews = [fixture.draft.fields for fixture in fixtures.traffic() if fixture.entity == "events"]
    assert len({(review["profile_id"], review["product_id"]) for review in reviews}) == 5_000
    assert {review["rating"] for review in reviews} == {1, 2, 3, 4, 5}
    assert {review["event_type"] for review in reviews} == {"review"}
    bought = {(one.order.profile_id, line[0]) for one in fixtures.orders for line in one.order.lines}
    assert sum((review["profile_id"], review["product_id"]) in bought for review in reviews) > 4_500


def groups(placed: list[Placed], key: Any) -> list[list[Placed]]:
    found: dict[Any, list[Placed]] = defaultdict(list)
    for one in placed:
        found[key(one.order), one.day].append(one)
    return [group for group in found.values() if len(group) > 1]


def span_s(group: list[Placed]) -> float:
    return max(one.second for one in group) - min(one.second for one in group)


def card(order: Order) -> str | None:
    return order.card_fingerprint


def test_stolen_cards_are_tested_within_minutes_before_dawn(fixtures: Fixtures) -> None:
    tested = groups(of(fixtures, "card_testing"), card)
    assert sum(len(group) == 10 for group in tested) >= 10
    assert all(span_s(group) <= 300 for group in tested)
    assert all(7_200 <= one.second <= 18_300 for group in tested for one in group)
    assert all(len({one.order.profile_id for one in group}) == 1 for group in tested)


def test_one_card_serves_many_customers_and_one_address_too(fixtures: Fixtures) -> None:
    cards = groups(of(fixtures, "shared_card"), card)
    assert max(len({one.order.profile_id for one in group}) for group in cards) >= 5
    honest = defaultdict(set)
    for one in fixtures.orders:
        if one.label == "normal" and one.order.card_fingerprint:
            honest[one.order.card_fingerprint].add(one.order.profile_id)
    assert {len(customers) for customers in honest.values()} == {1}
    addresses = groups(of(fixtures, "one_ip"), lambda order: order.ip)
    assert max(len({one.order.profile_id for one in group}) for group in addresses) >= 9
    assert {one.order.ip.rsplit(".", 1)[1] for one in of(fixtures, "one_ip")} == {"255"}


def test_suspicious_orders_are_large_or_quick_or_of_many_cards(fixtures: Fixtures) -> None:
    typical = sorted(one.order.amount_krw for one in fixtures.orders if one.label == "normal")[4_250]
    large = [one.order.amount_krw for one in of(fixtures, "large_amount")]
    assert sorted(large)[len(large) // 2] > 10 * typical
    assert all(span_s(group) <= 600 for group in groups(of(fixtures, "quick_repeat"), lambda order: order.profile_id))
    many = groups(of(fixtures, "many_cards"), lambda order: order.profile_id)
    assert all(len({one.order.card_fingerprint for one in group}) == len(group) for group in many)


def test_amounts_are_the_sum_of_their_lines_and_cards_belong_to_card_orders(fixtures: Fixtures) -> None:
    for fixture in fixtures.traffic():
        fields = fixture.draft.fields
        if fixture.entity == "orders":
            assert fields["amount_krw"] == sum(quantity * price for _, quantity, price in fields["lines"])
            assert (fields["card_fingerprint"] is not None) == (fields["payment_method"] == "card")


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"profiles": 0}, "--profiles is 0: too few"),
        ({"profiles": 2, "products": 3, "reviews": 7}, "2 customers and 3 products have no more pairs"),
    ],
)
def test_impossible_counts_are_refused(scenario: SeedScenario, counts: dict[str, int], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        scenario.with_counts(counts)


def test_shares_of_labels_must_name_each_and_sum_to_one() -> None:
    with pytest.raises(ConfigurationError, match=r"sum to 0\.9"):
        load_model(SeedScenario, FILE, {"labels.normal": 0.75})
    with pytest.raises(ConfigurationError, match="'theft' is not known"):
        load_model(SeedScenario, FILE, {"labels.theft": 0.0})
