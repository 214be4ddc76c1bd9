"""Reference data of one producer's traffic: the catalogue, the customers, and its identifiers."""

from __future__ import annotations

from random import Random

from data_generator.distributions import Weighted, zipf
from data_generator.encoding import identity
from data_generator.entities.products import Product, make_catalogue
from data_generator.entities.profiles import VISITS_BY_SEGMENT, Profile, make_profiles
from data_generator.scenario import Scenario


class World:
    """Built from the seed alone; every producer of a scenario has the same catalogue and customers.

    Order and session ids carry 40 bits of (run, producer), so that two runs of one seed don't collide.
    """

    def __init__(self, scenario: Scenario, run_id: str, producer_id: int) -> None:
        self.scenario = scenario
        rng = Random(f"{scenario.seed}/world")
        self.products: list[Product] = make_catalogue(rng, scenario.population.products)
        self.profiles: list[Profile] = make_profiles(rng, scenario.population.profiles)
        # Popularity is independent of the order of ids.
        ranked = self.products.copy()
        rng.shuffle(ranked)
        self.popularity: Weighted[Product] = zipf(ranked, scenario.population.zipf_exponent)
        self.visitors: Weighted[Profile] = Weighted(
            self.profiles, (VISITS_BY_SEGMENT[profile.segment] for profile in self.profiles)
        )
        self._mark = f"{identity(run_id, producer_id) >> 20:010x}"
        self._orders = 0
        self._sessions = 0

    def next_order_id(self) -> str:
        self._orders += 1
        return f"o-{self._mark}-{self._orders:08d}"

    def next_session_id(self) -> str:
        self._sessions += 1
        return f"s-{self._mark}-{self._sessions:09d}"
