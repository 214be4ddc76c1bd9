"""SparkApplications: a laptop's command in a cluster's pod, valid by the operator's own definition."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kubernetes_schemas import documents, kustomized, needs_definitions, problems

from data_platform_core.access.matrix import load_matrix
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import Job, job, load_jobs
from data_platform_core.kubernetes import names, spark
from data_platform_core.kubernetes.applications import APPLICATIONS_DIR, applications
from data_platform_core.kubernetes.files import topologies
from data_platform_core.kubernetes.once import manifest_text
from data_platform_core.kubernetes.services import services
from data_platform_core.paths import TOPOLOGY_DIR
from data_platform_core.settings import known_variables
from data_platform_core.topology import Topology, load_topology

pytestmark = pytest.mark.unit

ENVIRONMENTS = [topology.environment for topology in topologies()]
SPARK_JOBS = ("ingest", "load-warehouse", "backfill-import", "lake-restore")


def once(name: str, environment: str) -> dict[str, Any]:
    topology, found = load_topology(environment), job(name)
    service = services(topology, load_matrix(), load_jobs().values())[found.service]
    return spark.once(found, topology, service, "r1" if found.takes_run_id else None)


def changed(environment: str, **kubernetes: Any) -> Topology:
    topology = load_topology(environment)
    assert topology.kubernetes is not None
    return topology.model_copy(update={"kubernetes": topology.kubernetes.model_copy(update=kubernetes)})


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_there_are_clusters() -> None:
    assert set(ENVIRONMENTS) >= {"home", "k8s-lab"}


@pytest.mark.parametrize("name", SPARK_JOBS)
def test_a_driver_runs_the_command_that_a_person_types(environment: str, name: str) -> None:
    application = once(name, environment)
    run = "r1" if job(name).takes_run_id else None
    assert application["spec"]["arguments"] == list(job(name).in_environment(environment, run_id=run)[1:])
    assert application["spec"]["mainApplicationFile"] == "local:///opt/crm/bin/crm.py"


@pytest.mark.parametrize("name", SPARK_JOBS)
def test_settings_of_a_driver_have_the_names_of_a_laptop(environment: str, name: str) -> None:
    given = {variable["name"] for variable in once(name, environment)["spec"]["driver"]["env"]}
    assert given
    assert given <= known_variables()


@pytest.mark.parametrize("name", SPARK_JOBS)
def test_pods_request_nothing_that_pod_security_restricted_forbids(environment: str, name: str) -> None:
    spec = once(name, environment)["spec"]
    for pod in (spec["driver"], spec["executor"]):
        context = pod["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= {"emptyDir", "configMap"}


@pytest.mark.parametrize("name", SPARK_JOBS)
def test_a_secret_reaches_the_driver_by_reference_and_executors_not_at_all(environment: str, name: str) -> None:
    spec = once(name, environment)["spec"]
    secret = [each for each in spec["driver"]["env"] if each["name"].endswith(("PASSWORD", "SECRET_KEY"))]
    assert secret
    assert [each for each in secret if "value" in each] == []
    assert "env" not in spec["executor"]


def test_the_stream_is_started_again_for_ever_and_grows_with_the_backlog(environment: str) -> None:
    spec = once("ingest", environment)["spec"]
    assert spec["restartPolicy"]["type"] == "Always"
    allocation = spec["dynamicAllocation"]
    assert allocation["maxExecutors"] > allocation["minExecutors"] >= 1
    assert allocation["shuffleTrackingEnabled"] is True
    assert spec["sparkConf"]["spark.storage.decommission.enabled"] == "true"


def test_a_starting_driver_is_found_by_its_executors(environment: str) -> None:
    """Its Service resolves only once it is ready, and without executors it never becomes ready."""
    (container,) = once("ingest", environment)["spec"]["driver"]["template"]["spec"]["containers"]
    assert "readinessProbe" not in container
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {"/healthz"}


def test_a_job_that_ends_is_not_started_for_ever(environment: str) -> None:
    assert once("load-warehouse", environment)["spec"]["restartPolicy"]["type"] == "OnFailure"


def test_two_loads_never_run_at_a_time() -> None:
    assert spark.scheduled(job("load-warehouse"))["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_heap_that_a_job_reads_is_the_pods(environment: str) -> None:
    driver = once("ingest", environment)["spec"]["driver"]
    known = next(each["value"] for each in driver["env"] if each["name"] == "CRM_SPARK__DRIVER_MEMORY_MB")
    assert driver["memory"] == f"{known}m"


@needs_definitions
@pytest.mark.parametrize("name", SPARK_JOBS)
def test_the_operators_definition_accepts_it(environment: str, name: str) -> None:
    application = once(name, environment)
    application["metadata"]["name"] = application["metadata"].pop("generateName")
    assert problems([application]) == []


@needs_definitions
def test_a_misspelt_field_is_found() -> None:
    application = once("ingest", "home")
    application["spec"]["driver"]["memmory"] = "1g"
    assert "memmory" in problems([application])[0]


@needs_definitions
def test_an_overlay_renders_to_what_runs_once(environment: str) -> None:
    rendered = kustomized(APPLICATIONS_DIR / "overlays" / environment)
    assert problems(rendered) == []
    specs = {each["kind"]: each["spec"] for each in rendered}
    # kustomize patches an unknown kind as `crm manifest` does.
    assert specs["SparkApplication"] == once("ingest", environment)["spec"]
    assert specs["ScheduledSparkApplication"]["template"] == once("load-warehouse", environment)["spec"]
    assert {each["metadata"]["labels"][names.ENVIRONMENT_LABEL] for each in rendered} == {environment}


def test_a_job_without_sizes_is_refused_by_name() -> None:
    topology = changed("home", spark={"ingest": load_topology("home").kubernetes.spark["ingest"]})  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError, match=r"home: kubernetes\.spark has no sizes for job load-warehouse"):
        applications([topology], load_matrix(), load_jobs().values())


@pytest.mark.parametrize(
    ("schedules", "refusal"),
    [
        ({"lod-warehouse": "* * * * *"}, "kubernetes.schedules.lod-warehouse is none of the jobs"),
        ({"ingest": "* * * * *"}, "kubernetes.schedules.ingest is none of the jobs"),
    ],
)
def test_a_schedule_of_what_can_not_be_scheduled_is_refused_by_name(schedules: dict[str, str], refusal: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(refusal)):
        applications([changed("home", schedules=schedules)], load_matrix(), load_jobs().values())


def test_an_environment_without_a_cluster_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="topology local has no section kubernetes"):
        once("ingest", "local")


@pytest.mark.parametrize(
    ("metrics", "refusal"),
    [
        ("{streaming: {host: streaming.other.svc}}", "metrics.streaming.host is streaming.other.svc"),
        ("{streaming: {bind: 127.0.0.1}}", "metrics.streaming.bind is 127.0.0.1"),
    ],
)
def test_metrics_that_are_unreachable_in_a_pod_are_refused(tmp_path: Path, metrics: str, refusal: str) -> None:
    home = TOPOLOGY_DIR / "home.yaml"
    (tmp_path / "home.yaml").write_text(home.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "other.yaml").write_text(f"extends: home\nmetrics: {metrics}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=re.escape(refusal)):
        load_topology("other", tmp_path)


def test_jobs_are_typed_once() -> None:
    found: Job = job("ingest")
    assert found.without_run("home") == found.in_environment("home")


@pytest.mark.parametrize("name", [name for name in load_jobs() if name not in SPARK_JOBS])
def test_a_job_runs_once_as_its_own_command(environment: str, name: str) -> None:
    run = "r1" if job(name).takes_run_id else None
    (manifest,) = documents(manifest_text(name, load_topology(environment), run))
    manifest["metadata"]["name"] = manifest["metadata"].pop("generateName")
    assert problems([manifest]) == []
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["args"] == list(job(name).in_environment(environment, run_id=run))


@pytest.mark.parametrize("name", ["lake-restore", "build-marts"])
def test_a_job_takes_further_options(name: str) -> None:
    text = manifest_text(name, load_topology("home"), options=("orders", "12", "--yes"))
    (manifest,) = documents(text)
    spec = manifest["spec"]
    arguments = spec["arguments"] if "arguments" in spec else spec["template"]["spec"]["containers"][0]["args"]
    assert arguments[-3:] == ["orders", "12", "--yes"]
    assert arguments[:-3] == list(job(name).in_environment("home"))[-len(arguments[:-3]) :]


def test_a_run_that_is_not_named_is_required() -> None:
    with pytest.raises(ConfigurationError, match="job backfill-import needs the name of a run"):
        manifest_text("backfill-import", load_topology("home"))
