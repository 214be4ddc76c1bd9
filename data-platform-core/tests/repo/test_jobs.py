"""The catalogue of jobs: each entry is an existing command, run by a permitted account; no file spells out its own."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

import click
import pytest
import typer
import yaml

from data_generator.cli import app as generator_app
from data_platform_core.cli import app as core_app
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import BATCH, SETUP, Job, Kind, System, job, load_jobs, program_path
from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

PROGRAMS = {"crm": core_app, "crm-generator": generator_app}
JOBS = load_jobs()
each_job = pytest.mark.parametrize("entry", JOBS.values(), ids=lambda entry: entry.name)


def command_of(words: tuple[str, ...]) -> click.Command:
    """The subcommand that `words` call. Fails when there is none."""
    found: click.Command = typer.main.get_command(PROGRAMS[words[0]])
    for word in words[1:]:
        found = getattr(found, "commands", {})[word]
    assert not hasattr(found, "commands"), f"`{' '.join(words)}` is a group of commands"
    return found


def fictitious(**changed: object) -> Job:
    entry = {
        "name": "count-stars",
        "summary": "Count",
        "command": ("crm", "load"),
        "service": "batch",
        "needs": frozenset({System.POSTGRES}),
        "idempotent_by": "it only reads",
    }
    return Job.model_validate(entry | changed)


@each_job
def test_a_jobs_command_exists_with_its_dry_run_and_its_check(entry: Job) -> None:
    for words in (entry.command, entry.plan, entry.verify):
        if words:
            command_of(words)


@each_job
def test_a_job_has_a_run_id_where_its_command_has_one(entry: Job) -> None:
    options = [option for parameter in command_of(entry.command).params for option in parameter.opts]
    assert ("--run-id" in options) == entry.takes_run_id


@each_job
def test_a_job_of_the_core_runs_as_the_account_that_its_command_logs_in_with(entry: Job) -> None:
    callback = command_of(entry.command).callback
    assert callback is not None
    services = re.findall(r'load_settings\("(\w+)"', inspect.getsource(inspect.unwrap(callback)))
    assert services in ([entry.service], []), f"{entry.name} logs in as {services}"
    assert services or entry.command[0] == "crm-generator" or entry.name in ("topics", "acls", "schemas", "reconcile")


def test_spark_jobs_are_those_that_start_a_session() -> None:
    assert {name for name, entry in JOBS.items() if entry.kind is Kind.SPARK} == {
        "ingest",
        "backfill-import",
        "lake-restore",
        "load-warehouse",
    }


def test_the_orders_name_jobs_of_the_catalogue() -> None:
    assert [JOBS[name].name for name in (*SETUP, *BATCH)] == [*SETUP, *BATCH]


def test_a_command_is_what_a_person_types() -> None:
    assert job("load-warehouse").in_environment("test") == ("crm", "--env", "test", "load")
    assert job("build-marts").in_environment("test", "--quiet") == ("crm", "--env", "test", "dbt", "build", "--quiet")
    assert job("generate-normal").in_environment("test", "--flat", run_id="r") == (
        "crm-generator", "normal", "--env", "test", "--run-id", "r", "--flat",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "run_id", "said"),
    [
        ("reconcile", None, "job reconcile needs the name of a run; see `crm reconcile --help`"),
        ("drain", "r", "job drain takes no run (it was given 'r'); see `crm stream drain --help`"),
    ],
)
def test_a_run_that_is_missing_or_not_taken_is_one_line(name: str, run_id: str | None, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        job(name).in_environment("test", run_id=run_id)
    assert str(refused.value) == said


def test_a_job_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match=r"job 'lod' is not in the catalogue .* known: acls, .*load-warehouse"):
        job("lod")


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (
            (fictitious(service="astronomer"),),
            "job count-stars runs as service 'astronomer', which is not in the matrix",
        ),
        ((fictitious(needs={System.KAFKA}),), "job count-stars needs kafka, where its service batch has no account"),
        ((fictitious(), fictitious()), "job count-stars is in the catalogue twice"),
    ],
    ids=["unknown service", "no account", "twice"],
)
def test_a_job_without_an_account_is_named(jobs: tuple[Job, ...], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_jobs(jobs)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_command_of_someone_elses_is_no_job() -> None:
    with pytest.raises(ValueError, match=r"job count-stars: .* is no command of crm or crm-generator"):
        fictitious(command=("rm", "-rf"))


def test_the_registry_needs_no_account() -> None:
    assert load_jobs((fictitious(needs={System.REGISTRY, System.POSTGRES}),))


def test_programs_are_those_beside_the_python_that_runs() -> None:
    assert Path(program_path("crm")).parent == Path(sys.executable).parent
    assert Path(program_path("crm")).is_file()


def typed(text: str) -> set[tuple[str, ...]]:
    """Commands of the core that a Makefile spells out, without options and variables."""
    found = set()
    for program, rest in re.findall(r"\$\(CORE\)/(crm|crm-generator) ([^\n]*)", text):
        words = re.sub(r"--env \S+|--(?!env).*", "", rest).split()
        found.add((program, *[word for word in words if word.isalpha()]))
    return found


def test_every_make_target_that_runs_the_core_runs_a_job_or_writes_files() -> None:
    commands = {words for entry in JOBS.values() for words in (entry.command, entry.plan, entry.verify)}
    found = typed((REPOSITORY_ROOT / "Makefile").read_text(encoding="utf-8"))
    assert ("crm", "load") in found
    assert found - commands == {
        ("crm", "generate"),
        ("crm", "dbt", "docs"),
        ("crm", "dbt", "parse"),
        ("crm", "warehouse", "reset"),
    }


def test_playbooks_read_the_commands_that_bring_brokers_up_to_date() -> None:
    playbooks = [path.read_text(encoding="utf-8") for path in (REPOSITORY_ROOT / "ansible" / "playbooks").glob("*.yml")]
    calls = [line.strip() for text in playbooks for line in text.splitlines() if "platform_crm, " in line]
    assert len(calls) == 3
    assert all(re.search(r"\+ item\.(plan|apply|verify) ", line) for line in calls)
    inventory = yaml.safe_load((REPOSITORY_ROOT / "ansible/inventories/home/hosts.yml").read_text(encoding="utf-8"))
    jobs = inventory["all"]["vars"]["platform_kafka_jobs"]
    assert [entry["name"] for entry in jobs] == ["topics", "acls"]
    assert jobs[0] == {
        "name": "topics",
        "plan": ["topics", "plan"],
        "apply": ["topics", "apply"],
        "verify": ["topics", "verify"],
    }
