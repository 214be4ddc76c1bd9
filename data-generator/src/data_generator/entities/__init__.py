"""One module per contract, found by its name. Each has a class `Maker` that is an `EntityMaker`.

A new entity is a folder under contracts/ and a module here; the scenario's `mix` may then name it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from random import Random
from typing import Any, NamedTuple, Protocol

from data_platform_core.errors import ConfigurationError


class Draft(NamedTuple):
    """A record before it has an envelope: the Kafka key and the fields after the envelope."""

    key: bytes
    fields: dict[str, Any]


class EntityMaker(Protocol):
    """Interface of an entity for the model. All randomness comes from `rng`."""

    def initial(self) -> Iterable[Draft]:
        """Reference data that must be sent before the traffic, in order."""
        ...

    def draw(self, rng: Random) -> Draft:
        """Another record without a successor: a change, or an independent fact."""
        ...

    def outdated(self, rng: Random) -> Draft:
        """A late record, as from an outdated source. Does not change the world."""
        ...

    def breakages(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """Invalid variants of `fields`: each can be encoded and breaks the contract."""
        ...


def load_maker(entity: str, world: Any) -> EntityMaker:
    """The maker of `entity`. Raises ConfigurationError if the generator has no maker for it."""
    try:
        module = import_module(f"{__name__}.{entity}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{entity}":
            raise
        raise ConfigurationError(
            f"entity {entity!r} has a contract but no data_generator/entities/{entity}.py; write its Maker"
        ) from None
    maker: EntityMaker = module.Maker(world)
    return maker
