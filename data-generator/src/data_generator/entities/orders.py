"""Orders: placed by a purchase, then paid, then a few cancelled or refunded; each change is a record.

`placed -> paid | cancelled`, `paid -> refunded | cancelled`, nothing after these. Prices are those
when the order was made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from data_generator.distributions import Weighted
from data_generator.entities import Draft
from data_generator.entities.products import Product
from data_generator.entities.profiles import Profile

if TYPE_CHECKING:
    from data_generator.world import World

CARD = "card"
PAYMENTS = Weighted.of({CARD: 0.5, "kakao_pay": 0.25, "naver_pay": 0.18, "bank_transfer": 0.07})
QUANTITIES = Weighted.of({1: 0.72, 2: 0.2, 3: 0.08})
PLACED, PAID, CANCELLED, REFUNDED = "placed", "paid", "cancelled", "refunded"
#: Addresses reserved for documentation (RFC 5737).
NETWORKS = ("192.0.2", "198.51.100", "203.0.113")


@dataclass(slots=True)
class Order:
    """What all records of an order share; a line is (product_id, quantity, unit_price_krw)."""

    order_id: str
    profile_id: int
    lines: list[tuple[int, int, int]]
    payment_method: str
    card_fingerprint: str | None
    ip: str

    @property
    def amount_krw(self) -> int:
        return sum(quantity * price for _, quantity, price in self.lines)


def fingerprint(profile_id: int) -> str:
    """The customer's card in the contract's format: 64 hex digits."""
    return hashlib.sha256(b"card of customer %d" % profile_id).hexdigest()


def address(profile_id: int) -> str:
    """The customer's IPv4 address."""
    return f"{NETWORKS[profile_id % 3]}.{profile_id // 3 % 254 + 1}"


def make_order(order_id: str, profile_id: int, basket: Iterable[Product], rng: Random) -> Order:
    """An order of `basket`, one line per product, from the customer's own card and address."""
    payment = PAYMENTS.pick(rng.random())
    wanted = {product.product_id: product for product in basket}
    lines = [(product.product_id, QUANTITIES.pick(rng.random()), product.price_krw) for product in wanted.values()]
    card = fingerprint(profile_id) if payment == CARD else None
    return Order(order_id, profile_id, lines, payment, card, address(profile_id))


class Maker:
    """See `EntityMaker`; the model also uses `place`, `draft` and `next_status`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._funnel = world.scenario.funnel

    def initial(self) -> Iterable[Draft]:
        return ()

    def draw(self, rng: Random) -> Draft:
        profile = rng.choice(self._world.profiles)
        basket = [self._world.popularity.pick(rng.random())]
        return self.draft(self.place(profile, basket, rng), PLACED)

    outdated = draw

    def breakages(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            fields | {"amount_krw": fields["amount_krw"] + 1},
            fields | {"lines": []},
            fields | {"order_status": "teleported"},
            fields | {"payment_method": "barter"},
            fields | {"payment_method": CARD, "card_fingerprint": "not a hash"},
        ]

    def place(self, profile: Profile, basket: list[Product], rng: Random) -> Order:
        """A new order of `basket`, one line per product."""
        return make_order(self._world.next_order_id(), profile.profile_id, basket, rng)

    def next_status(self, status: str, rng: Random) -> tuple[str, float] | None:
        """The next status of an order in `status`, and the delay in seconds; None if it is final."""
        funnel, fate = self._funnel, rng.random()
        if status == PLACED:
            if fate < funnel.paid:
                return PAID, rng.uniform(2, 6)
            return (CANCELLED, rng.uniform(4, 12)) if rng.random() < 0.5 else None
        if status == PAID:
            if fate < funnel.refunded:
                return REFUNDED, rng.uniform(6, 20)
            return (CANCELLED, rng.uniform(3, 10)) if fate < funnel.refunded + funnel.cancelled else None
        return None

    def draft(self, order: Order, status: str) -> Draft:
        return Draft(
            order.order_id.encode(),
            {
                "order_id": order.order_id,
                "order_status": status,
                "profile_id": order.profile_id,
                "lines": order.lines,
                "amount_krw": order.amount_krw,
                "payment_method": order.payment_method,
                "card_fingerprint": order.card_fingerprint,
                "ip": order.ip,
            },
        )
