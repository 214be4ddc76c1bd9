"""`make deploy`: the order of its steps, and what it does when one fails. kubectl and helm are recording stubs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from data_platform_core.jobs import load_jobs
from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit


def deploy(folder: Path, *arguments: str, failing: str = "") -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """The script, with the stubs on PATH; their calls, one per line. `failing`: words that make one fail."""
    log = folder / "asked"
    for name in ("kubectl", "helm"):
        recorder = folder / name
        recorder.write_text(
            f'#!/bin/sh\necho "{name} $*" >>"{log}"\ncase "$*" in *"{failing or "nothing"}"*) exit 1;; esac\n',
            encoding="utf-8",
        )
        recorder.chmod(0o755)
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "CRM_STATE": str(folder / "state")}
    script = str(REPOSITORY_ROOT / "helm" / "deploy.sh")
    done = subprocess.run(["sh", script, *arguments], env=env, capture_output=True, text=True, check=False)
    return done, log.read_text(encoding="utf-8").splitlines() if log.is_file() else []


@pytest.fixture
def with_secrets(tmp_path: Path) -> Path:
    """What `home` and `k8s-lab` need: every key of every service, and the authority's certificate."""
    keys = ("CRM_KAFKA__PASSWORD", "CRM_OBJECT_STORE__SECRET_KEY", "CRM_POSTGRES__PASSWORD")
    for environment in ("home", "k8s-lab"):
        folder = tmp_path / "state" / environment / "secrets"
        folder.mkdir(parents=True)
        for service in {entry.service for entry in load_jobs().values()}:
            (folder / f"{service}.env").write_text("".join(f"{key}=of-the-test\n" for key in keys), encoding="utf-8")
    authority = tmp_path / "state" / "home" / "pki" / "ca.crt"
    authority.parent.mkdir()
    authority.write_text("a certificate\n", encoding="ascii")
    return tmp_path


def test_each_step_comes_after_what_it_needs(with_secrets: Path) -> None:
    done, asked = deploy(with_secrets, "up", "home")
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()[:4]) for line in asked] == [
        "kubectl apply -k home-server-infra/kubernetes/overlays/home",
        "helm upgrade --install kube-prometheus-stack",
        "helm upgrade --install spark-operator",
        "kubectl apply -f -",
        "helm upgrade --install crm",
        "kubectl apply -k data-platform-core/spark-applications/overlays/home",
    ]
    assert "helm/values/home/spark-operator.yaml" in asked[2]
    assert "--namespace crm " in asked[4]
    assert "of-the-test" not in done.stdout + done.stderr


def test_an_environment_with_a_list_of_charts_gets_only_those(with_secrets: Path) -> None:
    done, asked = deploy(with_secrets, "up", "k8s-lab")
    assert done.returncode == 0, done.stderr
    assert [line.split()[3] for line in asked if line.startswith("helm")] == ["crm"]


def test_a_step_that_fails_is_named_and_nothing_follows_it(with_secrets: Path) -> None:
    done, asked = deploy(with_secrets, "up", "home", failing="--install spark-operator")
    assert done.returncode == 3
    assert done.stderr == "error: step 3 of deploy failed; what it says is above, the steps before it stay\n"
    assert asked[-1].startswith("helm upgrade --install spark-operator")


def test_a_missing_secret_ends_it_before_anything_of_ours_is_installed(tmp_path: Path) -> None:
    done, asked = deploy(tmp_path, "up", "k8s-lab")
    assert done.returncode == 3
    assert "secrets/admin.env of service admin do not exist" in done.stderr
    assert not any("crm-platform" in line for line in asked)


def test_taking_it_away_leaves_operators_namespaces_and_data(tmp_path: Path) -> None:
    done, asked = deploy(tmp_path, "down", "k8s-lab")
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in asked] == [["kubectl", "delete"], ["helm", "uninstall"]]
    assert "data-platform-core/spark-applications" in asked[0]


def test_an_environment_without_a_cluster_is_refused_by_name(tmp_path: Path) -> None:
    done, asked = deploy(tmp_path, "up", "local")
    assert done.returncode == 2
    assert done.stderr == "error: environment local has no cluster in its topology; known: home k8s-lab \n"
    assert asked == []
