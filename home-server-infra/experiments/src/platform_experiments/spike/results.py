"""Evaluates an arm's samples: peaks, drain, capacity, cost, and the order in which records became visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from platform_experiments.runtime import Part
from platform_experiments.spike.arms import Arm
from platform_experiments.spike.sampling import Sample

#: Phases of the generator, as `crm_generator_phase` names them.
BASELINE, HOLD = "baseline", "hold"
#: Lag counts as gone at this multiple of the most that the quiet phase before the spike had, plus a second of it.
CALM_FACTOR = 1.5
#: Seconds over which the best rate is looked for.
CAPACITY_WINDOW_S = 15
CONSUMER = (Part.DRIVER, Part.EXECUTORS)


@dataclass(frozen=True)
class Waits:
    """Produced to visible in silver: `at` seconds after the arm's first sample, `seconds` of waiting; by record."""

    at: npt.NDArray[np.float64]
    seconds: npt.NDArray[np.float64]

    def percentiles(self) -> tuple[float, float, float]:
        """p50, p95, p99 in seconds; nan without records."""
        if not len(self.seconds):
            return (float("nan"),) * 3
        p50, p95, p99 = np.percentile(self.seconds, [50, 95, 99])
        return float(p50), float(p95), float(p99)

    def curve(self, width_s: float = 5.0) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """p95 of the records produced in each `width_s` seconds: (middle of the slice, seconds)."""
        slices = (self.at // width_s).astype(np.int64)
        known = np.unique(slices)
        worst = np.array([np.percentile(self.seconds[slices == number], 95) for number in known])
        return np.asarray((known + 0.5) * width_s, dtype=np.float64), np.asarray(worst, dtype=np.float64)


@dataclass(frozen=True)
class Order:
    """`keys` that were written to more than one partition; `overtaken` records that a newer one of the same key
    preceded in silver."""

    keys: int
    moved: int
    overtaken: int


@dataclass(frozen=True)
class ArmResult:
    """Everything in the report about one arm. Seconds count from the first sample."""

    arm: Arm
    run_id: str
    samples: Sequence[Sample]
    waits: Waits
    order: Order
    equations: Mapping[str, bool]
    accounts: Mapping[str, Any] = field(default_factory=dict)
    generator: str = ""

    @property
    def accounted(self) -> bool:
        return bool(self.equations) and all(self.equations.values())

    def _phase(self, phase: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.phase == phase]

    @property
    def hold(self) -> tuple[float, float]:
        """When the spike's plateau began and ended."""
        held = self._phase(HOLD)
        return (held[0].at, held[-1].at) if held else (0.0, 0.0)

    @property
    def calm(self) -> float:
        """Records of lag at which the spike counts as digested."""
        quiet, held_from = self._phase(BASELINE), self.hold[0]
        before = [sample.lag for sample in quiet if sample.at <= held_from]
        return max(before, default=0) * CALM_FACTOR + self.rate_in(BASELINE)

    @property
    def peak_lag(self) -> int:
        return max(sample.lag for sample in self.samples)

    @property
    def peak_lag_seconds(self) -> float:
        return max(sample.lag_seconds for sample in self.samples)

    @property
    def drain_s(self) -> float | None:
        """Seconds from the plateau's end until lag is calm; None when it was not in the samples."""
        end, calm = self.hold[1], self.calm
        after = [sample for sample in self.samples if sample.at >= end]
        last_high = max((index for index, sample in enumerate(after) if sample.lag > calm), default=-1)
        if last_high == len(after) - 1:
            return None
        return after[last_high + 1].at - end

    def rate_in(self, phase: str) -> float:
        """Records/s into the topic."""
        return _rate(self._phase(phase), "produced")

    @property
    def rate_out(self) -> float:
        """Records/s committed while the plateau lasted."""
        return _rate(self._phase(HOLD), "committed")

    @property
    def capacity(self) -> float:
        """The most records/s that were committed over CAPACITY_WINDOW_S seconds."""
        best = 0.0
        for index, first in enumerate(self.samples):
            later = next((s for s in self.samples[index:] if s.at >= first.at + CAPACITY_WINDOW_S), None)
            if later is None:
                break
            best = max(best, (later.committed - first.committed) / (later.at - first.at))
        return best

    @property
    def executors(self) -> int:
        return max(sample.executors for sample in self.samples)

    @property
    def partitions(self) -> int:
        return self.samples[-1].partitions

    def cores(self, *parts: str) -> float:
        """Cores used on average from the plateau's begin until lag is calm."""
        begin, end = self.hold[0], self.hold[1] + (self.drain_s or 0.0)
        span = [sample for sample in self.samples if begin <= sample.at <= end]
        if len(span) < 2:
            return 0.0
        used = sum(span[-1].cpu.get(part, 0.0) - span[0].cpu.get(part, 0.0) for part in parts)
        return used / (span[-1].at - span[0].at)


def _rate(samples: Sequence[Sample], count: str) -> float:
    if len(samples) < 2:
        return 0.0
    first, last = samples[0], samples[-1]
    return float(getattr(last, count) - getattr(first, count)) / (last.at - first.at)


def order_of(
    keys: npt.NDArray[np.int64],
    sequence: npt.NDArray[np.int64],
    partitions: npt.NDArray[np.int64],
    commits: npt.NDArray[np.int64],
) -> Order:
    """Order per key of one producer's records: sent by `sequence`, made visible by the commit of that number."""
    if not len(keys):
        return Order(0, 0, 0)
    by_key = np.lexsort((sequence, keys))
    key, commit, partition = keys[by_key], commits[by_key], partitions[by_key]
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    lowest = np.minimum.reduceat(partition, starts)
    highest = np.maximum.reduceat(partition, starts)
    # Walking from the newest record of a key to its oldest, the earliest commit seen so far is what overtakes.
    overtaken = 0
    for begin, end in zip(starts, np.r_[starts[1:], len(key)], strict=True):
        earliest_later = np.minimum.accumulate(commit[begin:end][::-1])[::-1]
        overtaken += int((commit[begin : end - 1] > earliest_later[1:]).sum())
    return Order(len(starts), int((lowest != highest).sum()), overtaken)
