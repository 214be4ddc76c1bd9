"""One check of every service level: read, evaluate, store, notify. A row that can't be checked stops no other row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from data_platform_core.errors import ConfigurationError, UserError
from data_platform_core.governance import alerts, lag
from data_platform_core.governance.definitions import Definition, Kind, problem
from data_platform_core.governance.evaluation import Missed, Observed, Verdict, evaluate, first_moment, horizon
from data_platform_core.governance.pipelines import Measure, Pipeline
from data_platform_core.governance.repository import Notice, Repository
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
            return Observed(newest=self._lag().get(pipeline.entity))
        if pipeline.measure is Measure.LOADS:
            return Observed(newest=self._repository.last_rows(pipeline.entity))
        return Observed(newest=self._repository.last_success(pipeline.name))

    def _lag(self) -> dict[str, datetime]:
        if isinstance(self._answer, UserError):
            raise self._answer
        return self._answer

    @cached_property
    def _answer(self) -> dict[str, datetime] | UserError:
        # A failure is kept as well: a server that hangs is waited for once, not once a row.
        try:
            return self._ask()
        except UserError as error:
            return error


class Check:
    """One check, at one moment. `report` fills as it runs."""

    def __init__(
        self,
        repository: Repository,
        pipelines: Mapping[str, Pipeline],
        monitoring: Monitoring,
        environment: str,
        now: datetime | None = None,
    ) -> None:
        self.report = Report()
        self._repository = repository
        self._pipelines = pipelines
        self._sources = Sources(repository, pipelines, lambda: lag.processed_until(monitoring.prometheus))
        self._alertmanager = monitoring.alertmanager
        self._environment = environment
        self._now = now or datetime.now(UTC)

    def run(self) -> Report:
        """Check every enabled definition, end what was disabled, and notify.

        Problems of single rows and services are in the report. Raises ServiceError when PostgreSQL is missing.
        """
        definitions = self._repository.definitions()
        for definition in definitions:
            try:
                self._check(definition)
            except UserError as error:
                self._add(error)
        notices = self._repository.notices(definitions)
        self.report.open = sum(notice.intervals for notice in notices)
        if notices:
            self._notify(notices)
        return self.report

    def _check(self, definition: Definition) -> None:
        wrong = problem(definition, self._pipelines) if definition.enabled else None
        if wrong:
            raise ConfigurationError(f"{wrong}; correct the row, or `crm sla disable {definition.name}`")
        violations = self._repository.violations(definition, horizon(definition, self._now))
        observed = Observed()
        if definition.enabled:
            observed = self._sources.observed(definition, first_moment(definition, violations, self._now))
            self.report.checked += 1
        self._store(definition, evaluate(definition, observed, violations, self._now))

    def _store(self, definition: Definition, verdict: Verdict) -> None:
        """Write the verdict; a line for each change that no other check has made."""
        rows, now, changes = self._repository, self._now, self.report.changes
        for ended in verdict.ended:
            if rows.close(ended, now):
                changes.append(f"closed     {definition.name}: {ended.because}")
        for missed in verdict.missed:
            if rows.open(definition, missed, now):
                changes.append(f"{'was late  ' if missed.completed_at else 'opened    '} {_missed(definition, missed)}")
        for violation_id in verdict.escalated:
            if rows.escalate(violation_id, now):
                changes.append(f"escalated  {definition.name}: open for {definition.escalate_after_minutes} min")

    def _notify(self, notices: Sequence[Notice]) -> None:
        posted = [alert for notice in notices for alert in alerts.alerts(notice, self._environment, self._now)]
        try:
            alerts.post(self._alertmanager, posted)
        except UserError as error:
            self._add(error)
            return
        for notice in notices:
            self._repository.notified(notice.unnotified, self._now)
            if not notice.is_open:
                self._repository.resolved(notice.unresolved, self._now)

    def _add(self, error: UserError) -> None:
        """A line each: a service that is missing for several rows is named once."""
        if str(error) not in map(str, self.report.problems):
            self.report.problems.append(error)


def _missed(definition: Definition, missed: Missed) -> str:
    due = f"promised {definition.promise}, due {missed.due_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    late = f", completed {missed.completed_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if missed.completed_at else ""
    return f"{definition.name}: {due}{late}"
