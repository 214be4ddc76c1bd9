"""What experiments require of a runtime, tested on the real stack. A second runtime has to pass the same tests."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx
import pytest

from data_platform_core.access.names import STREAMING
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.topology import Topology
from embedded_stack.credentials import read_account
from embedded_stack.layout import Layout
from platform_experiments.embedded import EmbeddedRuntime
from platform_experiments.runtime import Part, cpu_since

pytestmark = pytest.mark.integration

BACK_WITHIN_S = 240


@pytest.fixture
def runtime(running_stack: Topology) -> EmbeddedRuntime:
    return EmbeddedRuntime(running_stack.environment)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BACK_WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def test_a_service_that_is_killed_is_another_instance_when_it_is_back(runtime: EmbeddedRuntime) -> None:
    broker = runtime.brokers[-1]
    before = runtime.instance(broker)
    assert before
    runtime.kill(broker)
    wait_for("the broker is back", lambda: runtime.instance(broker) not in ("", before) and not runtime.problems())


def test_a_service_that_is_stopped_is_named_until_it_is_started(runtime: EmbeddedRuntime) -> None:
    broker = runtime.brokers[0]
    runtime.stop(broker)
    assert runtime.instance(broker) == ""
    assert broker in runtime.problems()
    runtime.start(broker)
    assert broker not in runtime.problems()


def test_every_part_that_runs_has_processes_with_their_use(runtime: EmbeddedRuntime) -> None:
    brokers, store = runtime.processes(Part.KAFKA), runtime.processes(Part.OBJECT_STORE)
    assert len(brokers) == len(runtime.brokers)
    assert {process.program for process in brokers} == {"java"}
    assert all(0 < process.memory_mb <= process.peak_mb * 1.01 for process in (*brokers, *store))
    wait_for("the store uses CPU", lambda: cpu_since(store, runtime.processes(Part.OBJECT_STORE)) > 0)
    assert runtime.processes(Part.EXECUTORS) == []


def test_a_paused_part_does_not_answer(runtime: EmbeddedRuntime) -> None:
    health = f"{runtime.topology.object_store.url}/minio/health/ready"
    with runtime.paused(Part.OBJECT_STORE), pytest.raises(httpx.TimeoutException):
        httpx.get(health, timeout=2, trust_env=False)
    wait_for("it goes on", lambda: httpx.get(health, timeout=10, trust_env=False).status_code == 200)


def test_a_command_of_ours_runs_against_the_environment(runtime: EmbeddedRuntime) -> None:
    planned = runtime.run(["crm", "--env", "test", "topics", "plan"])
    assert planned.output == "topics match contracts and topology\n"
    assert planned.cpu_s > 0
    with pytest.raises(
        ServiceError, match=r"`crm --env nowhere topics plan` ended with 2: error: topology .* does not"
    ):
        runtime.run(["crm", "--env", "nowhere", "topics", "plan"])


def test_one_of_kafkas_own_tools_runs(runtime: EmbeddedRuntime) -> None:
    servers = runtime.topology.kafka.bootstrap_servers
    tool = runtime.kafka_tool("org.apache.kafka.tools.BrokerApiVersionsCommand")
    assert servers.split(",")[0] in runtime.run([*tool, "--bootstrap-server", servers]).output


def test_settings_that_do_not_exist_start_nothing(runtime: EmbeddedRuntime) -> None:
    with pytest.raises(ConfigurationError, match="CRM_INGEST__SPEED of the run is not a setting"):
        runtime.start(STREAMING, {"CRM_INGEST__SPEED": "9"})
    assert runtime.instance(STREAMING) == ""


@pytest.mark.experiments  # a driver, which must not run beside other integration tests
@pytest.mark.timeout(1200)
def test_a_driver_runs_under_a_runs_settings_across_a_crash_until_its_next_plain_start(
    runtime: EmbeddedRuntime,
) -> None:
    secrets = read_account(Layout(runtime.topology).secrets, STREAMING).values

    def has_its_heap() -> bool:
        """Whether the driver's JVM has the heap that the run sets."""
        return any("-Xmx768m" in argument for argument in jvm_arguments(runtime))

    try:
        runtime.start(STREAMING, {"CRM_SPARK__DRIVER_MEMORY_MB": "768"})
        first = runtime.instance(STREAMING)
        assert has_its_heap()
        runtime.start(STREAMING, {"CRM_SPARK__DRIVER_MEMORY_MB": "768"})
        assert runtime.instance(STREAMING) == first, "the same settings: it runs on"
        runtime.kill(STREAMING)
        wait_for("it is back", lambda: runtime.instance(STREAMING) not in ("", first) and not runtime.problems())
        assert has_its_heap(), "the run goes on"
        runtime.start(STREAMING)
        assert not has_its_heap()
        assert read_account(Layout(runtime.topology).secrets, STREAMING).values == secrets
    finally:
        runtime.stop(STREAMING)


def jvm_arguments(runtime: EmbeddedRuntime) -> list[str]:
    import psutil

    java = [process for process in runtime.processes(Part.DRIVER) if process.program == "java"]
    return [argument for process in java for argument in psutil.Process(int(process.id.split("@")[0])).cmdline()]
