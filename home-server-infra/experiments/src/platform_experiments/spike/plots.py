"""The experiment's curves, as SVG text: they stand in the page itself, and beside the Markdown report as files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from platform_experiments.spike.results import CONSUMER, ArmResult
from platform_experiments.spike.sampling import Sample

#: Same input, same bytes: matplotlib salts ids and stamps files otherwise.
_STABLE: Any = {"svg.hashsalt": "spike", "svg.fonttype": "path", "font.size": 9}
_SMOOTH_S = 5
#: Eight entries side by side are wider than the figure.
_LEGEND_COLUMNS = 4
# Distinguishable without colours seen alike (Okabe and Ito), in the arms' order.
_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7")


def lag_records(results: Sequence[ArmResult]) -> str:
    """Waiting records, by arm."""
    return _curves(results, "lag, records", lambda sample: float(sample.lag))


def lag_seconds(results: Sequence[ArmResult]) -> str:
    """Age of the oldest waiting record, by arm."""
    return _curves(results, "lag, seconds", lambda sample: sample.lag_seconds)


def rates(results: Sequence[ArmResult]) -> str:
    """Records/s into the topic (the same for all arms) and out of it."""
    figure, axes = _figure("records/s, mean of 5 s")
    for number, result in enumerate(results):
        if number == 0:
            axes.plot(*_rate(result.samples, "produced"), color="#999999", linestyle="--", label="produced")
        axes.plot(*_rate(result.samples, "committed"), color=_COLOURS[number], label=result.arm.name)
    return _finish(figure, axes, results)


def latency(results: Sequence[ArmResult]) -> str:
    """p95 from produced to visible in silver, by the second of production."""
    figure, axes = _figure("produced to silver, p95 of 5 s, seconds")
    for number, result in enumerate(results):
        axes.plot(*result.waits.curve(), color=_COLOURS[number], label=result.arm.name)
    return _finish(figure, axes, results)


def executors(results: Sequence[ArmResult]) -> str:
    """Executors that run, by arm."""
    return _curves(results, "executors", lambda sample: float(sample.executors))


def cores(results: Sequence[ArmResult]) -> str:
    """Cores that the consumer (driver and executors) uses."""
    figure, axes = _figure("cores used by the consumer, mean of 5 s")
    for number, result in enumerate(results):
        axes.plot(*_cores(result.samples), color=_COLOURS[number], label=result.arm.name)
    return _finish(figure, axes, results)


def _curves(results: Sequence[ArmResult], label: str, value: Callable[[Sample], float]) -> str:
    figure, axes = _figure(label)
    for number, result in enumerate(results):
        axes.plot(
            [sample.at for sample in result.samples],
            [value(sample) for sample in result.samples],
            color=_COLOURS[number],
            label=result.arm.name,
        )
    return _finish(figure, axes, results)


def _rate(samples: Sequence[Sample], count: str) -> tuple[list[float], list[float]]:
    return _slope(samples, lambda sample: float(getattr(sample, count)))


def _cores(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
    return _slope(samples, lambda sample: sum(sample.cpu.get(part, 0.0) for part in CONSUMER))


def _slope(samples: Sequence[Sample], value: Callable[[Sample], float]) -> tuple[list[float], list[float]]:
    """Growth per second over _SMOOTH_S samples."""
    pairs = list(zip(samples, samples[_SMOOTH_S:], strict=False))
    return (
        [(before.at + after.at) / 2 for before, after in pairs],
        [max(0.0, value(after) - value(before)) / (after.at - before.at) for before, after in pairs],
    )


def _figure(label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("seconds since the arm's first sample")
    axes.set_title(label, loc="left", fontsize="medium")  # beside the axis a long one would be cut off
    axes.grid(alpha=0.25)
    return figure, axes


def _finish(figure: Figure, axes: Axes, results: Sequence[ArmResult]) -> str:
    begin, end = results[0].hold
    axes.axvspan(begin, end, color="#F0E442", alpha=0.25, label="spike held")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=_LEGEND_COLUMNS, frameon=False)
    return svg(figure)


def svg(figure: Figure) -> str:
    """The figure as an element that can stand in a page."""
    buffer = io.StringIO()
    with matplotlib.rc_context(_STABLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    # What stands before the element itself (a doctype) has no place inside a page.
    text = buffer.getvalue()
    return text[text.index("<svg") :]
