"""Dockerfiles provide what manifests rely on; what Spark starts in a pod is the job's own command."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from data_platform_core.kubernetes import names
from data_platform_core.kubernetes.files import topologies
from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

DOCKER_DIR = REPOSITORY_ROOT / "data-platform-core" / "docker"
FOLDERS = sorted(path.parent.name for path in DOCKER_DIR.glob("*/Dockerfile"))
ENTRYPOINT = DOCKER_DIR / "spark" / "entrypoint.sh"


@pytest.fixture(params=FOLDERS)
def dockerfile(request: pytest.FixtureRequest) -> str:
    return (DOCKER_DIR / str(request.param) / "Dockerfile").read_text(encoding="utf-8")


def last_stage(dockerfile: str) -> str:
    return dockerfile[dockerfile.rindex("\nFROM ") :]


def test_there_is_a_dockerfile_for_each_image_that_pods_run() -> None:
    for topology in topologies():
        assert topology.kubernetes is not None
        assert sorted(names.images(topology.kubernetes)) == FOLDERS


def test_it_is_built_in_stages_on_a_base_that_is_an_argument(dockerfile: str) -> None:
    assert len(re.findall(r"^FROM \$\{BASE\}", dockerfile, re.MULTILINE)) == 2
    assert "latest" not in dockerfile


def test_its_user_and_folders_are_those_of_the_manifests(dockerfile: str) -> None:
    last = last_stage(dockerfile)
    assert f"USER {names.USER_ID}:{names.USER_ID}" in last
    assert f"CRM_HOME={names.HOME} " in last
    assert f"CRM_STATE={names.STATE} " in last
    assert f"HOME={names.SCRATCH} " in last


def test_compilers_and_package_clients_stay_in_the_build_stage(dockerfile: str) -> None:
    assert re.findall(r"\b(maven|jdk|venv --|pip |uv )\b", last_stage(dockerfile)) == []


def test_it_has_labels_and_no_secret(dockerfile: str) -> None:
    assert "org.opencontainers.image.version" in last_stage(dockerfile)
    assert re.findall(r"(?i)password|secret_key|token", dockerfile) == []


def test_everything_is_installed_by_hash() -> None:
    install = (DOCKER_DIR / "install.sh").read_text(encoding="utf-8")
    for line in re.findall(r"(?:pip sync|pip install)(?:[^\n\\]|\\\n)*", install):
        assert "--require-hashes" in line or "--no-deps" in line, line


def test_what_is_copied_is_sent_to_the_builder(dockerfile: str) -> None:
    """.dockerignore lets through only what it names."""
    sent = [line[1:] for line in (REPOSITORY_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for sources in re.findall(r"^COPY (?!--from)((?:[^\n\\]|\\\n)*)", dockerfile, re.MULTILINE):
        for source in sources.replace("\\\n", " ").split()[:-1]:
            assert (REPOSITORY_ROOT / source).exists(), source
            assert any(source == name or source.startswith(f"{name}/") for name in sent), source


def test_programs_are_where_manifests_expect_them() -> None:
    dockerfile = (DOCKER_DIR / "spark" / "Dockerfile").read_text(encoding="utf-8")
    assert f"{names.PROGRAMS}/\n" in dockerfile
    for program in ("crm.py", "decommission.sh"):
        assert f"docker/spark/{program}" in dockerfile


def called(tmp_path: Path, *arguments: str, **variables: str) -> list[str]:
    """What the entrypoint of crm-spark ends up running, and the submission that PySpark makes."""
    tini = tmp_path / "tini"
    tini.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "$(echo $PYSPARK_SUBMIT_ARGS)"\n', encoding="ascii")
    tini.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SPARK_HOME": "/opt/crm/spark", **variables}
    done = subprocess.run(["bash", str(ENTRYPOINT), *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_driver_is_the_command_with_sparks_submission_beside_it(tmp_path: Path) -> None:
    lines = called(
        tmp_path, "driver", "--properties-file", "/opt/spark/conf/spark.properties", "--class",
        "org.apache.spark.deploy.PythonRunner", "local:///opt/crm/bin/crm.py", "--env", "home", "stream", "run",
        SPARK_DRIVER_BIND_ADDRESS="10.1.2.3",
    )  # fmt: skip
    assert lines[:8] == ["-s", "--", "python", "/opt/crm/bin/crm.py", "--env", "home", "stream", "run"]
    assert lines[8].startswith("--properties-file /opt/spark/conf/spark.properties --deploy-mode client ")
    assert "--conf spark.driver.bindAddress=10.1.2.3 " in lines[8]
    assert lines[8].endswith(" pyspark-shell")


def test_an_executor_gets_each_option_of_its_jvm_whole(tmp_path: Path) -> None:
    given = {
        f"SPARK_{name}": name.lower()
        for name in (
            "EXECUTOR_MEMORY", "DRIVER_URL", "EXECUTOR_ID", "EXECUTOR_CORES", "APPLICATION_ID", "EXECUTOR_POD_IP",
            "RESOURCE_PROFILE_ID", "EXECUTOR_POD_NAME",
        )
    }  # fmt: skip
    lines = called(tmp_path, "executor", SPARK_JAVA_OPT_0="-Da=b c", SPARK_JAVA_OPT_1="-Dd=e", **given)
    assert lines[2:5] == ["java", "-Da=b c", "-Dd=e"]
    assert "/opt/crm/spark/conf:/opt/crm/spark/jars/*" in lines


def test_any_other_command_runs_as_it_is(tmp_path: Path) -> None:
    assert called(tmp_path, "crm", "--help")[:4] == ["-s", "--", "crm", "--help"]
