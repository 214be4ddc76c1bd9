"""What is measured of anything that carries a topic into a table: the platform's stream under a setting, or a peer.

Latency, commits and CPU at each rate; CPU while nothing comes; a backlog. CPU suffers less than wall times when the
machine has other work, and the share of a JVM's compilers says how warm it was.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from statistics import median
from typing import Protocol

from platform_experiments.bench.measuring import LATENCY_RATES, Bench, Used, console

_WARM_UP_RATE = 3000
_SEED = 20261128
_NAN = float("nan")


class Subject(Protocol):
    """A consumer that runs."""

    @property
    def folder(self) -> str:
        """Its table of decoded records in the lake's bucket."""

    def use(self) -> Callable[[], Used]:
        """Begin to count; the function returned gives what it has used since then."""

    def drain(self) -> float:
        """Seconds until its tables hold what the topic holds now."""

    def paused(self) -> AbstractContextManager[None]:
        """Stop it where it is inside the block."""


#: Starts a subject, and ends it after the block.
Started = Callable[[Bench], AbstractContextManager[Subject]]


@dataclass(frozen=True)
class AtRate:
    """Latency in seconds, commits of the entity, CPU seconds per commit, cores, compilers' share of the CPU."""

    p50: float
    p95: float
    commits: float
    cpu_per_commit: float
    cores: float
    compilers: float


@dataclass(frozen=True)
class Figures:
    """What a subject had in one round: at each of LATENCY_RATES, idle (cores), from a backlog."""

    rates: tuple[AtRate, ...]
    idle_cores: float
    backlog_per_s: float
    backlog_cpu_per_million: float

    def cells(self) -> tuple[float, ...]:
        """In the order of `columns`."""
        by_rate = [value for rate in self.rates for value in astuple(rate)]
        return (*by_rate, self.idle_cores, self.backlog_per_s, self.backlog_cpu_per_million)


def columns() -> tuple[str, ...]:
    """Headings of the table behind the subject's name."""
    what = ("p50 s", "p95 s", "commits", "CPU s per commit", "cores", "compilers' share")
    assert len(what) == len(fields(AtRate))
    by_rate = [f"{rate:,}/s: {name}" for rate in LATENCY_RATES for name in what]
    return (*by_rate, "idle cores", "backlog records/s", "CPU s per million")


def compare(bench: Bench, part: str, subjects: Mapping[str, Started]) -> None:
    """Every subject once a round, in an order of its own each; prints each as it ends, then the table."""
    found: dict[str, list[Figures]] = {name: [] for name in subjects}
    for number, name in _order(list(subjects), bench.load.rounds):
        console.print(f"{part}, round {number + 1}/{bench.load.rounds}: {name}")
        run_id = f"{part}-{number}-{list(subjects).index(name)}"
        with subjects[name](bench) as subject:
            found[name].append(_figures(bench, subject, run_id))
        console.print(f"  {table_line(name, found[name][-1:])}", soft_wrap=True)
    table = [_row((part, *columns())), f"|{'---|' * (len(columns()) + 1)}"]
    console.print("\n".join([*table, *(table_line(name, rounds) for name, rounds in found.items())]), soft_wrap=True)


def _order(names: list[str], rounds: int) -> Iterator[tuple[int, str]]:
    for number in range(rounds):
        for name in random.Random(_SEED + number).sample(names, len(names)):
            yield number, name


def _figures(bench: Bench, subject: Subject, run_id: str) -> Figures:
    load = bench.load
    bench.generate(f"{run_id}-warm-up", _WARM_UP_RATE, load.warm_up)
    subject.drain()
    rates = tuple(_at_rate(bench, subject, f"{run_id}-{rate}", rate) for rate in LATENCY_RATES)
    idle = subject.use()
    time.sleep(load.idle)
    idle_cores = idle().cores
    with subject.paused():
        bench.flood(f"{run_id}-backlog", load.backlog)
    taking = subject.use()
    rate = load.backlog / subject.drain()
    return Figures(rates, idle_cores, rate, taking().cpu_s / load.backlog * 1e6)


def _at_rate(bench: Bench, subject: Subject, run_id: str, rate: int) -> AtRate:
    use, since = subject.use(), datetime.now(UTC)
    bench.generate(run_id, rate, bench.load.seconds)
    used = use()
    subject.drain()
    found = bench.latency(subject.folder, run_id, since)
    if found is None:
        return AtRate(_NAN, _NAN, 0, _NAN, used.cores, used.compilers)
    return AtRate(found.p50, found.p95, found.commits, used.cpu_s / found.commits, used.cores, used.compilers)


def table_line(name: str, rounds: Sequence[Figures]) -> str:
    """A row of Markdown: each figure's median, with its range where there are several rounds."""
    return _row((name, *(_shown(values) for values in zip(*(figures.cells() for figures in rounds), strict=True))))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _shown(values: Sequence[float]) -> str:
    digits = 0 if max(values) >= 10 else 2
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
