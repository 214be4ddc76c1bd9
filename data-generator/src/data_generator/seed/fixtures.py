"""The fixtures themselves, from the seed and the numbers reached: no clock, no run id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, time, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from data_generator.distributions import Weighted
from data_generator.entities import Draft
from data_generator.entities.events import APP_SHARE, DEVICES, OPERATING_SYSTEMS
from data_generator.entities.orders import PAID, PLACED, REFUNDED, Order, make_order
from data_generator.entities.products import make_catalogue
from data_generator.entities.profiles import CHANNELS, Profile, make_profiles
from data_generator.seed.patterns import Placed, bend
from data_generator.seed.plan import ID_BASE, LABELS, Reached, SeedScenario

RATINGS = Weighted.of({5: 0.46, 4: 0.27, 3: 0.13, 2: 0.06, 1: 0.08})
#: Weight of each local hour for honest orders and reviews.
_HOURS = Weighted(list(range(24)), [2, 1, 1, 1, 1, 1, 2, 4, 6, 7, 8, 9, 11, 10, 9, 8, 8, 9, 10, 12, 14, 15, 12, 7])
#: Share of orders that are paid; of the fraudulent ones, share whose owner's bank takes the money back.
_PAID, _TAKEN_BACK = 0.95, 0.4


@dataclass(frozen=True)
class Fixture:
    """One record without an envelope; `event_ts` in milliseconds since 1970."""

    entity: str
    event_ts: int
    draft: Draft


class Fixtures:
    """Fixtures with numbers above `base`: a number has the same content in every run."""

    def __init__(self, scenario: SeedScenario, base: Reached) -> None:
        self._scenario, self._base = scenario, base
        key = "/".join(str(number) for number in base.model_dump().values())
        self._rng = Random(f"{scenario.seed}/seed/{key}")
        self._zone = ZoneInfo(scenario.zone)
        self._first = scenario.last_day - timedelta(days=scenario.days - 1)
        counts = scenario.counts
        self.products = [
            replace(one, product_id=ID_BASE + base.products + one.product_id, name=f"seeded {one.name}")
            for one in make_catalogue(self._rng, counts.products)
        ]
        self.profiles = [self._profile(one) for one in make_profiles(self._rng, counts.profiles)]
        self.orders = self._orders()
        self._reviews = list(self._draw_reviews())

    def _profile(self, profile: Profile) -> Profile:
        number = self._base.profiles + profile.profile_id
        return replace(profile, profile_id=ID_BASE + number, email=f"seeded{number}@test.com")

    def initial(self) -> Iterator[Fixture]:
        """Products and customers, all of the first day's beginning."""
        begin = self._ms(0, 0)
        for product in self.products:
            yield Fixture("products", begin, Draft(b"%d" % product.product_id, asdict(product)))
        for profile in self.profiles:
            yield Fixture("profiles", begin, Draft(b"%d" % profile.profile_id, asdict(profile)))

    def traffic(self) -> list[Fixture]:
        """Orders' changes and reviews, by event time; an order's changes in their order."""
        rng = Random(f"{self._scenario.seed}/changes/{self._base.orders}")
        found = [fixture for placed in self.orders for fixture in self._changes(placed, rng)]
        return sorted([*found, *self._reviews], key=lambda fixture: fixture.event_ts)

    def labels(self) -> list[dict[str, Any]]:
        """The label of each order."""
        return [
            {
                "order_id": one.order.order_id,
                "profile_id": one.order.profile_id,
                "label": one.label,
                "pattern": one.pattern or None,
            }
            for one in self.orders
        ]

    def _orders(self) -> list[Placed]:
        count, rng = self._scenario.counts.orders, self._rng
        honest = [self._honest(number) for number in range(self._base.orders + 1, self._base.orders + count + 1)]
        rng.shuffle(honest)
        wrong = {label: round(count * self._scenario.labels[label]) for label in LABELS[1:]}
        orders: list[Placed] = []
        at = 0
        for label, size in wrong.items():
            orders += bend(label, honest[at : at + size], rng)
            at += size
        return sorted([*orders, *honest[at:]], key=lambda one: one.order.order_id)

    def _honest(self, number: int) -> Placed:
        rng = self._rng
        profile = rng.choice(self.profiles)
        basket = rng.sample(self.products, min(len(self.products), 1 + int(rng.random() * 3)))
        return Placed(make_order(f"seed-{number:08d}", profile.profile_id, basket, rng), *self._moment())

    def _moment(self) -> tuple[int, float]:
        rng = self._rng
        return int(rng.random() * self._scenario.days), (_HOURS.pick(rng.random()) + rng.random()) * 3600

    def _ms(self, day: int, second: float) -> int:
        midnight = datetime.combine(self._first + timedelta(days=day), time(), self._zone)
        return int((midnight.timestamp() + second) * 1000)

    def _changes(self, placed: Placed, rng: Random) -> Iterator[Fixture]:
        at = self._ms(placed.day, placed.second)
        yield _change(placed.order, PLACED, at)
        paid, taken_back = rng.random() < _PAID, rng.random() < _TAKEN_BACK
        if paid:
            at += int(rng.uniform(5, 300) * 1000)
            yield _change(placed.order, PAID, at)
        if paid and placed.label == "fraud" and taken_back:
            at += int(rng.uniform(0.5, 5) * 86_400_000)
            yield _change(placed.order, REFUNDED, at)

    def _draw_reviews(self) -> Iterator[Fixture]:
        """One per customer and product: first of what was bought, then of anything."""
        honest = [one.order for one in self.orders if one.label == "normal"]
        bought = [(order.profile_id, product_id) for order in honest for product_id, _, _ in order.lines]
        categories = {product.product_id: product.category for product in self.products}
        pairs = iter(dict.fromkeys(bought))
        known: set[tuple[int, int]] = set()
        number = self._base.reviews
        while len(known) < self._scenario.counts.reviews:
            pair = next(pairs, None) or (self._someone().profile_id, self._rng.choice(self.products).product_id)
            if pair in known:
                continue
            known.add(pair)
            number += 1
            yield self._review(number, *pair, categories[pair[1]])

    def _someone(self) -> Profile:
        return self._rng.choice(self.profiles)

    def _review(self, number: int, profile_id: int, product_id: int, category: str) -> Fixture:
        rng = self._rng
        device = DEVICES.pick(rng.random())
        in_app = rng.random() < APP_SHARE[device]
        fields = {
            "event_type": "review",
            "session_id": f"seed-review-{number:08d}",
            "profile_id": profile_id,
            "product_id": product_id,
            "order_id": None,
            "device": device,
            "os": OPERATING_SYSTEMS[device].pick(rng.random()),
            "channel": CHANNELS.pick(rng.random()),
            "site_category": None if in_app else category,
            "app_category": category if in_app else None,
            "banner_position": None,
            "search_query": None,
            "rating": RATINGS.pick(rng.random()),
        }
        return Fixture("events", self._ms(*self._moment()), Draft(b"%d" % profile_id, fields))


def _change(order: Order, status: str, event_ts: int) -> Fixture:
    fields = {
        "order_id": order.order_id,
        "order_status": status,
        "profile_id": order.profile_id,
        "lines": order.lines,
        "amount_krw": order.amount_krw,
        "payment_method": order.payment_method,
        "card_fingerprint": order.card_fingerprint,
        "ip": order.ip,
    }
    return Fixture("orders", event_ts, Draft(order.order_id.encode(), fields))
