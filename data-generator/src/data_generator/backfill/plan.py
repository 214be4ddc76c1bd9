"""The plan of a backfill: scenario file, days and scale, read back when it is resumed."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from data_generator.load.seasons import YearCurve
from data_generator.scenario import Curve, Funnel, Injection, Population, Rate, Scenario, Strict, load_model
from data_platform_core.errors import ConfigurationError

SinkName = Literal["kafka", "lake"]

DAYS = 365
_SECONDS_PER_DAY = 86_400
#: The contracts accept no event before this century.
_EARLIEST = date(2000, 1, 2)


class Season(Curve):
    """How records spread over a history: hours and weekends as in a scenario, `months` from January, `night` the share
    of the busiest hour's rate that is there at weight 0."""

    night: float = Field(default=0.1, gt=0, le=1)
    months: tuple[float, ...] = Field(min_length=12, max_length=12)

    @field_validator("months")
    @classmethod
    def _positive(cls, months: tuple[float, ...]) -> tuple[float, ...]:
        for number, weight in enumerate(months, start=1):
            if not 0 < weight <= 100:
                raise ValueError(f"the weight of month {number} is {weight:g}, give one above 0, at most 100")
        return months


class BackfillScenario(Strict):
    """scenarios/backfill.yaml. `records_per_day` is an average day's at scale 1."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    seed: int
    records_per_day: float = Field(gt=0)
    chunk_records: int = Field(default=50_000, ge=100, le=1_000_000)
    curve: Season
    mix: dict[str, float]
    population: Population
    funnel: Funnel = Funnel()
    inject: Injection = Field(default_factory=Injection)  # see Scenario's

    @model_validator(mode="after")
    def _possible(self) -> BackfillScenario:
        if self.inject.late:
            raise ValueError(f"inject.late is {self.inject.late:g}: a backfill is never late, make it 0")
        self.scenario(1.0)
        return self

    def scenario(self, scale: float) -> Scenario:
        """The same for `Model`, which knows no days: the rate is the history's mean, records/s."""
        rate = self.records_per_day * scale / _SECONDS_PER_DAY
        fields = {key: getattr(self, key) for key in ("name", "seed", "mix", "population", "funnel", "inject")}
        curve = Curve(zone=self.curve.zone, hours=self.curve.hours)
        return Scenario(rate=Rate(low=rate, high=rate), curve=curve, **fields)


class Plan(Strict):
    """Everything that determines the sends. `first` and `last` are local days, inclusive."""

    scenario: BackfillScenario
    first: date
    last: date
    scale: float = Field(gt=0)
    sink: SinkName

    @property
    def curve(self) -> YearCurve:
        season = self.scenario.curve
        return YearCurve(
            self.scenario.records_per_day * self.scale,
            season.hours,
            season.night,
            season.weekend_factor,
            season.months,
            ZoneInfo(season.zone),
        )

    @property
    def planned(self) -> int:
        """Records of all days; catalogue and customers come on top."""
        return sum(self.curve.counts(self.first, self.last))

    def differences(self, other: Plan) -> list[str]:
        """`key: mine, not theirs` for each parameter in which the plans differ."""
        mine, theirs = _flat(self.model_dump(mode="json")), _flat(other.model_dump(mode="json"))
        keys = sorted({*mine, *theirs})
        return [f"{key} is {mine.get(key)}, was {theirs.get(key)}" for key in keys if mine.get(key) != theirs.get(key)]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = prefix + key
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return {_OPTIONS.get(key, key.removeprefix("scenario.")): value for key, value in flat.items()}


_OPTIONS = {"first": "--from", "last": "--to", "scale": "--scale", "sink": "--sink", "scenario.seed": "--seed"}


class Wish(Strict):
    """Options of the command line; None if not given."""

    path: Path
    first: date | None = None
    last: date | None = None
    scale: float | None = None
    seed: int | None = None
    sink: SinkName | None = None

    def plan(self, before: Plan | None = None, today: date | None = None) -> Plan:
        """The requested plan. Missing options come from `before` (a resumed run), otherwise from the defaults.

        Raises ConfigurationError for days that are not over or in the wrong order.
        """
        seed = self.seed if self.seed is not None else before.scenario.seed if before else None
        overrides = {} if seed is None else {"seed": seed}
        scenario = load_model(BackfillScenario, self.path, overrides)
        today = today or datetime.now(ZoneInfo(scenario.curve.zone)).date()
        last = self.last or (before.last if before else today - timedelta(days=1))
        first = self.first or (before.first if before else last - timedelta(days=DAYS - 1))
        scale = self.scale if self.scale is not None else before.scale if before else 1.0
        _check(first, last, scale, today, scenario.curve.zone)
        sink: SinkName = self.sink or (before.sink if before else "kafka")
        return Plan(scenario=scenario, first=first, last=last, scale=scale, sink=sink)


def _check(first: date, last: date, scale: float, today: date, zone: str) -> None:
    if last >= today:
        raise ConfigurationError(f"--to {last} is not over yet in {zone}; the last day can be {today - timedelta(1)}")
    if first > last:
        raise ConfigurationError(f"--from {first} is after --to {last}; give the earlier day first")
    if first < _EARLIEST:
        raise ConfigurationError(f"--from {first}: contracts take no event before 2000; begin at {_EARLIEST} or later")
    if not 0 < scale <= 1e6:
        raise ConfigurationError(f"--scale is {scale:g}, give one above 0, at most 1,000,000")
