"""Amount of traffic of a bench; short loads test it, long ones measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """`backlog` in records; the others in seconds of each measurement and of warming a driver before.

    `rounds`: how often part settings measures each; `idle`: seconds without traffic in it.
    `settings`: prefixes of the names of settings to compare; empty for all. `keys` of a full deduplication window,
    rising.
    """

    backlog: int = 500_000
    seconds: int = 90
    warm_up: int = 90
    idle: int = 30
    rounds: int = 1
    settings: tuple[str, ...] = ()
    keys: tuple[int, ...] = (1_000_000,)
