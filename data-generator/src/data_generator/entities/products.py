"""Products: a catalogue sent once, then slow changes of price, stock and status, each a version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from data_generator.entities import Draft

if TYPE_CHECKING:
    from data_generator.world import World

#: Typical price in whole KRW, and demand: both are visible in the marts.
CATEGORIES: dict[str, tuple[int, float]] = {
    "electronics": (320_000, 0.9),
    "fashion": (59_000, 1.25),
    "beauty": (28_000, 1.2),
    "food": (15_000, 1.1),
    "home": (74_000, 0.85),
    "sports": (66_000, 0.9),
    "books": (17_000, 0.7),
    "toys": (31_000, 0.95),
}
ACTIVE, OUT_OF_STOCK, DISCONTINUED = "active", "out_of_stock", "discontinued"


@dataclass(slots=True)
class Product:
    """The current version of a product; prices are whole KRW."""

    product_id: int
    name: str
    category: str
    price_krw: int
    stock: int
    status: str


def make_catalogue(rng: Random, size: int) -> list[Product]:
    """`size` products with ids from 1; categories take turns, so that each is there however few they are."""
    names = list(CATEGORIES)
    products = []
    for number in range(1, size + 1):
        category = names[(number - 1) % len(names)]
        price = round(CATEGORIES[category][0] * rng.lognormvariate(0, 0.6), -2)
        products.append(
            Product(number, f"{category} item {number}", category, max(1_000, int(price)), rng.randint(20, 500), ACTIVE)
        )
    return products


class Maker:
    """See `EntityMaker`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def initial(self) -> Iterator[Draft]:
        return (_draft(product) for product in self._world.products)

    def draw(self, rng: Random) -> Draft:
        product = rng.choice(self._world.products)
        change = rng.random()
        if change < 0.5:
            product.price_krw = max(1_000, round(product.price_krw * rng.uniform(0.9, 1.1) / 100) * 100)
        else:
            product.stock = max(0, product.stock + rng.randint(-60, 80))
            product.status = ACTIVE if product.stock else OUT_OF_STOCK
        return _draft(product)

    def outdated(self, rng: Random) -> Draft:
        product = rng.choice(self._world.products)
        return _draft(replace(product, price_krw=product.price_krw + 100, stock=product.stock + rng.randint(1, 50)))

    def breakages(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            fields | {"price_krw": -1},
            fields | {"stock": -5},
            fields | {"status": "vanished"},
            fields | {"category": "contraband"},
        ]


def _draft(product: Product) -> Draft:
    return Draft(b"%d" % product.product_id, asdict(product))
