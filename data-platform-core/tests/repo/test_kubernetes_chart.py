"""The chart renders in every environment to what Kubernetes accepts, and refuses bad values by name."""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pytest
import yaml
from kubernetes_schemas import VERSION, documents, problems, program

from data_platform_core import __version__
from data_platform_core.access.names import kubernetes_name
from data_platform_core.jobs import SETUP, Kind, load_jobs
from data_platform_core.kubernetes.chart import CHART_DIR
from data_platform_core.kubernetes.files import topologies
from data_platform_core.settings import known_variables

pytestmark = pytest.mark.unit

ENVIRONMENTS = [topology.environment for topology in topologies()]
NAMESPACES = {topology.environment: topology.kubernetes.namespace for topology in topologies() if topology.kubernetes}
SPIKE = (
    "generator.runs.friday.job=generate-spike",
    "generator.runs.friday.runId=friday-1",
    "generator.runs.friday.options={--rate,3000}",
    "generator.runs.friday.scenario=name: friday",
)


def helm(environment: str | None, *settings: str, namespace: str | None = None) -> subprocess.CompletedProcess[str]:
    given = ("-f", str(CHART_DIR / "environments" / f"{environment}.yaml")) if environment else ()
    where = namespace or NAMESPACES[environment or "home"]
    chosen = [
        word
        for each in settings
        for word in ("--set-string" if re.search(r"\.options|^settings", each) else "--set", each)
    ]
    command = [program("helm"), "template", "crm", str(CHART_DIR), "-n", where, "--kube-version", f"{VERSION}.0"]
    return subprocess.run([*command, *given, *chosen], capture_output=True, text=True, check=False)


def _how(setting: str) -> str:
    """Options and settings are strings, which `--set` would make numbers of."""
    return "--set-string" if re.search(r"\.options|^settings", setting) else "--set"


@lru_cache
def rendered(environment: str, *settings: str) -> tuple[dict[str, Any], ...]:
    done = helm(environment, *settings)
    assert done.returncode == 0, done.stderr
    return tuple(documents(done.stdout))


def kinds(manifests: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pods(manifests: tuple[dict[str, Any], ...]) -> dict[str, dict[str, Any]]:
    """The pod specification of each workload, by the workload's name."""
    found = {}
    for each in manifests:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template:
            found[each["metadata"]["name"]] = template["spec"]
    return found


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_values_of_every_environment_use_settings_that_exist(environment: str) -> None:
    """Without helm: the generated values alone."""
    values = yaml.safe_load((CHART_DIR / "environments" / f"{environment}.yaml").read_text("utf-8"))["platform"]
    for service in values["services"].values():
        assert {*service["settings"], *service["secretKeys"]} <= known_variables()
    assert set(values["services"]) == {job.service for job in load_jobs().values()}


def test_the_chart_has_the_version_of_the_images() -> None:
    chart = yaml.safe_load((CHART_DIR / "Chart.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == __version__


def test_every_value_is_documented() -> None:
    """A line `# --` above each leaf, or a comment that explains its group."""
    lines = (CHART_DIR / "values.yaml").read_text("utf-8").splitlines()
    bare = [
        line
        for before, line in pairwise(lines)
        if re.match(r"\s*[A-Za-z]+: \S", line)
        and not re.match(r"\s*(requests|limits|release): ", line)
        and not before.lstrip().startswith("#")
    ]
    assert bare == []


def test_kubernetes_accepts_every_manifest(environment: str) -> None:
    manifests = rendered(environment, *SPIKE, "reconcile.runs={normal-1}")
    assert problems(manifests) == []
    assert "friday" in kinds(manifests, "Job")


def test_set_up_runs_in_the_order_of_the_catalogue(environment: str) -> None:
    jobs = kinds(rendered(environment), "Job").values()
    by_weight = sorted(jobs, key=lambda job: int(job["metadata"]["annotations"]["helm.sh/hook-weight"]))
    order = [job["metadata"]["name"].removeprefix("setup-") for job in by_weight]
    assert order == [name for name in SETUP if name in order]
    assert set(SETUP) - set(order) <= {"acls"}


def test_what_set_up_needs_is_there_before_it(environment: str) -> None:
    manifests = rendered(environment)
    for kind, name in (("ServiceAccount", "crm-admin"), ("ConfigMap", "crm-admin"), ("ConfigMap", "crm-topology")):
        annotations = kinds(manifests, kind)[name]["metadata"]["annotations"]
        assert int(annotations["helm.sh/hook-weight"]) < 0


def test_a_job_runs_the_command_of_the_catalogue_as_its_service(environment: str) -> None:
    jobs, found = load_jobs(), pods(rendered(environment, *SPIKE))
    names = {"generate-normal": "generate-normal", "friday": "generate-spike", "build-marts": "build-marts"}
    for name, job in names.items():
        (container,) = found[name]["containers"]
        command = list(jobs[job].without_run(environment))
        assert container["args"][: len(command)] == command
        assert found[name]["serviceAccountName"] == kubernetes_name(jobs[job].service)
        assert container["envFrom"] == [{"configMapRef": {"name": kubernetes_name(jobs[job].service)}}]
    assert found["friday"]["containers"][0]["args"][-6:] == [
        "--run-id", "friday-1", "--scenario", "/etc/crm/scenario/scenario.yaml", "--rate", "3000",
    ]  # fmt: skip


def test_every_pod_is_restricted_has_requests_and_a_limit_of_memory(environment: str) -> None:
    for pod in pods(rendered(environment, *SPIKE, "reconcile.runs={normal-1}")).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


def test_no_secret_is_in_a_manifest(environment: str) -> None:
    manifests = rendered(environment)
    assert kinds(manifests, "Secret") == {}
    for pod in pods(manifests).values():
        for container in pod["containers"]:
            assert all("valueFrom" in variable for variable in container.get("env", []))


def test_each_service_has_an_account_settings_and_a_policy(environment: str) -> None:
    manifests = rendered(environment)
    wanted = {kubernetes_name(job.service) for job in load_jobs().values()}
    for kind in ("ServiceAccount", "ConfigMap", "NetworkPolicy"):
        assert wanted <= set(kinds(manifests, kind))


def test_only_drivers_have_a_token_and_reach_the_api_server(environment: str) -> None:
    manifests = rendered(environment)
    drivers = {kubernetes_name(job.service) for job in load_jobs().values() if job.kind is Kind.SPARK}
    accounts = kinds(manifests, "ServiceAccount")
    assert {name for name, each in accounts.items() if each["automountServiceAccountToken"]} == drivers
    policies = {name.removesuffix("-driver") for name in kinds(manifests, "NetworkPolicy") if name.endswith("-driver")}
    assert policies == drivers


def test_a_service_reaches_what_its_jobs_need_and_nothing_else() -> None:
    policies = kinds(rendered("home"), "NetworkPolicy")
    ports = {
        service: {
            port["port"]
            for rule in policies[kubernetes_name(service)]["spec"]["egress"]
            for port in rule.get("ports", [])
        }
        for service in ("dbt", "batch", "streaming", "admin")
    }
    assert ports["dbt"] == {53, 5432}
    assert ports["batch"] == {53, 9000, 5432}
    assert ports["streaming"] == {53, 9092, 8081, 9000}
    assert ports["admin"] == {53, 9092, 8081, 5432}
    assert policies["crm-deny"]["spec"]["podSelector"] == {}


def test_metrics_are_served_where_the_topology_says(environment: str) -> None:
    topology = next(each for each in topologies() if each.environment == environment)
    services = kinds(rendered(environment), "Service")
    for name, endpoint in topology.metrics:
        assert endpoint.host.startswith(f"{name}.")
        assert services[name]["spec"]["ports"][0]["port"] == endpoint.port


def test_a_setting_of_a_person_wins_over_the_environments(environment: str) -> None:
    manifests = rendered(environment, "settings.streaming.CRM_INGEST__MIN_PARTITIONS=12")
    data = kinds(manifests, "ConfigMap")["crm-streaming"]["data"]
    assert data["CRM_INGEST__MIN_PARTITIONS"] == "12"
    assert data["CRM_ENVIRONMENT"] == environment


def test_rules_and_dashboards_are_those_of_the_embedded_stack(environment: str) -> None:
    manifests = rendered(environment)
    assert {"crm-pipeline", "crm-recording", "crm-servers"} == set(kinds(manifests, "PrometheusRule"))
    rule = kinds(manifests, "PrometheusRule")["crm-pipeline"]
    assert "{{ $labels.instance }}" in rule["spec"]["groups"][0]["rules"][0]["annotations"]["description"]
    assert "crm-dashboard-spike-and-lag" in kinds(manifests, "ConfigMap")


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("generator.normal.replicas=2", "generator/normal/replicas"),
        ("generator.normal.replcas=1", "replcas"),
        ("generator.runs.Friday.job=generate-spike", "Friday"),
        ("generator.runs.friday.job=generate-normal", "generator/runs/friday"),
        ("reconcile.schedule=hourly", "reconcile/schedule"),
        ("reconcile.runs={a/b}", "reconcile/runs"),
        ("setup.deadlineSeconds=soon", "setup/deadlineSeconds"),
        ("marts.resources.limits.memory=much", "marts/resources/limits/memory"),
        ("networkPolicies.dns.ports={70000}", "networkPolicies/dns/ports"),
        ("secrets.check=perhaps", "secrets/check"),
        ("platfrom.environment=home", "platfrom"),
        ("settings.streaming.CRM_KAFKA__PASSWORD=x", "CRM_KAFKA__PASSWORD"),
        ("settings.streaming.CRM_INGEST__MIN_PARTITION=12", "CRM_INGEST__MIN_PARTITION"),
        ("settings.streamer.CRM_INGEST__MIN_PARTITIONS=12", "no job runs as service streamer"),
    ],
)
def test_a_bad_value_is_refused_by_name(setting: str, named: str) -> None:
    done = helm("home", setting)
    assert done.returncode != 0
    assert named in done.stderr


def test_a_chart_without_an_environment_says_what_to_give() -> None:
    assert "platform.environment is not set: give the environment's values" in helm(None).stderr


def test_another_environments_namespace_is_refused_by_name() -> None:
    done = helm("home", namespace="staging")
    assert "environment home belongs into namespace crm, and this release is of namespace staging" in done.stderr
