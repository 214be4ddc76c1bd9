"""Profiles: the customers, sent once, then slow changes of grade, segment and consent, each a version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from random import Random
from typing import TYPE_CHECKING, Any

from data_generator.distributions import Weighted
from data_generator.entities import Draft

if TYPE_CHECKING:
    from data_generator.world import World

GRADES = Weighted.of({"bronze": 0.6, "silver": 0.25, "gold": 0.11, "vip": 0.04})
#: Share of customers, and how often one of them visits beside a new one.
SEGMENTS = Weighted.of({"new": 0.2, "active": 0.4, "loyal": 0.15, "dormant": 0.25})
VISITS_BY_SEGMENT = {"new": 1.0, "active": 2.0, "loyal": 4.0, "dormant": 0.2}
CHANNELS = Weighted.of(
    {
        "organic": 0.26,
        "direct": 0.2,
        "email": 0.12,
        "push": 0.12,
        "sms": 0.05,
        "search_ad": 0.12,
        "display_ad": 0.05,
        "social": 0.08,
    }
)
#: Sign-ups lie in the five years before this day, so that catalogues don't change with the calendar.
NEWEST_SIGNUP = (date(2025, 12, 31) - date(1970, 1, 1)).days


@dataclass(slots=True)
class Profile:
    """The current version of a customer; `signup_date` is days since 1970."""

    profile_id: int
    email: str
    grade: str
    segment: str
    signup_channel: str
    signup_date: int
    marketing_consent: bool


def make_profiles(rng: Random, size: int) -> list[Profile]:
    """`size` customers with ids from 1."""
    return [
        Profile(
            number,
            f"user{number}@test.com",
            GRADES.pick(rng.random()),
            SEGMENTS.pick(rng.random()),
            CHANNELS.pick(rng.random()),
            NEWEST_SIGNUP - int(rng.random() * 1826),
            rng.random() < 0.7,
        )
        for number in range(1, size + 1)
    ]


class Maker:
    """See `EntityMaker`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def initial(self) -> Iterator[Draft]:
        return (_draft(profile) for profile in self._world.profiles)

    def draw(self, rng: Random) -> Draft:
        profile = rng.choice(self._world.profiles)
        change = rng.random()
        if change < 0.5:
            # One step up or down the ladder.
            position = GRADES.values.index(profile.grade) + (1 if rng.random() < 0.6 else -1)
            profile.grade = GRADES.values[min(max(position, 0), len(GRADES.values) - 1)]
        elif change < 0.8:
            profile.segment = SEGMENTS.pick(rng.random())
        else:
            profile.marketing_consent = not profile.marketing_consent
        return _draft(profile)

    def outdated(self, rng: Random) -> Draft:
        return _draft(replace(rng.choice(self._world.profiles), grade=GRADES.values[0], segment="new"))

    def breakages(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            fields | {"email": "nobody"},
            fields | {"grade": "platinum"},
            fields | {"segment": "unheard_of"},
            fields | {"signup_channel": "carrier_pigeon"},
        ]


def _draft(profile: Profile) -> Draft:
    return Draft(b"%d" % profile.profile_id, asdict(profile))
