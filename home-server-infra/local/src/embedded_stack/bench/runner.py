"""Runs the parts of the bench one after the other on one fresh stack, and takes the stack down again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from data_platform_core.errors import ConfigurationError
from embedded_stack import api
from embedded_stack.bench import producing, streaming
from embedded_stack.bench.measuring import ENVIRONMENT, Measured, console, print_table


@dataclass(frozen=True)
class Part:
    """A part of the bench: `measure(backlog)` works on the stack that is up and returns its rows."""

    title: str
    minutes: float
    measure: Callable[[int], Sequence[Measured]]


#: In the order in which they run. The streaming driver is started by the part that wants it.
PARTS: Mapping[str, Part] = {
    "streaming": Part("streaming, warm driver", 7, streaming.measure),
    # After those that read what was sent: it leaves millions of orders in the topic.
    "producing": Part(f"producing, median of {producing.REPEATS}", 5, producing.measure),
}


def run(backlog: int, only: Sequence[str] = ()) -> None:
    """Measure `only` these parts (default: all), print a table for each. Raises ConfigurationError for no such part."""
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise ConfigurationError(f"bench has no part {unknown[0]}; one of: {', '.join(PARTS)}")
    chosen = {name: part for name, part in PARTS.items() if not only or name in only}
    api.down(ENVIRONMENT)
    api.clean(ENVIRONMENT)
    minutes = sum(part.minutes for part in chosen.values())
    console.print(f"bench: a fresh stack in {ENVIRONMENT}, {os.cpu_count()} cores; about {minutes + 1:.0f} minutes")
    api.up(ENVIRONMENT)
    try:
        for part in chosen.values():
            print_table(part.title, part.measure(backlog))
    finally:
        api.down(ENVIRONMENT)
