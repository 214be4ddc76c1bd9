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
    """What the model asks of an entity. Randomness comes from `rng` alone."""

    def initial(self) -> Iterable[Draft]:
        """What must be there before traffic refers to it, in order."""
        ...

    def draw(self, rng: Random) -> Draft:
        """One more record that needs no other one after it: a change, or a fact that stands alone."""
        ...

    def outdated(self, rng: Random) -> Draft:
        """A record as an out-of-date source would send it late. Changes nothing in the world."""
        ...

    def breakages(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """`fields` made wrong in different ways: each can be encoded and breaks the contract."""
        ...


def load_maker(entity: str, world: Any) -> EntityMaker:
    """The maker of `entity`. Raises ConfigurationError when the generator doesn't know it."""
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
