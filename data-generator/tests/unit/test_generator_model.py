"""What the model sends: deterministic, in order, referring to what exists, wrong exactly as often as configured."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import fastavro
import pytest

from data_generator.distributions import Weighted, zipf
from data_generator.entities import load_maker
from data_generator.model import DUPLICATE, LATE, NONE, POISON, Model, Send
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError

pytestmark = pytest.mark.unit

#: Fields made from the run id: a second run of a seed must not be taken for re-sends of the first.
OF_THE_RUN = {"event_id", "run_id", "session_id", "order_id"}
CLEAN = {"inject.duplicates": 0, "inject.late": 0, "inject.poison": 0}
Sends = Callable[..., list[tuple[str, Send]]]
Decode = Callable[[str, bytes], dict[str, Any]]


@pytest.fixture(scope="module")
def traffic(sends: Sends, decode: Decode) -> list[tuple[str, dict[str, Any]]]:
    """Twenty thousand good records, decoded."""
    return [(entity, decode(entity, send.value)) for entity, send in sends(20_000, **CLEAN)]


def events_by_session(traffic: list[tuple[str, dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    sessions = defaultdict(list)
    for entity, record in traffic:
        if entity == "events":
            sessions[record["session_id"]].append(record)
    return list(sessions.values())


def test_the_same_seed_and_run_id_send_the_same_bytes(sends: Sends) -> None:
    assert sends(5_000) == sends(5_000)


def test_the_same_seed_sends_the_same_records_in_another_run(sends: Sends, decode: Decode) -> None:
    def content(run_id: str) -> list[Any]:
        return [
            {key: value for key, value in decode(entity, send.value).items() if key not in OF_THE_RUN}
            for entity, send in sends(3_000, run_id=run_id, **CLEAN)
        ]

    assert content("first") == content("second")


def test_another_seed_sends_other_records(sends: Sends) -> None:
    assert sends(200, seed=1)[-100:] != sends(200, seed=2)[-100:]


def test_two_runs_of_one_seed_share_no_identifier(sends: Sends, decode: Decode) -> None:
    def identifiers(run_id: str) -> set[str]:
        records = [decode(entity, send.value) for entity, send in sends(2_000, run_id=run_id, **CLEAN)]
        return {
            record[field] for record in records for field in ("event_id", "session_id", "order_id") if record.get(field)
        }

    assert not identifiers("first") & identifiers("second")


def test_two_producers_of_a_run_share_no_identifier_but_the_catalogue(sends: Sends, decode: Decode) -> None:
    first, second = (
        [decode(entity, send.value) for entity, send in sends(500, producer_id=number, **CLEAN)] for number in (0, 1)
    )
    assert not {r["event_id"] for r in first} & {r["event_id"] for r in second}
    assert [r["price_krw"] for r in first[:700] if "price_krw" in r] == [
        r["price_krw"] for r in second[:700] if "price_krw" in r
    ]


def test_the_clock_changes_times_and_nothing_else(model: Callable[..., Model], decode: Decode) -> None:
    def content(step_ms: int) -> list[Any]:
        built = model(**CLEAN)
        records = []
        for n in range(3_000):
            send = built.next(1_790_000_000_000 + n * step_ms)
            record = decode(built.lanes[send.lane].entity, send.value)
            records.append({k: v for k, v in record.items() if not k.endswith("_ts")})
        return records

    assert content(1) == content(250)


def test_records_carry_the_time_they_were_due_and_a_visitors_own_delay(
    model: Callable[..., Model], decode: Decode
) -> None:
    built = model(**CLEAN)
    delays = defaultdict(set)
    for n in range(3_000):
        due = 1_790_000_000_000 + 37 * n
        send = built.next(due)
        entity = built.lanes[send.lane].entity
        record = decode(entity, send.value)
        assert record["produced_ts"] == due
        if entity == "events":
            delays[record["session_id"]].add(due - record["event_ts"])
        else:
            assert record["event_ts"] == due
    assert all(len(seen) == 1 and 20 <= min(seen) < 400 for seen in delays.values())
    assert len({min(seen) for seen in delays.values()}) > 50


def test_visits_go_from_view_to_purchase_and_never_back(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    sessions = events_by_session(traffic)
    assert len(sessions) > 500
    purchases = 0
    for events in sessions:
        assert events[0]["event_type"] == "page_view"
        assert all(before["event_ts"] <= after["event_ts"] for before, after in pairwise(events))
        shown, viewed, carted, checked_out = set(), set(), set(), False
        for event in events:
            kind, product = event["event_type"], event["product_id"]
            assert not (checked_out and kind not in ("purchase",)), f"{kind} after checkout"
            if kind == "impression":
                shown.add((product, event["banner_position"]))
            elif kind == "click":
                assert (product, event["banner_position"]) in shown
            elif kind == "page_view":
                viewed.add(product)
            elif kind == "add_to_cart":
                assert product in viewed
                carted.add(product)
            elif kind == "checkout":
                assert product in carted
                checked_out = True
            elif kind == "purchase":
                assert checked_out
                assert event is events[-1]
                purchases += 1
        assert len({(e["profile_id"], e["device"], e["os"], e["channel"]) for e in events}) == 1
    assert purchases > 50


def test_orders_go_from_placed_onwards_after_their_purchase(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    allowed = {
        (None, "placed"),
        ("placed", "paid"),
        ("placed", "cancelled"),
        ("paid", "refunded"),
        ("paid", "cancelled"),
    }
    status: dict[str, str] = {}
    last_ts: dict[str, int] = {}
    purchased: dict[str, int] = {}
    seen = Counter()
    for entity, record in traffic:
        if entity == "events" and record["event_type"] == "purchase":
            purchased[record["order_id"]] = record["profile_id"]
        if entity == "orders":
            order = record["order_id"]
            assert purchased[order] == record["profile_id"]
            assert (status.get(order), record["order_status"]) in allowed
            assert record["event_ts"] > last_ts.get(order, 0)
            status[order], last_ts[order] = record["order_status"], record["event_ts"]
            seen[record["order_status"]] += 1
    assert set(seen) == {"placed", "paid", "cancelled", "refunded"}


def test_amounts_are_sums_of_lines_and_cards_are_hashed(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    for entity, record in traffic:
        if entity == "orders":
            assert (
                record["amount_krw"] == sum(line["quantity"] * line["unit_price_krw"] for line in record["lines"]) > 0
            )
            assert (record["card_fingerprint"] is not None) == (record["payment_method"] == "card")
            assert re.fullmatch("[0-9a-f]{64}", record["card_fingerprint"] or "0" * 64)


def test_what_is_referred_to_was_sent_before(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    products, profiles = set(), set()
    for entity, record in traffic:
        if entity == "products":
            products.add(record["product_id"])
        elif entity == "profiles":
            profiles.add(record["profile_id"])
            assert record["email"] == f"user{record['profile_id']}@test.com"
        else:
            assert record["profile_id"] in profiles
            referred = [line["product_id"] for line in record.get("lines", [])] or [record["product_id"]]
            assert set(referred) - {None} <= products
    assert (len(products), len(profiles)) == (200, 500)


def test_accepted_values_and_checks_hold_in_good_records(
    traffic: list[tuple[str, dict[str, Any]]], contracts: dict[str, Contract]
) -> None:
    for entity, record in traffic:
        for field, values in contracts[entity].accepted_values.items():
            assert record[field] in values
        if entity == "events":
            assert record["product_id"] is not None or record["event_type"] in ("page_view", "search")
            assert (record["site_category"] is None) != (record["app_category"] is None)
            assert (record["banner_position"] is not None) == (record["event_type"] in ("impression", "click"))
            assert (record["search_query"] is not None) == (record["event_type"] == "search")
            assert (record["order_id"] is not None) == (record["event_type"] == "purchase")


def test_every_accepted_value_of_an_event_turns_up(
    traffic: list[tuple[str, dict[str, Any]]], contracts: dict[str, Contract]
) -> None:
    for field, values in contracts["events"].accepted_values.items():
        # Only seeds write reviews.
        assert {record[field] for entity, record in traffic if entity == "events"} == set(values) - {"review"}


def test_the_key_is_the_contracts_key(sends: Sends, decode: Decode, contracts: dict[str, Contract]) -> None:
    for entity, send in sends(3_000):
        if send.injected != POISON:
            assert send.key.decode() == str(decode(entity, send.value)[contracts[entity].key])


def test_higher_banners_are_clicked_more_often(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    shown, clicked = Counter(), Counter()
    for entity, record in traffic:
        if entity == "events" and record["banner_position"] is not None:
            (shown if record["event_type"] == "impression" else clicked)[record["banner_position"]] += 1
    assert clicked[0] / shown[0] > 1.5 * clicked[2] / shown[2] > 0


def test_send_numbers_are_dense_per_entity(sends: Sends) -> None:
    numbers = defaultdict(list)
    for entity, send in sends(10_000):
        numbers[entity].append(send.seq)
    assert all(sequence == list(range(len(sequence))) for sequence in numbers.values())


def test_injected_shares_are_those_of_the_scenario(sends: Sends) -> None:
    asked = {"inject.duplicates": 0.04, "inject.late": 0.03, "inject.poison": 0.02}
    counts = Counter(send.injected for _, send in sends(40_000, **asked)[700:])
    assert counts[DUPLICATE] / 40_000 == pytest.approx(0.04, rel=0.1)
    assert counts[LATE] / 40_000 == pytest.approx(0.03, rel=0.1)
    assert counts[POISON] / 40_000 == pytest.approx(0.02, rel=0.1)


def test_a_duplicate_repeats_key_and_bytes_of_a_good_send_under_its_own_number(sends: Sends) -> None:
    good = {}
    duplicates = 0
    for entity, send in sends(10_000):
        if send.injected == NONE:
            good[entity, send.key, send.value] = send.seq
        elif send.injected == DUPLICATE:
            assert good[entity, send.key, send.value] < send.seq
            duplicates += 1
    assert duplicates > 50


def test_a_late_record_is_later_than_the_contract_allows(
    sends: Sends, decode: Decode, contracts: dict[str, Contract]
) -> None:
    late = [(e, decode(e, s.value)) for e, s in sends(20_000, **{"inject.late": 0.05}) if s.injected == LATE]
    assert {entity for entity, _ in late} == set(contracts)
    for entity, record in late:
        allowed_ms = contracts[entity].silver.allowed_lateness_minutes * 60_000
        assert record["event_ts"] < record["produced_ts"] - allowed_ms


def test_poison_comes_in_every_kind_and_none_of_it_passes(
    sends: Sends, decode: Decode, contracts: dict[str, Contract], model: Callable[..., Model]
) -> None:
    schema_ids = {lane.entity: lane.frame for lane in model().lanes}
    kinds = Counter()
    for entity, send in sends(20_000, **{"inject.poison": 0.05}):
        if send.injected == POISON:
            kinds[poison_kind(entity, send.value, schema_ids[entity], decode, contracts[entity])] += 1
    assert set(kinds) == {"magic", "schema id", "truncated", "no uuid", "accepted value", "check"}


def poison_kind(entity: str, value: bytes, good_frame: bytes, decode: Decode, contract: Contract) -> str:
    if value[0] != 0:
        return "magic"
    if value[:5] != good_frame:
        return "schema id"
    try:
        record = decode(entity, value)
    except (EOFError, IndexError, UnicodeDecodeError, fastavro.read.SchemaResolutionError):
        return "truncated"
    if len(record["event_id"]) != 36:
        return "no uuid"
    if any(record[field] not in values for field, values in contract.accepted_values.items()):
        return "accepted value"
    assert breaks_a_check(entity, record), record
    return "check"


def breaks_a_check(entity: str, record: dict[str, Any]) -> bool:
    """The contracts' checks, repeated in Python."""
    if entity == "events":
        return (
            (record["product_id"] is None and record["event_type"] not in ("page_view", "search"))
            or (record["site_category"] is None) == (record["app_category"] is None)
            or (record["banner_position"] is not None and record["event_type"] not in ("impression", "click"))
            or (record["rating"] is None) == (record["event_type"] == "review")
            or not 1 <= (record["rating"] or 1) <= 5
        )
    if entity == "orders":
        return (
            not record["lines"]
            or record["amount_krw"] != sum(line["quantity"] * line["unit_price_krw"] for line in record["lines"])
            or not re.fullmatch("[0-9a-f]{64}", record["card_fingerprint"] or "0" * 64)
        )
    if entity == "products":
        return record["price_krw"] < 0 or record["stock"] < 0
    return "@" not in record["email"]


def test_a_flood_is_of_unique_good_records(model: Callable[..., Model], contracts: dict[str, Contract]) -> None:
    for entity in contracts:
        built = model()
        lane = next(lane for lane in built.lanes if lane.entity == entity)
        source = built.flood(entity)
        values = set()
        for seq in range(2_000):
            _, payload = next(source)
            values.add(lane.envelope(seq, 1_790_000_000_000, 1_790_000_000_000) + payload)
        assert len(values) == 2_000


def test_a_flood_of_large_orders_keeps_the_contract_and_repeats_nothing(
    model: Callable[..., Model], decode: Callable[[str, bytes], dict[str, Any]]
) -> None:
    built = model()
    lane = next(lane for lane in built.lanes if lane.entity == "orders")
    prices = {product.product_id: product.price_krw for product in built.world.products}
    sizes, ids, baskets = [], set(), set()
    for seq, (key, payload) in zip(range(3_000), built.flood("orders", 24), strict=False):
        value = lane.frame + lane.envelope(seq, 1_790_000_000_000, 1_790_000_000_000) + payload
        order = decode("orders", value)
        lines = order["lines"]
        assert key.decode() == order["order_id"]
        assert 12 <= len(lines) <= 36
        assert len({line["product_id"] for line in lines}) == len(lines)
        assert all(line["unit_price_krw"] == prices[line["product_id"]] for line in lines)
        assert order["amount_krw"] == sum(line["quantity"] * line["unit_price_krw"] for line in lines)
        assert (order["card_fingerprint"] is not None) == (order["payment_method"] == "card")
        sizes.append(len(value))
        ids.add(order["order_id"])
        baskets.add(repr(lines))
    assert len(ids) == len(baskets) == 3_000
    assert sum(sizes) / len(sizes) == pytest.approx(300, rel=0.05)


def test_a_flood_of_large_orders_is_the_same_for_a_seed(model: Callable[..., Model]) -> None:
    one, other = ([payload for _, payload in islice(model("r").flood("orders", 24), 500)] for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    ("entity", "lines", "expected"), [("orders", 200, "--lines is 200"), ("events", 3, "no lines")]
)
def test_lines_that_make_no_sense_are_refused(
    model: Callable[..., Model], entity: str, lines: int, expected: str
) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        model().flood(entity, lines)


def test_popularity_follows_zipf() -> None:
    picks = zipf(list(range(1, 101)), 1.0)
    counts = Counter(picks.pick(n / 100_000) for n in range(100_000))
    assert counts[1] / counts[2] == pytest.approx(2, rel=0.01)
    assert counts[1] / counts[10] == pytest.approx(10, rel=0.01)


def test_few_products_get_most_of_the_views(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    counts = Counter(r["product_id"] for e, r in traffic if e == "events" and r["product_id"] is not None)
    top_tenth = sum(count for _, count in counts.most_common(20))
    assert top_tenth / counts.total() > 0.5


def test_weights_must_fit_values() -> None:
    with pytest.raises(ValueError, match="weight"):
        Weighted([1, 2], [1.0])
    with pytest.raises(ValueError, match="weight"):
        Weighted([1], [0.0])


def test_every_contract_has_a_maker_and_an_unknown_entity_is_named(
    model: Callable[..., Model], contracts: dict[str, Contract]
) -> None:
    assert [lane.entity for lane in model().lanes] == list(contracts)
    with pytest.raises(ConfigurationError, match=r"entities/reviews\.py"):
        load_maker("reviews", None)


def test_a_card_fingerprint_is_a_hash_and_the_same_for_a_customer(traffic: list[tuple[str, dict[str, Any]]]) -> None:
    cards = {(r["profile_id"], r["card_fingerprint"]) for e, r in traffic if e == "orders" and r["card_fingerprint"]}
    assert len({profile for profile, _ in cards}) == len(cards)
    profile, fingerprint = next(iter(cards))
    assert fingerprint == hashlib.sha256(f"card of customer {profile}".encode()).hexdigest()
