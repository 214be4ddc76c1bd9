"""One check of every service level: read, evaluate, store, notify. A row that can't be checked stops no other row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from data_platform_core.errors import ConfigurationError, UserError
from data_platform_core.governance import alerts, lag
from data_platform_core.governance.definitions import Definition, Kind, problem
from data_platform_core.governance.evaluation import Missed, Observed, evaluate, first_moment, horizon
from data_platform_core.governance.pipelines import Measure, Pipeline
from data_platform_core.governance.repository import Repository
from data_platform_core.topology import Monitoring


class CheckError(UserError):
    """Rows that could not be checked, or violations that could not be notified; a line each.

    The exit code is the highest of their own: 2 for a row that is wrong, 3 for a service that is missing.
    """

    def __init__(self, problems: list[UserError]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems
        self.exit_code = max(each.exit_code for each in problems)

    @property
    def lines(self) -> list[str]:
        return [str(each) for each in self.problems]


@dataclass
class Report:
    """What a check did: a line per change, definitions checked, violations still open, and problems."""

    changes: list[str] = field(default_factory=list)
    checked: int = 0
    open: int = 0
    problems: list[UserError] = field(default_factory=list)


class Sources:
    """Observations of the pipelines: from PostgreSQL, and lag from Prometheus, once and only if a row needs it."""

    def __init__(
        self,
        repository: Repository,
        pipelines: Mapping[str, Pipeline],
        processed_until: Callable[[], dict[str, datetime]],
    ) -> None:
        self._repository = repository
        self._pipelines = pipelines
        self._ask = processed_until

    def observed(self, definition: Definition, since: datetime) -> Observed:
        """What is known of a definition's pipeline. Raises UserError when a source is missing."""
        pipeline = self._pipelines[definition.pipeline]
        if definition.kind is not Kind.REALTIME:
            return Observed(self._repository.completions(pipeline.name, since), pipeline.catches_up)
        if pipeline.measure is Measure.LAG:
            return Observed(newest=self._processed_until.get(pipeline.entity))
        if pipeline.measure is Measure.LOADS:
            return Observed(newest=self._repository.last_rows(pipeline.entity))
        return Observed(newest=self._repository.last_success(pipeline.name))

    @cached_property
    def _processed_until(self) -> dict[str, datetime]:
        return self._ask()


def check(
    repository: Repository,
    pipelines: Mapping[str, Pipeline],
    monitoring: Monitoring,
    environment: str,
    now: datetime | None = None,
) -> Report:
    """Check every enabled definition at `now`, notify, and end what was disabled.

    Problems of single rows and services are in the report. Raises ServiceError when PostgreSQL is missing.
    """
    now = now or datetime.now(UTC)
    report = Report()
    sources = Sources(repository, pipelines, lambda: lag.processed_until(monitoring.prometheus))
    definitions = repository.definitions()
    for definition in definitions:
        try:
            _check_one(repository, sources, pipelines, definition, now, report)
        except UserError as error:
            _add(report, error)
    _notify(repository, definitions, monitoring, environment, now, report)
    return report


def _check_one(
    repository: Repository,
    sources: Sources,
    pipelines: Mapping[str, Pipeline],
    definition: Definition,
    now: datetime,
    report: Report,
) -> None:
    wrong = problem(definition, pipelines) if definition.enabled else None
    if wrong:
        raise ConfigurationError(f"{wrong}; correct the row, or `crm sla disable {definition.name}`")
    violations = repository.violations(definition, horizon(definition, now))
    observed = Observed()
    if definition.enabled:
        observed = sources.observed(definition, first_moment(definition, violations, now))
        report.checked += 1
    verdict = evaluate(definition, observed, violations, now)
    for ended in verdict.ended:
        if repository.close(ended, now):
            report.changes.append(f"closed     {definition.name}: {ended.because}")
    for missed in verdict.missed:
        if repository.open(definition, missed, now):
            report.changes.append(f"{_what(missed)} {definition.name}: {_missed(definition, missed)}")
    for violation_id in verdict.escalated:
        if repository.escalate(violation_id, now):
            report.changes.append(f"escalated  {definition.name}: open for {definition.escalate_after_minutes} min")


def _notify(
    repository: Repository,
    definitions: list[Definition],
    monitoring: Monitoring,
    environment: str,
    now: datetime,
    report: Report,
) -> None:
    notices = repository.notices(definitions)
    report.open = sum(notice.intervals for notice in notices)
    if not notices:
        return
    try:
        posted = [alert for notice in notices for alert in alerts.alerts(notice, environment, now)]
        alerts.post(monitoring.alertmanager, posted)
    except UserError as error:
        _add(report, error)
        return
    for notice in notices:
        repository.notified(notice.unnotified, now)
        if not notice.is_open:
            repository.resolved(notice.unresolved, now)


def _add(report: Report, error: UserError) -> None:
    """One line each: a service that is missing for several rows is named once."""
    if str(error) not in map(str, report.problems):
        report.problems.append(error)


def _what(missed: Missed) -> str:
    return "was late  " if missed.completed_at else "opened    "


def _missed(definition: Definition, missed: Missed) -> str:
    due = f"promised {definition.promise}, due {missed.due_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    late = f", completed {missed.completed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if missed.completed_at else ""
    return due + late
