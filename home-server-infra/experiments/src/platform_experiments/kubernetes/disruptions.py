"""`crm-experiment disrupt`: kills, restarts and changes on the cluster under traffic, each followed to its recovery.

One run of traffic per disruption, on one platform. Lag is sampled as in the spike. The disruption counts as over once
lag is what it was before. At the end one load and one build carry all runs to the marts, and each is reconciled.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from data_platform_core.access.names import STREAMING
from data_platform_core.commands import call
from data_platform_core.contracts import load_contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.jobs import program_path
from data_platform_core.settings import load_settings
from data_platform_core.waiting import ask_until
from platform_experiments.kubernetes.runtime import KubernetesRuntime
from platform_experiments.runtime import Part
from platform_experiments.spike.arms import ENTITY
from platform_experiments.spike.sampling import CpuMeter, Offsets, Sample, Sampler, every
from platform_experiments.steps import begin_anew, drain, equations, flat_traffic, load_and_build, reconciled

_DRAIN_SECONDS = 1_200.0
_SHOWN_EVERY_S = 10.0
#: Lag is as before when this many samples in a row are no larger than the largest before the disruption.
_CALM_SAMPLES = 3
#: Dynamic allocation replaces an executor only while tasks wait for one.
_REPLACED_S = 60.0
#: Records/s and seconds of the traffic that warms a new driver.
_WARM_UP = (300, 45)

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Plan:
    """`rate` in records/s of all entities; seconds of traffic `before` a disruption and `after` it."""

    rate: int
    before: float
    after: float


@dataclass(frozen=True)
class Disruption:
    """`cause` returns what it did to which object, for the table."""

    name: str
    cause: Callable[[KubernetesRuntime], str]


@dataclass(frozen=True)
class Outcome:
    """Of one disruption. Seconds since it; `equations` by name, once its run is reconciled."""

    name: str
    what: str
    run_id: str
    most_lag: int
    calm_s: float
    equations: Mapping[str, bool] = field(default_factory=dict)

    @property
    def accounted(self) -> bool:
        return bool(self.equations) and all(self.equations.values())


def _kill_driver(runtime: KubernetesRuntime) -> str:
    before = runtime.instance(STREAMING)
    name, began = runtime.kill_pod(Part.DRIVER), time.monotonic()
    runtime.wait_for_driver(before)
    return f"pod {name} deleted without grace; another was ready after {time.monotonic() - began:.0f} s"


def _kill_executor(runtime: KubernetesRuntime) -> str:
    before, began = len(runtime.processes(Part.EXECUTORS)), time.monotonic()
    name = runtime.kill_pod(Part.EXECUTORS)
    count = ask_until(
        lambda found: found >= before, lambda: len(runtime.processes(Part.EXECUTORS)), within_s=_REPLACED_S, every_s=1
    )
    took = f"{time.monotonic() - began:.0f} s"
    replaced = f"{before} ran again after {took}" if count >= before else f"{count} ran on, enough for the load"
    return f"pod {name} deleted without grace, one of {before}; {replaced}"


def _restart_operator(runtime: KubernetesRuntime) -> str:
    return f"{runtime.restart_operator()} restarted"


def _restart_kubelet(runtime: KubernetesRuntime) -> str:
    began = time.monotonic()
    call([program_path("crm-lab"), "k8s", "restart", "kubelet"])
    return f"kubelet ended and started; the node was ready after {time.monotonic() - began:.0f} s"


def _change_manifest(runtime: KubernetesRuntime) -> str:
    before, began = runtime.instance(STREAMING), time.monotonic()
    runtime.change({"CRM_INGEST__MIN_PARTITIONS": "4"})
    runtime.wait_for_driver(before)
    return f"minPartitions 4 applied; a new driver was ready after {time.monotonic() - began:.0f} s"


def _start_second(runtime: KubernetesRuntime) -> str:
    before = runtime.instance(STREAMING)
    words = runtime.start_second()
    if runtime.instance(STREAMING) != before:
        raise ServiceError("the first driver ended when a second application was started; one of them must be refused")
    return f"a second application was refused: {words}"


DISRUPTIONS: Mapping[str, Disruption] = {
    each.name: each
    for each in (
        Disruption("executor", _kill_executor),
        Disruption("operator", _restart_operator),
        Disruption("kubelet", _restart_kubelet),
        Disruption("second", _start_second),
        Disruption("driver", _kill_driver),
        Disruption("manifest", _change_manifest),
    )
}


def choose(names: Sequence[str]) -> list[Disruption]:
    """Those called `names`, all when there are none. Raises ConfigurationError for an unknown one."""
    unknown = [name for name in names if name not in DISRUPTIONS]
    if unknown:
        raise ConfigurationError(f"disruption {unknown[0]!r} is none of: {', '.join(DISRUPTIONS)}")
    return [each for name, each in DISRUPTIONS.items() if not names or name in names]


def run(runtime: KubernetesRuntime, chosen: Sequence[Disruption], plan: Plan) -> list[Outcome]:
    """Each disruption in turn, then load, marts and the equations. Leaves the platform stopped, its data kept."""
    name = f"disrupt-{datetime.now(UTC):%Y%m%dt%H%M%Sz}"
    console.print("disrupt: an empty platform starts")
    begin_anew(runtime)
    try:
        runtime.start(STREAMING)
        _warm_up(runtime, f"{name}-warm-up")
        found = [_disrupted(runtime, each, plan, f"{name}-{each.name}") for each in chosen]
        console.print("disrupt: load, marts and the equations of every run")
        load_and_build(runtime)
        return [_reconciled(runtime, outcome) for outcome in found]
    finally:
        runtime.down()


def table(outcomes: Sequence[Outcome], plan: Plan) -> Table:
    """A row per disruption."""
    shown = Table(title=f"disruptions at {plan.rate:,} records/s")
    for column in ("disruption", "what happened", "most lag", "lag as before after", "equations"):
        shown.add_column(column, overflow="fold")
    for outcome in outcomes:
        broken = ", ".join(name for name, holds in outcome.equations.items() if not holds)
        verdict = (
            f"{', '.join(outcome.equations)} hold" if outcome.accounted else f"broken: {broken or 'not evaluated'}"
        )
        shown.add_row(outcome.name, outcome.what, f"{outcome.most_lag:,}", f"{outcome.calm_s:.0f} s", verdict)
    return shown


def _warm_up(runtime: KubernetesRuntime, run_id: str) -> None:
    rate, seconds = _WARM_UP
    console.print(f"disrupt: warming the driver, {seconds} s at {rate}/s")
    runtime.run(flat_traffic(runtime, run_id, rate, seconds))
    drain(runtime, _DRAIN_SECONDS)


def _disrupted(runtime: KubernetesRuntime, disruption: Disruption, plan: Plan, run_id: str) -> Outcome:
    console.print(f"[bold]{disruption.name}[/bold]: {plan.rate}/s for {plan.before + plan.after:g} s")
    generator = runtime.begin("disrupt", flat_traffic(runtime, run_id, plan.rate, plan.before + plan.after))
    try:
        with _sampler(runtime) as sampler:
            time.sleep(plan.before)
            before = max((sample.lag for sample in sampler.samples), default=0)
            at = sampler.elapsed
            what = disruption.cause(runtime)
            console.print(f"{disruption.name}: {what}")
            if code := generator.wait(plan.before + plan.after + _DRAIN_SECONDS):
                raise ServiceError(f"the generator ended with {code}; see `{generator.place}`")
            calm_s = _calm_after(sampler, at, before)
            drain(runtime, _DRAIN_SECONDS)
    finally:
        generator.end()
    most = max(sample.lag for sample in sampler.samples if sample.at >= at)
    console.print(f"{disruption.name}: most lag {most:,}, as before after {calm_s:.0f} s")
    return Outcome(disruption.name, what, run_id, most, calm_s)


def _calm_after(sampler: Sampler, at: float, before: int) -> float:
    """Seconds from `at` until lag is no larger than `before` again. Raises ServiceError when it never is."""
    found = ask_until(
        lambda calm: calm is not None,
        lambda: calm_since(sampler.samples, at, before),
        within_s=_DRAIN_SECONDS,
        every_s=1,
    )
    if found is None:
        raise ServiceError(f"lag is still larger than {before:,} records {_DRAIN_SECONDS:g} s after the traffic")
    return found - at


def calm_since(samples: Sequence[Sample], at: float, before: int) -> float | None:
    """When the lag that rose after `at` was last above `before`, if it has been calm since; None while it is not."""
    later = [sample for sample in samples if sample.at >= at]
    if len(later) < _CALM_SAMPLES or any(sample.lag > before for sample in later[-_CALM_SAMPLES:]):
        return None
    return max((sample.at for sample in later if sample.lag > before), default=at)


def _sampler(runtime: KubernetesRuntime) -> Sampler:
    def show(sample: Sample) -> None:
        console.print(f"{sample.at:6.0f} s  lag {sample.lag:>9,} records, {sample.executors} executors")

    offsets = Offsets(load_settings("admin", runtime.topology.environment).kafka, load_contract(ENTITY))
    cpu = CpuMeter({Part.EXECUTORS: lambda: runtime.processes(Part.EXECUTORS)})
    return Sampler(offsets, cpu, str, every(_SHOWN_EVERY_S, show))


def _reconciled(runtime: KubernetesRuntime, outcome: Outcome) -> Outcome:
    report = reconciled(runtime, outcome.run_id, runtime.folder / f"reconcile-{outcome.run_id}.json")
    return replace(outcome, equations=equations(report))
