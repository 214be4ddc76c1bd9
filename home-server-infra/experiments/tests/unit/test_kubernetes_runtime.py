"""What an experiment asks of a cluster, as far as no cluster is needed: manifests, refusals, reasons of pods."""

from __future__ import annotations

import pytest

from data_platform_core.access.matrix import load_matrix
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.jobs import job, load_jobs
from data_platform_core.kubernetes import spark
from data_platform_core.kubernetes.services import services
from data_platform_core.topology import load_topology
from platform_experiments.kubernetes import KubernetesRuntime
from platform_experiments.kubernetes.cluster import Objects, is_ready, reason
from platform_experiments.runtime import Part
from platform_experiments.spike.arms import ARMS

pytestmark = pytest.mark.unit

ENVIRONMENT = "k8s-lab"


@pytest.fixture
def runtime() -> KubernetesRuntime:
    return KubernetesRuntime(ENVIRONMENT)


def application(settings: dict[str, str]) -> Objects:
    topology = load_topology(ENVIRONMENT)
    accounts = services(topology, load_matrix(), load_jobs().values())
    found = job(spark.STREAM)
    return spark.under_settings(found, topology, accounts[found.service], settings)["spec"]


def pod(phase: str, state: dict[str, object] | None = None, ready: str = "False", message: str = "") -> Objects:
    statuses = [{"name": "main", "state": state, "restartCount": 0}] if state else []
    condition = {"type": "Ready", "status": ready, "message": message}
    return {"metadata": {}, "status": {"phase": phase, "containerStatuses": statuses, "conditions": [condition]}}


def test_an_arms_executors_are_what_the_operator_is_asked_for() -> None:
    spec = application(ARMS["elastic"].settings)
    assert spec["dynamicAllocation"]["minExecutors"] == 1
    assert spec["dynamicAllocation"]["maxExecutors"] == 3
    assert spec["executor"]["cores"] == 6


def test_fewer_executors_than_the_topologys_least_are_that_few() -> None:
    assert application({"CRM_SPARK__EXECUTORS_MAX": "1"})["dynamicAllocation"]["maxExecutors"] == 1


def test_an_arms_other_settings_are_variables_of_the_driver_beside_its_secrets() -> None:
    env = {each["name"]: each for each in application(ARMS["elastic"].settings)["driver"]["env"]}
    assert env["CRM_INGEST__MIN_PARTITIONS"]["value"] == "18"
    assert "valueFrom" in env["CRM_OBJECT_STORE__SECRET_KEY"]
    assert "CRM_SPARK__EXECUTORS_MAX" not in env, "on a cluster the operator decides about executors"


def test_without_settings_it_is_the_application_that_people_apply() -> None:
    assert application({})["driver"]["env"] == [
        {"name": "CRM_SPARK__DRIVER_MEMORY_MB", "value": "1024"},
        {
            "name": "CRM_OBJECT_STORE__SECRET_KEY",
            "valueFrom": {"secretKeyRef": {"name": "crm-streaming", "key": "CRM_OBJECT_STORE__SECRET_KEY"}},
        },
    ]


def test_traffic_is_a_job_under_the_generators_account_with_every_option(runtime: KubernetesRuntime) -> None:
    command = job("generate-spike").in_environment(ENVIRONMENT, "--hold", "60", run_id="a-run")
    found = runtime.catalogued(command)
    assert found is not None
    pod_of_job = runtime.manifest(found, command)["spec"]["template"]["spec"]
    assert pod_of_job["serviceAccountName"] == "crm-generator"
    assert pod_of_job["containers"][0]["args"] == list(command)


@pytest.mark.parametrize(
    "command",
    [
        job("reconcile").in_environment(ENVIRONMENT, run_id="a-run"),
        ("crm", "--env", ENVIRONMENT, "topics", "grow", "events", "--partitions", "12"),
        job("generate-spike").in_environment("local", run_id="a-run"),
    ],
)
def test_other_commands_run_beside_the_cluster(runtime: KubernetesRuntime, command: tuple[str, ...]) -> None:
    assert runtime.catalogued(command) is None


def test_an_environment_whose_data_is_on_machines_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="environment home keeps its data on machines"):
        KubernetesRuntime("home")


def test_an_environment_without_a_cluster_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="topology local has no section kubernetes"):
        KubernetesRuntime("local")


def test_a_pod_cant_be_paused(runtime: KubernetesRuntime) -> None:
    with pytest.raises(ServiceError, match="pausing driver is not possible on Kubernetes"):
        runtime.paused(Part.DRIVER)


def test_a_pod_is_ready_only_after_its_probes() -> None:
    assert is_ready(pod("Running", ready="True"))
    assert not is_ready(pod("Running", ready="False"))
    assert not is_ready(pod("Running", ready="True") | {"metadata": {"deletionTimestamp": "now"}})


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            pod("Pending", {"waiting": {"reason": "CreateContainerConfigError", "message": "couldn't find key A"}}),
            "CreateContainerConfigError: couldn't find key A",
        ),
        (pod("Failed", {"terminated": {"reason": "Error", "exitCode": 3}}), "Error with 3"),
        (pod("Pending", message="0/1 nodes are available: 1 Insufficient memory"), "0/1 nodes are available: 1 Insuff"),
        ({"metadata": {}, "status": {}}, "not scheduled"),
    ],
)
def test_a_pods_reason_is_the_clusters_own(seen: Objects, words: str) -> None:
    assert reason(seen).startswith(words)
