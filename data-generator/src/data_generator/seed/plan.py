"""scenarios/seed.yaml, and the highest identifiers assigned so far."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import Field, field_validator

from data_generator.scenario import Curve, Population, Rate, Scenario, Strict, Zone, check_shares
from data_platform_core.errors import ConfigurationError

LABELS = ("normal", "suspicious", "fraud")
#: Identifiers of seeded customers and products lie above this; those of scenarios stay far below.
ID_BASE = 900_000_000


class Counts(Strict):
    """Number of fixtures of each kind."""

    profiles: int = Field(ge=1, le=1_000_000)
    products: int = Field(ge=1, le=1_000_000)
    orders: int = Field(ge=0, le=5_000_000)
    reviews: int = Field(ge=0, le=5_000_000)


class Reached(Strict):
    """The highest number of each kind that was given out."""

    profiles: int = 0
    products: int = 0
    orders: int = 0
    reviews: int = 0

    def after(self, base: Reached, counts: Counts) -> Reached:
        """Once `counts` more than `base` are given out."""
        reached = {kind: max(getattr(self, kind), end) for kind, end in add(base, counts).items()}
        return Reached(**reached)


def add(base: Reached, counts: Counts) -> dict[str, int]:
    """`base` and `counts` together, by kind."""
    return {kind: getattr(base, kind) + count for kind, count in counts.model_dump().items()}


class SeedScenario(Strict):
    """The scenario file. `labels` are shares of the orders; event times end with `last_day`, local to `zone`."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    seed: int
    counts: Counts
    labels: dict[str, float]
    last_day: date
    days: int = Field(ge=1, le=3650)
    zone: Zone = "Asia/Seoul"

    @field_validator("labels")
    @classmethod
    def _all_labels(cls, labels: dict[str, float]) -> dict[str, float]:
        check_shares("labels", labels, frozenset(LABELS))
        if set(labels) != set(LABELS):
            raise ValueError(f"say the share of each of {', '.join(LABELS)}")
        return labels

    def scenario(self) -> Scenario:
        """The scenario for a run; it draws no traffic."""
        return Scenario(
            name=self.name,
            seed=self.seed,
            rate=Rate(low=1, high=1),
            curve=Curve(hours=(1.0,) * 24, zone=self.zone),
            mix={"visits": 1.0},
            population=Population(products=1, profiles=1),
        )

    def with_counts(self, counts: Mapping[str, int | None]) -> SeedScenario:
        """The same with other counts where they are given. Raises ConfigurationError for an impossible one."""
        given = {kind: count for kind, count in counts.items() if count is not None}
        for kind, count in given.items():
            if count < (1 if kind in ("profiles", "products") else 0):
                raise ConfigurationError(f"--{kind} is {count}: too few")
        found = self.model_copy(update={"counts": self.counts.model_copy(update=given)})
        if found.counts.reviews > found.counts.profiles * found.counts.products:
            raise ConfigurationError(
                f"--reviews is {found.counts.reviews}: {found.counts.profiles} customers and {found.counts.products} "
                "products have no more pairs; a customer reviews a product once"
            )
        return found
