"""The cluster's objects: valid, least privilege, and the names that the code uses."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_schemas import documents, kustomized, needs_definitions, problems

from data_platform_core.access.matrix import load_matrix
from data_platform_core.jobs import load_jobs
from data_platform_core.kubernetes import names
from data_platform_core.kubernetes.files import topologies
from data_platform_core.kubernetes.objects import OBJECTS_DIR, cluster_objects
from data_platform_core.topology import Topology

pytestmark = pytest.mark.unit


def base() -> list[dict[str, Any]]:
    files = sorted((OBJECTS_DIR / "base").glob("*.yaml"))
    return [each for file in files if file.stem != "kustomization" for each in documents(file.read_text("utf-8"))]


def overlay(topology: Topology) -> list[dict[str, Any]]:
    files = cluster_objects([topology], load_matrix(), load_jobs().values())
    return [each for file, text in files.items() if file.stem != "kustomization" for each in documents(text)]


@pytest.fixture(params=topologies(), ids=lambda topology: topology.environment)
def topology(request: pytest.FixtureRequest) -> Topology:
    found: Topology = request.param
    return found


def test_kubernetes_accepts_every_object(topology: Topology) -> None:
    assert problems([*base(), *overlay(topology)]) == []


@needs_definitions
def test_an_overlay_renders_to_base_and_its_own(topology: Topology) -> None:
    rendered = kustomized(OBJECTS_DIR / "overlays" / topology.environment)
    assert len(rendered) == len([*base(), *overlay(topology)])


def test_pods_of_ours_and_the_operator_are_held_to_pod_security_restricted(topology: Topology) -> None:
    kubernetes = topology.kubernetes
    assert kubernetes is not None
    levels = {
        each["metadata"]["name"]: each["metadata"]["labels"].get("pod-security.kubernetes.io/enforce")
        for each in overlay(topology)
        if each["kind"] == "Namespace"
    }
    assert levels[kubernetes.namespace] == levels[kubernetes.operator_namespace] == "restricted"


def test_the_priorities_that_pods_name_exist_and_a_driver_comes_first() -> None:
    values = {each["metadata"]["name"]: each["value"] for each in base() if each["kind"] == "PriorityClass"}
    assert {names.DRIVER_PRIORITY, names.SERVICE_PRIORITY, names.JOB_PRIORITY, names.EXECUTOR_PRIORITY} == set(values)
    assert max(values, key=lambda name: values[name]) == names.DRIVER_PRIORITY
    assert min(values, key=lambda name: values[name]) == names.EXECUTOR_PRIORITY


def test_only_drivers_make_pods(topology: Topology) -> None:
    (binding,) = (each for each in overlay(topology) if each["metadata"]["name"] == "crm-spark-driver")
    assert [subject["name"] for subject in binding["subjects"]] == ["crm-streaming", "crm-batch"]


def test_no_role_of_ours_reads_secrets_or_has_every_right() -> None:
    for role in (each for each in base() if each["kind"] == "ClusterRole"):
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"]
            assert "secrets" not in rule["resources"]


def test_a_spike_and_a_load_fit_into_the_quota_together(topology: Topology) -> None:
    kubernetes = topology.kubernetes
    assert kubernetes is not None
    memory = cpu = 0
    for size in (kubernetes.spark["ingest"], kubernetes.spark["load-warehouse"]):
        memory += size.driver_memory_mb + size.driver_overhead_mb
        memory += size.executors_max * (size.executor_memory_mb + size.executor_overhead_mb)
        cpu += size.driver_cpu_m + size.executors_max * size.executor_cpu_m
    # The rest is for generator, marts and reconciliation.
    assert memory + 1024 <= kubernetes.quota.memory_mb
    assert cpu + 500 <= 1000 * kubernetes.quota.cpu


def test_the_rule_about_environments_reads_the_label_that_we_write() -> None:
    (policy,) = (each for each in base() if each["kind"] == "ValidatingAdmissionPolicy")
    assert all(names.ENVIRONMENT_LABEL in variable["expression"] for variable in policy["spec"]["variables"])
