"""The catalogue of jobs: command, account, required servers, and why a second run is safe.

Demo, tests, playbooks, schedules and manifests get their commands from it. A runtime decides how a job runs (a child
process, a supervised service, a pod). The command is the same everywhere.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints, model_validator

from data_platform_core.access.matrix import SERVICES_FILE, Matrix, load_matrix
from data_platform_core.errors import ConfigurationError
from data_platform_core.topology.endpoints import Frozen

#: The program whose environment option comes before its command: `crm --env test load`.
_CORE = "crm"
_GENERATOR = "crm-generator"


class Kind(StrEnum):
    """How a job is packaged: a plain process, or a Spark application with a driver and executors."""

    PROCESS = "process"
    SPARK = "spark"


class System(StrEnum):
    """A server that a job uses."""

    KAFKA = "kafka"
    REGISTRY = "registry"
    OBJECT_STORE = "object_store"
    POSTGRES = "postgres"
    PROMETHEUS = "prometheus"
    ALERTMANAGER = "alertmanager"

    @property
    def has_accounts(self) -> bool:
        """Whether its clients log in, so that the matrix must have an account."""
        return self not in (System.REGISTRY, System.PROMETHEUS, System.ALERTMANAGER)


class Job(Frozen):
    """One entry of the catalogue.

    `command`: program and subcommand, without the environment. `service`: the account in the matrix. `needs`: servers
    that must answer. `idempotent_by`: why a second run is safe. `takes_run_id`: whether it needs the name of a run.
    `arguments`: what else a person must name, as words of its usage; empty for most. `catches_up`: whether a run also
    does what earlier intervals left undone, so that it completes those as well. `plan`, `verify`: the job's dry run and
    check, if it has them.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z-]*[a-z])?$")]
    summary: str
    command: tuple[str, ...]
    service: str
    kind: Kind = Kind.PROCESS
    needs: frozenset[System]
    idempotent_by: str
    takes_run_id: bool = False
    arguments: str = ""
    catches_up: bool = False
    plan: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()

    @property
    def runs_by_itself(self) -> bool:
        """Whether a schedule can run it: nobody has to name anything."""
        return not self.takes_run_id and not self.arguments

    def in_environment(self, environment: str, *options: str, run_id: str | None = None) -> tuple[str, ...]:
        """The command as typed in a shell: `("crm", "--env", "test", "load")`; `options` are appended.

        Raises ConfigurationError when a run's name is missing, or given to a job that takes none.
        """
        if self.takes_run_id != (run_id is not None):
            reason = "needs the name of a run" if self.takes_run_id else f"takes no run (it was given {run_id!r})"
            raise ConfigurationError(f"job {self.name} {reason}; see `{' '.join(self.command)} --help`")
        run = ("--run-id", run_id) if run_id is not None else ()
        return (*self.without_run(environment), *run, *options)

    def without_run(self, environment: str) -> tuple[str, ...]:
        """The command without its options; a job that takes a run lacks the run's name."""
        program, *subcommand = self.command
        place = ("--env", environment)
        return (program, *place, *subcommand) if program == _CORE else (program, *subcommand, *place)

    def argv(self, environment: str, *options: str, run_id: str | None = None) -> list[str]:
        """The same for a child process: the program by its path. Raises the same errors as `in_environment`."""
        program, *arguments = self.in_environment(environment, *options, run_id=run_id)
        return [program_path(program), *arguments]

    @model_validator(mode="after")
    def _is_a_command_of_ours(self) -> Job:
        if not self.command or self.command[0] not in (_CORE, _GENERATOR):
            raise ValueError(f"job {self.name}: {self.command} is no command of {_CORE} or {_GENERATOR}")
        return self


#: Jobs that record the outcome of each run.
LOAD, MARTS = "load-warehouse", "build-marts"

_JOBS = (
    Job(
        name="topics",
        summary="Create and configure topics from contracts and topology",
        command=(_CORE, "topics", "apply"),
        plan=(_CORE, "topics", "plan"),
        verify=(_CORE, "topics", "verify"),
        service="admin",
        needs=frozenset({System.KAFKA}),
        idempotent_by="it changes only what differs",
    ),
    Job(
        name="acls",
        summary="Apply Kafka's access rules from the matrix of accounts",
        command=(_CORE, "acls", "apply"),
        plan=(_CORE, "acls", "plan"),
        verify=(_CORE, "acls", "verify"),
        service="admin",
        needs=frozenset({System.KAFKA}),
        idempotent_by="it changes only what differs",
    ),
    Job(
        name="schemas",
        summary="Register the contracts' schemas",
        command=(_CORE, "registry", "apply"),
        service="admin",
        needs=frozenset({System.REGISTRY}),
        idempotent_by="a schema that is registered keeps its id",
    ),
    Job(
        name="migrations",
        summary="Update schemas, tables and roles of the warehouse",
        command=(_CORE, "warehouse", "migrate"),
        service="admin",
        needs=frozenset({System.POSTGRES}),
        idempotent_by="each migration runs once, by its revision",
    ),
    Job(
        name="generate-normal",
        summary="Send an ordinary day's records",
        command=(_GENERATOR, "normal"),
        service="generator",
        needs=frozenset({System.KAFKA, System.REGISTRY, System.OBJECT_STORE}),
        idempotent_by="a run id is used once",
        takes_run_id=True,
    ),
    Job(
        name="generate-spike",
        summary="Send a campaign's records: baseline, ramp, hold, decay",
        command=(_GENERATOR, "spike"),
        service="generator",
        needs=frozenset({System.KAFKA, System.REGISTRY, System.OBJECT_STORE}),
        idempotent_by="a run id is used once",
        takes_run_id=True,
    ),
    Job(
        name="generate-backfill",
        summary="Send a history of past days, to Kafka or straight to the lake",
        command=(_GENERATOR, "backfill"),
        service="generator",
        needs=frozenset({System.KAFKA, System.REGISTRY, System.OBJECT_STORE}),
        idempotent_by="an interrupted run resumes after its last acknowledged record",
        takes_run_id=True,
    ),
    Job(
        name="generate-seed",
        summary="Send fixtures: customers, products, orders, reviews",
        command=(_GENERATOR, "seed"),
        service="generator",
        needs=frozenset({System.KAFKA, System.REGISTRY, System.OBJECT_STORE}),
        idempotent_by="a second run replaces the records of the first",
        takes_run_id=True,
    ),
    Job(
        name="ingest",
        summary="Stream topics to bronze, silver and dead letters until stopped",
        command=(_CORE, "stream", "run"),
        service="streaming",
        kind=Kind.SPARK,
        needs=frozenset({System.KAFKA, System.REGISTRY, System.OBJECT_STORE}),
        idempotent_by="checkpoint, and a commit's batch number in each table",
    ),
    Job(
        name="backfill-import",
        summary="Import the files of a lake backfill into bronze and silver; the stream must be stopped",
        command=(_CORE, "lake", "import"),
        service="streaming",
        kind=Kind.SPARK,
        needs=frozenset({System.OBJECT_STORE}),
        idempotent_by="positions that are already in bronze are skipped",
        takes_run_id=True,
    ),
    Job(
        name="lake-restore",
        summary="Take bronze and silver of an entity back to a version; the stream must be stopped",
        command=(_CORE, "lake", "restore"),
        service="streaming",
        kind=Kind.SPARK,
        needs=frozenset({System.KAFKA, System.OBJECT_STORE}),
        idempotent_by="a second restore to the same version ends where the first does",
        arguments="ENTITY VERSION --yes",
    ),
    Job(
        name="drain",
        summary="Wait until bronze and silver have the topics' records",
        command=(_CORE, "stream", "drain"),
        service="accounting",
        needs=frozenset({System.KAFKA, System.OBJECT_STORE}),
        idempotent_by="it only reads",
    ),
    Job(
        name=LOAD,
        summary="Load new rows of silver into the landing tables",
        command=(_CORE, "load"),
        service="batch",
        kind=Kind.SPARK,
        needs=frozenset({System.OBJECT_STORE, System.POSTGRES}),
        idempotent_by="rows and the version of silver they came from commit together",
        catches_up=True,
    ),
    Job(
        name=MARTS,
        summary="Build and test staging and marts from the landing tables",
        command=(_CORE, "dbt", "build"),
        service="dbt",
        needs=frozenset({System.POSTGRES}),
        idempotent_by="incremental models process each load once",
        catches_up=True,
    ),
    Job(
        name="check-sla",
        summary="Check every service level: open, close, escalate and notify violations",
        command=(_CORE, "sla", "check"),
        service="sla",
        needs=frozenset({System.POSTGRES, System.PROMETHEUS, System.ALERTMANAGER}),
        idempotent_by="a deadline is missed once, and Alertmanager recognises an alert by its labels",
    ),
    Job(
        name="check-freshness",
        summary="Compare each entity's newest load with its contract's limits",
        command=(_CORE, "dbt", "freshness"),
        service="dbt",
        needs=frozenset({System.POSTGRES}),
        idempotent_by="it only reads",
    ),
    Job(
        name="reconcile",
        summary="Reconcile every record of a run: PASS or FAIL",
        command=(_CORE, "reconcile"),
        service="accounting",
        needs=frozenset({System.KAFKA, System.OBJECT_STORE, System.POSTGRES}),
        idempotent_by="it only reads",
        takes_run_id=True,
    ),
)

#: Jobs that set up empty servers, in order.
SETUP = ("topics", "acls", "schemas", "migrations")
#: From silver to the marts, in order.
BATCH = (LOAD, MARTS)


def load_jobs(jobs: tuple[Job, ...] = _JOBS, matrix: Matrix | None = None) -> Mapping[str, Job]:
    """The catalogue by name. Raises ConfigurationError naming the first job without an account in the matrix."""
    matrix = matrix or load_matrix()
    by_name: dict[str, Job] = {}
    for job in jobs:
        if job.name in by_name:
            raise ConfigurationError(f"job {job.name} is in the catalogue twice (jobs.py); choose another name")
        _require_accounts(job, matrix)
        by_name[job.name] = job
    return by_name


def job(name: str) -> Job:
    """The job `name`. Raises ConfigurationError that lists the known ones."""
    jobs = load_jobs()
    if name not in jobs:
        raise ConfigurationError(f"job {name!r} is not in the catalogue (jobs.py); known: {', '.join(sorted(jobs))}")
    return jobs[name]


def _require_accounts(job: Job, matrix: Matrix) -> None:
    """Raise ConfigurationError unless the job's service has an account on each server that has accounts."""
    if job.service not in matrix.services:
        raise ConfigurationError(
            f"job {job.name} runs as service {job.service!r}, which is not in the matrix of accounts; correct it "
            f"in jobs.py or add the service to {SERVICES_FILE.name} (known: {', '.join(sorted(matrix.services))})"
        )
    access = matrix.services[job.service]
    for system in sorted(system for system in job.needs if system.has_accounts):
        if getattr(access, system.value) is None:
            raise ConfigurationError(
                f"job {job.name} needs {system.value}, where its service {job.service} has no account; add one to "
                f"{SERVICES_FILE.name} or run the job as another service"
            )


def program_path(program: str) -> str:
    """The path of our program (`crm`): in the folder of the running Python, regardless of PATH."""
    return str(Path(sys.executable).parent / program)
