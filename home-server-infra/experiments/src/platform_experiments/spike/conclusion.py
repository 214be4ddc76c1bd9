"""Sentences that follow from the numbers: which remedy works, why, what it costs. Nothing here knows the outcome."""

from __future__ import annotations

from collections.abc import Sequence

from platform_experiments.spike.results import BASELINE, CONSUMER, HOLD, ArmResult

#: A remedy is said to work when it takes away this share of the baseline's peak or of its drain.
WORTH_SAYING = 0.2


def conclusions(results: Sequence[ArmResult]) -> list[str]:
    """What the arms show, best first."""
    base = next((result for result in results if result.arm.name == BASELINE), None)
    if base is None:
        return ["There was no baseline among the arms: the table compares them with each other only."]
    said = [_baseline(base)]
    others = [result for result in results if result is not base]
    for result in sorted(others, key=lambda each: (each.drain_s is None, each.drain_s, each.peak_lag)):
        said.append(_remedy(result, base))
    if others:
        said.append(_choice(base, others))
    return said


def _baseline(base: ArmResult) -> str:
    rate = base.rate_in(HOLD)
    if base.rate_out >= rate * 0.95:
        return (
            f"The baseline kept up: {base.rate_out:,.0f} of {rate:,.0f} records/s came out while the spike was held. "
            "There was nothing to cure; raise the rate."
        )
    drain = "was not over in time" if base.drain_s is None else f"took {base.drain_s:.0f} s after the hold"
    return (
        f"Untouched, {rate:,.0f} records/s met a consumer that took {base.rate_out:,.0f}: lag grew to "
        f"{base.peak_lag:,} records, the oldest {base.peak_lag_seconds:.0f} s old, and the drain {drain}."
    )


def _remedy(result: ArmResult, base: ArmResult) -> str:
    peak = _share(base.peak_lag - result.peak_lag, base.peak_lag)
    drained = (
        None if result.drain_s is None or not base.drain_s else _share(base.drain_s - result.drain_s, base.drain_s)
    )
    works = max(peak, drained or 0.0) >= WORTH_SAYING
    drain = "it was not drained in time" if result.drain_s is None else f"drained {result.drain_s:.0f} s after the hold"
    return (
        f"{result.arm.name} {'works' if works else 'does not help here'}: peak {result.peak_lag:,} records "
        f"({_change(peak)}), {drain}{f' ({_change(drained)})' if drained is not None else ''}, at best "
        f"{result.capacity:,.0f} records/s. {_why(result, base)} {_cost(result, base)}"
    )


def _why(result: ArmResult, base: ArmResult) -> str:
    """From what was seen of tasks and executors, not from what was hoped."""
    split, grown, more = result.arm.min_partitions, result.partitions > base.partitions, result.executors > 1
    if result.arm.executors_max > 1 and not more:
        return "Spark asked for no second executor: with a task per partition none waited for a slot."
    reasons = []
    if split:
        reasons.append(f"a batch was split into up to {split} tasks")
    if grown:
        reasons.append(
            f"{result.partitions} partitions are as many tasks, for records that came after them; those already "
            f"waiting stayed in the first {base.partitions}"
        )
    if more:
        reasons.append(f"{result.executors} executors ran them")
    return f"Why: {'; '.join(reasons)}." if reasons else ""


def _cost(result: ArmResult, base: ArmResult) -> str:
    cores = result.cores(*CONSUMER)
    costs = [f"{cores:.2f} cores on average against {base.cores(*CONSUMER):.2f}"]
    if result.executors > base.executors:
        costs.append(f"the memory of {result.executors - base.executors} more executors")
    if result.order.moved > base.order.moved:
        costs.append(f"{result.order.moved:,} of {result.order.keys:,} keys changed their partition")
    if result.arm.min_partitions:
        costs.append("a restart of the stream, when it is not set from the start")
    return f"Cost: {', '.join(costs)}."


def _choice(base: ArmResult, others: Sequence[ArmResult]) -> str:
    """The cheapest remedy that comes near the best."""
    drained = [result for result in others if result.drain_s is not None]
    if not drained:
        return "No remedy drained the backlog in time: the spike is beyond all of them."
    best = min(drained, key=lambda each: each.peak_lag)
    near = [each for each in drained if each.peak_lag <= max(best.peak_lag * 1.25, base.peak_lag * 0.05)]
    cheapest = min(near, key=lambda each: (each.executors, each.partitions, each.cores(*CONSUMER)))
    if cheapest is best:
        return f"First choice: {best.arm.name}; no cheaper arm came near its peak of {best.peak_lag:,} records."
    return (
        f"First choice: {cheapest.arm.name}: its peak of {cheapest.peak_lag:,} records is near the best "
        f"({best.arm.name}, {best.peak_lag:,}), with {cheapest.executors} executors and {cheapest.partitions} "
        "partitions."
    )


def order(results: Sequence[ArmResult]) -> list[str]:
    """What became of the order per key, counted in silver."""
    return [
        f"{result.arm.name}: {result.order.moved:,} of {result.order.keys:,} keys were written to more than one "
        f"partition; {result.order.overtaken:,} records became visible after a newer one of their key."
        for result in results
    ]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _change(share: float) -> str:
    return f"{abs(share):.0%} {'less' if share >= 0 else 'more'}"
