"""Third-party charts: our values against the real chart of the pinned version."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml
from kubernetes_schemas import DEFINITIONS, VERSION, documents, needs_definitions, problems, program

from data_platform_core.kubernetes.chart import VALUES_DIR
from data_platform_core.kubernetes.files import topologies
from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

OPERATOR = DEFINITIONS / "spark-operator-chart"
PINS = REPOSITORY_ROOT / "home-server-infra" / "lab" / "kubernetes" / "go" / "manifests" / "go.mod"


def operator(environment: str, *settings: str) -> subprocess.CompletedProcess[str]:
    command = [program("helm"), "template", "spark-operator", str(OPERATOR), "-n", "spark-operator"]
    command += ["--kube-version", f"{VERSION}.0", "--api-versions", "monitoring.coreos.com/v1/PodMonitor"]
    command += ["--api-versions", "monitoring.coreos.com/v1"]
    for values in ("spark-operator.yaml", f"{environment}/spark-operator.yaml"):
        command += ["-f", str(VALUES_DIR / values)]
    return subprocess.run([*command, *settings], capture_output=True, text=True, check=False)


def test_the_version_that_is_installed_is_the_one_that_is_checked() -> None:
    (checked,) = re.findall(r"spark-operator/v2 v(\S+)", PINS.read_text(encoding="utf-8"))
    (installed,) = re.findall(
        r"^spark-operator \S+ (\S+)", (VALUES_DIR / "charts.txt").read_text("utf-8"), re.MULTILINE
    )
    assert installed == checked


@needs_definitions
@pytest.mark.parametrize("environment", [topology.environment for topology in topologies()])
def test_the_operators_chart_accepts_our_values(environment: str) -> None:
    done = operator(environment)
    assert done.returncode == 0, done.stderr
    manifests = documents(done.stdout)
    assert problems(manifests) == []
    kinds = {(each["kind"], each["metadata"].get("namespace")) for each in manifests}
    # It may work in our namespace, and creates no account for drivers there: they use ours.
    assert ("Role", "crm") in kinds
    assert ("ServiceAccount", "crm") not in kinds


@needs_definitions
def test_every_value_of_ours_is_one_of_the_charts() -> None:
    def unknown(ours: object, theirs: object, path: str = "") -> list[str]:
        if not isinstance(ours, dict) or not isinstance(theirs, dict) or not theirs:
            return []
        missing = [f"{path}{key}" for key in ours if key not in theirs]
        return missing + [
            each for key in ours.keys() & theirs.keys() for each in unknown(ours[key], theirs[key], f"{path}{key}.")
        ]

    ours = yaml.safe_load((VALUES_DIR / "spark-operator.yaml").read_text("utf-8"))
    theirs = yaml.safe_load((OPERATOR / "values.yaml").read_text("utf-8"))
    assert unknown(ours, theirs) == []
    assert unknown({"webhook": {"failurPolicy": "Fail"}}, theirs) == ["webhook.failurPolicy"]
