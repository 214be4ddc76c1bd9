"""`crm-experiment bench --only profile`: where a warm driver's CPU goes at each rate, as shares and flame graphs.

A flight recording samples the JVM's Java threads; its compilers and the driver's Python are counted beside it. The
graphs and the recordings lie in the environment's folder.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from rich.table import Table

from data_platform_core.commands import call
from platform_experiments.bench.flame import flame_graph
from platform_experiments.bench.measuring import LATENCY_RATES, Bench, Measured, console
from platform_experiments.runtime import Part

_WARM_UP_RATE = 3000
_DEPTH = 128
#: A sample belongs to the first of these whose beginning one of its frames has, the innermost frame first.
_SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "calls between Python and the JVM": ("py4j.",),
    "object store": ("software.amazon.awssdk.", "org.apache.hadoop.fs.s3a.", "org.apache.http."),
    "Hadoop's configuration": ("org.apache.hadoop.conf.Configuration",),
    "plans as text": ("org.apache.spark.sql.catalyst.trees.TreeNode.generateTreeString",),
    "compiling generated code": ("org.codehaus.janino.", "org.codehaus.commons."),
    "Kafka": ("org.apache.kafka.", "org.apache.spark.sql.kafka010."),
    "Avro": ("org.apache.avro.", "org.apache.spark.sql.avro."),
    "Parquet": ("org.apache.parquet.", "com.github.luben.zstd."),
    "Delta": ("org.apache.spark.sql.delta.", "io.delta."),
    "planning": ("org.apache.spark.sql.catalyst.", "org.apache.spark.sql.execution.QueryExecution"),
    "running tasks": ("org.apache.spark.executor.", "org.apache.spark.scheduler."),
    "streaming": ("org.apache.spark.sql.execution.streaming.",),
}

Stack = tuple[str, ...]


def measure(bench: Bench) -> Sequence[Measured]:
    """Print the shares, idle and at each rate; write `profile-<rate>.jfr` and `.svg` into the environment's folder."""
    with bench.driver():
        console.print(f"profile: warming the driver, {bench.load.warm_up} s at {_WARM_UP_RATE}/s")
        bench.generate("profile-warm-up", _WARM_UP_RATE, bench.load.warm_up)
        bench.drain()
        _recorded(bench, "idle", lambda: time.sleep(bench.load.idle))
        for rate in LATENCY_RATES:
            _recorded(bench, f"{rate}/s", partial(bench.generate, f"profile-{rate}", rate, bench.load.seconds))
            bench.drain()
    return ()


def _recorded(bench: Bench, name: str, during: Callable[[], object]) -> None:
    console.print(f"profile: {name}")
    recording = bench.runtime.folder / f"profile-{name.removesuffix('/s')}.jfr"
    use = bench.driver_use()
    with bench.runtime.recorded(Part.DRIVER, recording):
        during()
        used = use()
    found = stacks(call(["jfr", "print", "--json", "--stack-depth", str(_DEPTH), "--events", "ExecutionSample",
                         str(recording)]))  # fmt: skip
    picture = recording.with_suffix(".svg")
    picture.write_text(flame_graph(found, f"streaming driver, {name}: {used}"), encoding="utf-8")
    table = Table(title=f"{name}: {used}; {found.total():,} samples of Java threads, {picture}")
    table.add_column("what the samples were in")
    table.add_column("share", justify="right")
    for subject, share in shares(found).items():
        table.add_row(subject, f"{share:.0%}")
    console.print(table)


def stacks(recording: str) -> Counter[Stack]:
    """Samples by stack, outermost frame first, from what `jfr print --json` prints of a recording."""
    events = json.loads(recording)["recording"]["events"]
    return Counter(_stack(event["values"]["stackTrace"]["frames"]) for event in events)


def _stack(frames: Iterable[Mapping[str, Mapping[str, Mapping[str, str]]]]) -> Stack:
    named = (f"{_dotted(frame)}.{frame['method']['name']}" for frame in frames)
    return tuple(named)[::-1]


def _dotted(frame: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    return frame["method"]["type"]["name"].replace("/", ".")


def shares(found: Counter[Stack]) -> dict[str, float]:
    """Share of the samples by subject, largest first."""
    counted: Counter[str] = Counter()
    for stack, samples in found.items():
        counted[_subject(stack)] += samples
    return {subject: samples / found.total() for subject, samples in counted.most_common()}


def _subject(stack: Stack) -> str:
    for frame in reversed(stack):
        for subject, beginnings in _SUBJECTS.items():
            if frame.startswith(beginnings):
                return subject
    return "the rest"
