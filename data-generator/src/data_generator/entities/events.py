"""Events: a visitor's actions, planned as whole visits so that causes precede effects.

A visit is a page view, then rounds, then perhaps checkout, then perhaps purchase, which is always the last. A round is
perhaps a search and the page of its result; then banners, shown from the top slot down until one is clicked or none
is left; then the clicked product's page; then perhaps the cart. The click-through rate falls with the banner's
position and depends on device, channel and the product's category; a better grade buys more often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from data_generator.distributions import Weighted
from data_generator.encoding import Payload
from data_generator.entities import Draft
from data_generator.entities.products import CATEGORIES, Product
from data_generator.entities.profiles import CHANNELS, Profile

if TYPE_CHECKING:
    from data_generator.entities.orders import Maker as OrderMaker
    from data_generator.entities.orders import Order
    from data_generator.world import World

DEVICES = Weighted.of({"mobile": 0.64, "desktop": 0.29, "tablet": 0.07})
OPERATING_SYSTEMS = {
    "mobile": Weighted.of({"android": 0.68, "ios": 0.32}),
    "desktop": Weighted.of({"windows": 0.76, "macos": 0.2, "linux": 0.04}),
    "tablet": Weighted.of({"android": 0.45, "ios": 0.55}),
}
#: Share of visits that use the app; the rest use the site.
APP_SHARE = {"mobile": 0.6, "desktop": 0.0, "tablet": 0.35}
#: Factors on the click-through rate.
CTR_BY_DEVICE = {"mobile": 1.1, "desktop": 0.85, "tablet": 1.0}
CTR_BY_CHANNEL = {
    "organic": 1.0,
    "direct": 1.05,
    "email": 1.45,
    "push": 1.3,
    "sms": 0.9,
    "search_ad": 1.2,
    "display_ad": 0.5,
    "social": 0.75,
}
#: Factor on adding to the cart.
CART_BY_GRADE = {"bronze": 0.9, "silver": 1.0, "gold": 1.2, "vip": 1.5}
QUERIES = ("gift", "sale", "new", "best", "cheap", "premium", "small", "large", "red", "black", "kids", "summer")


@dataclass(slots=True)
class Visit:
    """A planned visit. `steps` are encoded payloads, the next one last; `order` is placed after the last."""

    key: bytes
    delay_ms: int
    steps: list[bytes]
    order: Order | None


class _Planner:
    """Collects the steps of one visit; their common fields are given once."""

    __slots__ = ("_encode", "_in_app", "_shared", "steps")

    def __init__(self, encode: Payload, in_app: bool, shared: dict[str, Any]) -> None:
        self._encode, self._in_app, self._shared = encode, in_app, shared
        self.steps: list[bytes] = []

    def add(
        self,
        event_type: str,
        category: str,
        product_id: int | None = None,
        banner: int | None = None,
        query: str | None = None,
        order_id: str | None = None,
    ) -> None:
        self.steps.append(
            self._encode(
                event_type=event_type,
                product_id=product_id,
                order_id=order_id,
                site_category=None if self._in_app else category,
                app_category=category if self._in_app else None,
                banner_position=banner,
                search_query=query,
                rating=None,
                **self._shared,
            )
        )


class Maker:
    """See `EntityMaker`; the model also uses `plan_visit`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._funnel = world.scenario.funnel
        self._banners = len(self._funnel.ctr)

    def initial(self) -> Iterable[Draft]:
        return ()

    def draw(self, rng: Random) -> Draft:
        profile = self._world.visitors.pick(rng.random())
        category = self._world.popularity.pick(rng.random()).category
        in_app, shared = self._visitor(profile, rng)
        fields = shared | {
            "event_type": "page_view",
            "product_id": None,
            "order_id": None,
            "site_category": None if in_app else category,
            "app_category": category if in_app else None,
            "banner_position": None,
            "search_query": None,
            "rating": None,
        }
        return Draft(b"%d" % profile.profile_id, fields)

    outdated = draw

    def breakages(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            fields | {"event_type": "teleport"},
            fields | {"event_type": "click", "product_id": None},
            fields | {"device": "toaster"},
            fields | {"channel": "rumour"},
            fields | {"site_category": "home", "app_category": "home"},
            fields | {"event_type": "page_view", "banner_position": 2},
            fields | {"event_type": "review", "product_id": 1, "rating": 9},
            fields | {"event_type": "page_view", "rating": 5},
        ]

    def plan_visit(self, encode: Payload, orders: OrderMaker | None, rng: Random) -> Visit:
        """A whole visit. `orders` places the order of a purchase; without it purchases refer to none."""
        random, world, funnel = rng.random, self._world, self._funnel
        profile = world.visitors.pick(random())
        in_app, shared = self._visitor(profile, rng)
        plan = _Planner(encode, in_app, shared)
        interest = world.popularity.pick(random()).category
        plan.add("page_view", interest)
        click_factor = CTR_BY_DEVICE[shared["device"]] * CTR_BY_CHANNEL[shared["channel"]]
        cart: list[Product] = []
        another = 1 - 1 / funnel.rounds
        while True:
            self._round(plan, interest, click_factor, profile, cart, rng)
            if random() >= another:
                break
        order = None
        if cart and random() < funnel.checkout:
            plan.add("checkout", cart[0].category, cart[0].product_id)
            if random() < funnel.purchase:
                order = orders.place(profile, cart, rng) if orders else None
                order_id = order.order_id if order else None
                plan.add("purchase", cart[0].category, cart[0].product_id, order_id=order_id)
        plan.steps.reverse()
        return Visit(b"%d" % profile.profile_id, 20 + int(random() * 380), plan.steps, order)

    def _visitor(self, profile: Profile, rng: Random) -> tuple[bool, dict[str, Any]]:
        """Whether the visit is in the app, and the fields that are the same in all its events."""
        device = DEVICES.pick(rng.random())
        shared = {
            "session_id": self._world.next_session_id(),
            "profile_id": profile.profile_id,
            "device": device,
            "os": OPERATING_SYSTEMS[device].pick(rng.random()),
            "channel": CHANNELS.pick(rng.random()),
        }
        return rng.random() < APP_SHARE[device], shared

    def _round(
        self, plan: _Planner, interest: str, click_factor: float, profile: Profile, cart: list[Product], rng: Random
    ) -> None:
        random, popularity, funnel = rng.random, self._world.popularity, self._funnel
        viewed: Product | None = None
        if random() < funnel.search:
            viewed = popularity.pick(random())
            query = f"{QUERIES[int(random() * len(QUERIES))]} {viewed.category}"
            plan.add("search", interest, query=query)
            plan.add("page_view", viewed.category, viewed.product_id)
        for banner in range(1 + int(random() * self._banners)):
            shown = popularity.pick(random())
            plan.add("impression", shown.category, shown.product_id, banner)
            if random() < funnel.ctr[banner] * click_factor * CATEGORIES[shown.category][1]:
                plan.add("click", shown.category, shown.product_id, banner)
                plan.add("page_view", shown.category, shown.product_id)
                viewed = shown
                break
        if viewed and random() < funnel.add_to_cart * CART_BY_GRADE[profile.grade]:
            plan.add("add_to_cart", viewed.category, viewed.product_id)
            cart.append(viewed)
