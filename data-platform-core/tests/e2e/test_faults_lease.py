"""Two drivers that share no port: the second is refused, and takes over from one that is paused for too long.

Each has its own network, like a pod. The paused one resumes in the middle of its batch, while its successor runs.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import networks
import psutil
import pytest
from deltalake import DeltaTable
from minio import Minio
from outages import BACK_WITHIN_S, driver, wait_for, wait_until_ready
from pipeline import Checkpoint, Pipeline

from data_platform_core.contracts import Contract
from data_platform_core.errors import LeaseLostError
from data_platform_core.lake.marks import epoch_of
from data_platform_core.lake.store import delta_options
from data_platform_core.settings import LeaseSettings
from data_platform_core.topology import Topology
from embedded_stack.layout import Layout
from embedded_stack.services import STREAMING

_REASON = networks.why_not()
pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(_REASON is not None, reason=_REASON or ""),
]

RUN = "faults-lease"


@pytest.fixture(scope="module")
def elsewhere(stack: Topology) -> Iterator[tuple[str, ...]]:
    """What to put before a command so that it runs in another network, which reaches the stack's servers."""
    servers = [stack.schema_registry, stack.object_store, *stack.kafka.brokers]
    with networks.another_network((server.host, server.port) for server in servers) as enter:
        yield enter


def command(pipeline: Pipeline, elsewhere: tuple[str, ...]) -> list[str]:
    return [*elsewhere, *pipeline.job("ingest")]


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error: ")]


def log_of(stack: Topology, name: str) -> str:
    return (Layout(stack).logs / f"{name}.log").read_text(encoding="utf-8")


def epochs(pipeline: Pipeline, folder: str) -> list[int]:
    """The epochs in the marks of a table's commits, oldest first."""
    store = pipeline.settings("streaming").object_store
    table = DeltaTable(f"s3://{store.lake_bucket}/{folder}", storage_options=delta_options(store))
    found = (epoch_of(commit.get("userMetadata")) for commit in reversed(table.history()))
    return [epoch for epoch in found if epoch]


def test_a_driver_in_another_network_is_refused_before_it_touches_a_table(
    pipeline: Pipeline, elsewhere: tuple[str, ...]
) -> None:
    wait_until_ready(pipeline.environment)
    ended = subprocess.run(command(pipeline, elsewhere), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 3, ended.stderr
    (line,) = errors(ended.stderr)
    print(line)
    assert f"process {driver(pipeline.environment).pid} on " in line
    assert "(epoch " in line
    assert "`crm lake lease --take-over`" in line
    assert "Traceback" not in ended.stderr


def test_a_paused_driver_is_replaced_and_exits_on_resume_without_writing(
    pipeline: Pipeline,
    elsewhere: tuple[str, ...],
    stack: Topology,
    store: Minio,
    contracts: dict[str, Contract],
    tmp_path: Path,
) -> None:
    wait_until_ready(pipeline.environment)
    paused = psutil.Process(driver(pipeline.environment).pid)
    bucket = pipeline.settings("streaming").object_store.lake_bucket
    output = tmp_path / "successor.log"
    with output.open("w") as file, pipeline.generating(RUN, seconds=100, rate=100):
        Checkpoint(store, bucket, "events").wait_for_batch_under_way(timeout_s=150)
        os.killpg(paused.pid, signal.SIGSTOP)
        successor = subprocess.Popen(command(pipeline, elsewhere), stdout=file, stderr=subprocess.STDOUT)
        try:
            wait_for("the successor streams", lambda: "batch committed" in output.read_text(), BACK_WITHIN_S)
            ends_before = log_of(stack, "supervisord").count(f"exited: {STREAMING} (exit status 3")
            os.killpg(paused.pid, signal.SIGCONT)
            paused.wait(LeaseSettings().ttl_s)
            lost, refused = (
                f"lease of s3a://{bucket} is lost",
                f"written by crm stream run, process {successor.pid} on ",
            )
            wait_for("the supervisor's next driver is refused", lambda: refused in log_of(stack, STREAMING), 120)
            pipeline.drain()
        finally:
            successor.terminate()
            code = successor.wait(60)
    assert code == 0, output.read_text()[-3000:]
    said = errors(log_of(stack, STREAMING))
    # Of the paused driver: an outage of the store earlier in this log lost a lease, too.
    woken = next(line for line in said if lost in line and f"process {paused.pid} on " in line)
    print(woken, next(line for line in said if refused in line), sep="\n")
    assert "not renewed for " in woken
    assert f"taken by crm stream run, process {successor.pid} on " in woken
    assert log_of(stack, "supervisord").count(f"exited: {STREAMING} (exit status 3") > ends_before
    assert LeaseLostError.exit_code == 3
    assert "how=expired" in output.read_text()
    wait_until_ready(pipeline.environment)
    pipeline.drain()
    for contract in contracts.values():
        for folder in (contract.names.bronze, contract.names.silver):
            assert (found := epochs(pipeline, folder)) == sorted(found), f"{folder}: written by a fenced driver"
    pipeline.load_and_build()
    report = pipeline.reconcile(RUN, tmp_path / "report.json")
    print(report["printed"])
    assert report["code"] == 0, report["printed"]
