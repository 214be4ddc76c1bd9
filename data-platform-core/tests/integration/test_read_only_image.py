"""A read-only home runs every job: all writes are below the state folder, and wheels contain what they need."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from image import Image, image

from data_platform_core.paths import JARS_DIR

pytestmark = pytest.mark.integration

#: Where nothing listens, regardless of which stack is up.
AWAY = {
    "CRM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "CRM_OBJECT_STORE__ACCESS_KEY": "someone",
    "CRM_OBJECT_STORE__SECRET_KEY": "of-the-test",
    "CRM_OBJECT_STORE__URL": "http://127.0.0.1:9",
    "CRM_POSTGRES__HOST": "127.0.0.1",
    "CRM_POSTGRES__PASSWORD": "of-the-test",
    "CRM_POSTGRES__PORT": "9",
    "CRM_POSTGRES__USER": "someone",
    "CRM_REGISTRY__URL": "http://127.0.0.1:9",
}
#: Scratch space, a shuffle and the warehouse folder, by a session as jobs have it.
SPARK = """
from data_platform_core.lake.session import spark_session
from data_platform_core.settings import load_settings
spark = spark_session(load_settings("batch", "test"), "read-only", short=True)
print(spark.range(1000).repartition(3).selectExpr("id % 7 AS k").groupBy("k").count().count())
spark.stop()
"""


@pytest.fixture(scope="module")
def built() -> Iterator[Image]:
    with image("accounting", "generator", "warehouse") as made:
        yield made


@pytest.fixture
def unwritten(built: Image) -> Iterator[Image]:
    """The image; at the end nothing outside its state folder has changed."""
    before = built.written()
    yield built
    assert built.written() == before


def test_neither_home_nor_programs_can_be_written(unwritten: Image) -> None:
    for folder in (unwritten.home / "dbt", unwritten.venv):
        assert "Permission denied" in unwritten.run("touch", str(folder / "x")).stderr
    assert unwritten.run("touch", str(unwritten.state / "x")).returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        "crm generate --check",
        "crm topics plan --help",
        "crm --env test dbt parse",
        "crm-generator run --help",
    ],
)
def test_a_command_that_needs_no_server_succeeds(unwritten: Image, command: str) -> None:
    done = unwritten.run(*command.split())
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        "crm --env test topics plan",
        "crm --env test warehouse migrate",
        "crm --env test reconcile --run-id r",
        "crm-generator run --env test --scenario data-generator/scenarios/normal.yaml --duration 1",
    ],
)
def test_a_job_gets_as_far_as_its_servers(unwritten: Image, command: str) -> None:
    done = unwritten.run(*command.split(), **AWAY)
    assert done.returncode == 3
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_written_is_below_the_state_folder(unwritten: Image) -> None:
    assert unwritten.run("crm", "--env", "test", "dbt", "parse").returncode == 0
    assert (unwritten.state / "test" / "dbt" / "logs" / "dbt.log").is_file()


def test_spark_leaves_its_scratch_space_in_the_state_folder(unwritten: Image) -> None:
    """With the core environment's pyspark, which is too large to install once more."""
    done = unwritten.run(sys.executable, "-c", SPARK, CRM_SPARK__JARS_DIR=str(JARS_DIR / "spark"))
    assert done.stdout.split() == ["7"], done.stderr
    assert (unwritten.state / "test" / "spark").is_dir()


def test_a_command_whose_extra_is_not_installed_names_the_missing_module(unwritten: Image) -> None:
    done = unwritten.run("crm", "--env", "test", "stream", "run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: this command needs the Python module ")
    assert "install crm-data-platform-core with the extra" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("crm topics plan", "home-server-infra/topology with topologies"),
        ("crm generate --check", "data-platform-core/contracts with contracts"),
        ("crm-generator flood --count 1", "data-generator/scenarios with scenarios"),
    ],
)
def test_a_home_without_a_part_is_refused_with_the_part_and_the_variable(
    unwritten: Image, command: str, part: str
) -> None:
    done = unwritten.run(*command.split(), CRM_HOME="/nonexistent")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: folder /nonexistent/{part} does not exist; set CRM_HOME (now /nonexistent) to a folder that is laid "
        "out as the repository\n"
    )


@pytest.mark.parametrize(
    ("folder", "refusal"),
    [
        ("state", "error: CRM_STATE is 'state', a relative path; give an absolute one\n"),
        (
            "/proc/state",
            "error: state folder /proc/state/test/dbt can't be written (No such file or directory); set CRM_",
        ),
    ],
)
def test_a_state_folder_that_can_not_be_used_is_refused_by_name(unwritten: Image, folder: str, refusal: str) -> None:
    done = unwritten.run("crm", "--env", "test", "dbt", "parse", CRM_STATE=folder)
    assert done.returncode == 2
    assert done.stderr.startswith(refusal)
