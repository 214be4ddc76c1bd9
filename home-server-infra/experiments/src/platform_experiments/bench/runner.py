"""Runs the parts of the bench in sequence on one fresh stack, then stops the stack."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from data_platform_core.errors import ConfigurationError
from platform_experiments.bench import loading, producing, profile, restart, settings, starting, streaming
from platform_experiments.bench.load import Load
from platform_experiments.bench.machine import speed
from platform_experiments.bench.measuring import ENVIRONMENT, Bench, Measured, console, print_table
from platform_experiments.bench.peers import measuring as peers
from platform_experiments.runtime import Runtime
from platform_experiments.steps import begin_anew


@dataclass(frozen=True)
class Part:
    """A part of the bench: `measure` works on the stack that is up and returns its rows."""

    title: str
    minutes: float
    measure: Callable[[Bench], Sequence[Measured]]
    #: Runs without being named.
    by_default: bool = True


#: In order of execution. A part starts the driver that it needs, and stops it.
PARTS: Mapping[str, Part] = {
    "streaming": Part("streaming, warm driver", 7, streaming.measure),
    "peers": Part("streaming and three other ways", 20, peers.measure),
    # After those that read what was sent: it leaves millions of orders in the topic.
    "producing": Part(f"producing, median of {producing.REPEATS}", 5, producing.measure),
    "loading": Part("loading the warehouse", 6, loading.measure, by_default=False),
    "starting": Part("starting Spark", 20, starting.measure, by_default=False),
    "profile": Part("where the driver's CPU goes", 6, profile.measure, by_default=False),
    "settings": Part("streaming by setting", 40, settings.measure, by_default=False),
    # The last: it leaves rows in silver that nothing else may read.
    "restart": Part("restart with a full window", 4, restart.measure, by_default=False),
}


def run(runtime: Runtime, load: Load, only: Sequence[str] = ()) -> None:
    """Measure `only` these parts (default: all), print a table for each. Raises ConfigurationError for no such part."""
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise ConfigurationError(f"bench has no part {unknown[0]}; one of: {', '.join(PARTS)}")
    chosen = {name: part for name, part in PARTS.items() if (name in only if only else part.by_default)}
    bench = Bench(runtime, load)
    minutes = sum(part.minutes for part in chosen.values())
    console.print(f"bench: a fresh stack in {ENVIRONMENT}, {os.cpu_count()} cores; about {minutes + 1:.0f} minutes")
    console.print(f"machine before: {speed()}")
    begin_anew(runtime)
    try:
        for part in chosen.values():
            rows = part.measure(bench)
            if rows:
                print_table(part.title, rows)
    finally:
        runtime.down()
    console.print(f"machine after: {speed()}")
