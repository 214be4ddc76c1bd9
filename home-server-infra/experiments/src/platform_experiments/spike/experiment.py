"""Runs the arms in sequence, each on an empty platform, and passes the measurements to the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from data_platform_core.accounting.objects import s3_client
from data_platform_core.contracts import load_contract
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.jobs import job
from data_platform_core.settings import load_settings
from data_platform_core.waiting import ask_until
from platform_experiments.latency import table_commits
from platform_experiments.runtime import Part, Process, Running, Runtime
from platform_experiments.spike.arms import ENTITY, Arm
from platform_experiments.spike.consumer import Consumer, consumer
from platform_experiments.spike.results import ArmResult, Order, Waits, order_of
from platform_experiments.spike.sampling import CpuMeter, Offsets, Sample, Sampler, every
from platform_experiments.steps import begin_anew, drain, equations, flat_traffic, load_and_build, reconciled

#: A separate topology, which every arm resets.
ENVIRONMENT = "spike"
#: The same on Kubernetes.
CLUSTER_ENVIRONMENT = "k8s-lab"
#: Traffic before the measured run, so that it meets compiled code: seconds and records/s.
WARM_UP_S, WARM_UP_RATE = 30, 500
DRAIN_TIMEOUT_S = 1_200
#: New partitions are added after this share of the plateau: a person would notice the lag first.
GROW_AFTER = 0.25
#: Seconds between progress lines.
SHOWN_EVERY_S = 10

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Plan:
    """The spike of every arm: records/s of all entities, and seconds."""

    seed: int
    rate: float
    baseline_rate: float
    baseline: float
    ramp: float
    hold: float
    decay: float
    recovery: float
    partitions: int

    @property
    def seconds(self) -> float:
        return self.baseline + self.ramp + self.hold + self.decay + self.recovery

    @property
    def options(self) -> list[str]:
        """As options of `crm-generator spike`."""
        values = {
            "rate": self.rate,
            "baseline-rate": self.baseline_rate,
            "baseline": self.baseline,
            "ramp": self.ramp,
            "hold": self.hold,
            "decay": self.decay,
            "recovery": self.recovery,
        }
        options = [part for name, value in values.items() for part in (f"--{name}", f"{value:g}")]
        return ["--seed", str(self.seed), *options]


def check(plan: Plan) -> None:
    """Refuse, before anything starts, what can't be applied. Raises ConfigurationError."""
    contract = load_contract(ENTITY)
    if plan.partitions <= contract.topic.partitions:
        raise ConfigurationError(
            f"--partitions is {plan.partitions}, topic {contract.names.topic} has {contract.topic.partitions} by its "
            f"contract: partitions can only be added, give {contract.topic.partitions + 1} or more"
        )


def run_arm(runtime: Runtime, arm: Arm, plan: Plan, name: str) -> ArmResult:
    """One arm on an empty platform. Raises ServiceError when a step fails."""
    began = time.monotonic()
    _say(arm, f"{arm.what}; an empty platform starts")
    begin_anew(runtime)
    try:
        with consumer(runtime, arm) as streaming:
            _warm_up(runtime, arm, f"{name}-{arm.name}-warm-up")
            executors = streaming.settle(1)
            _say(arm, f"warm after {time.monotonic() - began:.0f} s, {executors} executor; the spike begins")
            measured = _measure(runtime, arm, plan, f"{name}-{arm.name}", streaming)
            result = _account(runtime, arm, measured)
        _say(arm, f"done after {time.monotonic() - began:.0f} s: {'PASS' if result.accounted else 'FAIL'}")
        return result
    finally:
        runtime.down()


@dataclass(frozen=True)
class _Measured:
    run_id: str
    began: datetime
    samples: list[Sample]
    generator: str


def _warm_up(runtime: Runtime, arm: Arm, run_id: str) -> None:
    _say(arm, f"warming up: {WARM_UP_S} s at {WARM_UP_RATE}/s")
    runtime.run(flat_traffic(runtime, run_id, WARM_UP_RATE, WARM_UP_S, "--metrics-port", "0"))
    drain(runtime, DRAIN_TIMEOUT_S)


def _measure(runtime: Runtime, arm: Arm, plan: Plan, run_id: str, streaming: Consumer) -> _Measured:
    environment = runtime.topology.environment
    command = job("generate-spike").in_environment(environment, *plan.options, run_id=run_id)
    generator = runtime.begin(f"generator-{arm.name}", command)
    try:
        with _sampler(runtime, arm, generator) as sampler:
            began = datetime.now(UTC)
            grown = not arm.grows
            while (code := generator.exit_code()) is None:
                time.sleep(0.5)
                streaming.require_running()
                if not grown and _held(sampler) >= plan.hold * GROW_AFTER:
                    grown = True
                    grow = ("topics", "grow", ENTITY, "--partitions", str(plan.partitions))
                    _say(arm, runtime.run(["crm", "--env", environment, *grow]).output.strip())
            if code:
                raise ServiceError(f"the generator of arm {arm.name} ended with {code}; see {generator.place}")
            _wait_until_calm(arm, plan, sampler, streaming)
    finally:
        generator.end()
    return _Measured(run_id, began, sampler.samples, _warnings(generator))


def _sampler(runtime: Runtime, arm: Arm, generator: Running) -> Sampler:
    parts: dict[str, Callable[[], list[Process]]] = {part: partial(runtime.processes, part) for part in Part}
    cpu = CpuMeter({**parts, "generator": generator.processes})

    def show(sample: Sample) -> None:
        _say(
            arm,
            f"{sample.at:4.0f} s  {sample.phase:<9} lag {sample.lag:>9,} records {sample.lag_seconds:6.1f} s  "
            f"{sample.partitions} partitions, {sample.executors} executors",
        )

    offsets = Offsets(load_settings("admin", runtime.topology.environment).kafka, load_contract(ENTITY))
    return Sampler(
        offsets, cpu, lambda: _phase(runtime.metrics(job("generate-spike").service)), every(SHOWN_EVERY_S, show)
    )


def _phase(text: str) -> str:
    """The phase in the generator's metrics; `after` once it serves none, `before` until it reports one."""
    if not text:
        return "after"
    for family in text_string_to_metric_families(text):
        if family.name == "crm_generator_phase":
            return next((sample.labels["phase"] for sample in family.samples if sample.value), "before")
    return "before"


def _held(sampler: Sampler) -> float:
    held = [sample.at for sample in sampler.samples if sample.phase == "hold"]
    return sampler.elapsed - held[0] if held else 0.0


def _wait_until_calm(arm: Arm, plan: Plan, sampler: Sampler, streaming: Consumer) -> None:
    """The generator has ended: wait until nothing waits, for a few samples, so that the curve shows its end."""

    def calm() -> bool:
        streaming.require_running()
        return not any(sample.lag for sample in sampler.samples[-3:])

    if not ask_until(bool, calm, within_s=DRAIN_TIMEOUT_S, every_s=0.5):
        raise ServiceError(f"arm {arm.name} is not drained {DRAIN_TIMEOUT_S} s after its spike of {plan.hold:g} s")


def _account(runtime: Runtime, arm: Arm, measured: _Measured) -> ArmResult:
    """Down to the marts, and what the lake's log says of latency and order."""
    _say(arm, "drained; load, marts and the equations A1-A8")
    load_and_build(runtime)
    found = reconciled(runtime, measured.run_id, runtime.folder / f"reconcile-{arm.name}.json")
    waits, order = _from_silver(runtime, measured)
    return ArmResult(
        arm=arm,
        run_id=measured.run_id,
        samples=measured.samples,
        waits=waits,
        order=order,
        equations=equations(found),
        accounts={row["entity"]: row for row in found["counts"]},
        generator=measured.generator,
    )


def _from_silver(runtime: Runtime, measured: _Measured) -> tuple[Waits, Order]:
    store = load_settings("accounting", runtime.topology.environment).object_store
    contract = load_contract(ENTITY)
    columns = (contract.key, "seq", "kafka_partition")
    commits = list(
        table_commits(
            s3_client(store), store.lake_bucket, contract.names.silver, measured.run_id, measured.began, columns
        )
    )
    if not commits:
        raise ServiceError(f"run {measured.run_id} left no {ENTITY} in silver; see the streaming driver's log")
    numbers = {
        column: np.concatenate([commit.rows[column].to_numpy().astype(np.int64) for commit in commits])
        for column in columns
    }
    versions = np.concatenate([np.full(len(commit.rows), commit.version) for commit in commits])
    began = measured.began.timestamp()
    waits = Waits(
        np.concatenate([commit.produced for commit in commits]) - began,
        np.concatenate([commit.waits for commit in commits]),
    )
    return waits, order_of(numbers[contract.key], numbers["seq"], numbers["kafka_partition"], versions)


def _warnings(generator: Running) -> str:
    """The generator's lines about a missed schedule."""
    lines = generator.output().splitlines()
    return " ".join(line.strip() for line in lines if line.startswith("warning: run"))


def _say(arm: Arm, text: str) -> None:
    console.print(f"[bold]{arm.name:<14}[/bold] {text}")


def arms_seconds(arms: Sequence[Arm], plan: Plan) -> float:
    """About how long it takes: beside the spike itself, start, warm-up, drain and accounts."""
    return len(arms) * (plan.seconds + plan.hold * 0.6 + 180)
