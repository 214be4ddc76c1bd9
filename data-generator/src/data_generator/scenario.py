"""Scenarios: the content of a run, as data. `load_scenario` reads a YAML file; every key is documented here.

Shares are between 0 and 1. An impossible value is refused with its key.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data_generator.load.shapes import DayCurve, Flat, Shape, Spike
from data_platform_core.contracts import entities
from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import SCENARIOS_DIR, require_folder

Model = TypeVar("Model", bound=BaseModel)

#: The key of `mix` for visits: their events and resulting orders.
VISITS = "visits"
#: Maximum rate, records/s; a higher one is a typing error.
HIGHEST_RATE = 1_000_000
#: Size limit of a scenario file: a few hundred times the largest one.
MAX_BYTES = 1024 * 1024


def check_shares(what: str, shares: Mapping[str, float], known: frozenset[str]) -> None:
    """Raises ValueError unless `shares` are of the `known` and sum to 1."""
    for name, share in shares.items():
        if name not in known:
            raise ValueError(f"{name!r} is not known, use {', '.join(sorted(known))}")
        if not 0 <= share <= 1:
            raise ValueError(f"the share of {name} is {share:g}, give one between 0 and 1")
    total = sum(shares.values())
    if shares and abs(total - 1) > 1e-6:
        raise ValueError(f"the shares of {what} sum to {total:g}, make them sum to 1")


class Strict(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Rate(Strict):
    """Records/s of all entities and producers together: at the quietest and the busiest hour of the curve, or at the
    baseline and the peak of a spike.
    """

    low: float = Field(gt=0, le=HIGHEST_RATE)
    high: float = Field(gt=0, le=HIGHEST_RATE)

    @model_validator(mode="after")
    def _ordered(self) -> Rate:
        if self.low > self.high:
            raise ValueError(f"low ({self.low:g}) must not be above high ({self.high:g})")
        return self


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone, give one like Asia/Seoul") from None
    return zone


#: Name of a time zone that this machine knows.
Zone = Annotated[str, AfterValidator(_known_zone)]


class Curve(Strict):
    """The rate by the local hour. `flat` keeps it at `rate.high`."""

    flat: bool = False
    zone: Zone = "Asia/Seoul"
    weekend_factor: float = Field(default=1.2, gt=0)
    hours: tuple[float, ...] = Field(min_length=24, max_length=24)

    @field_validator("hours")
    @classmethod
    def _weights(cls, hours: tuple[float, ...]) -> tuple[float, ...]:
        for hour, weight in enumerate(hours):
            if not 0 <= weight <= 1:
                raise ValueError(f"the weight of hour {hour} is {weight:g}, give one between 0 and 1")
        return hours


class SpikePhases(Strict):
    """Seconds of each phase: at `rate.low`, straight up, at `rate.high`, straight down, at `rate.low` again."""

    baseline_s: float = Field(ge=0)
    ramp_s: float = Field(ge=0)
    hold_s: float = Field(gt=0)
    decay_s: float = Field(ge=0)
    recovery_s: float = Field(ge=0)


class Population(Strict):
    """Number of products and profiles that are sent before the traffic. `zipf_exponent`: product popularity."""

    products: int = Field(ge=1, le=1_000_000)
    profiles: int = Field(ge=1, le=10_000_000)
    zipf_exponent: float = Field(default=1.0, ge=0, le=5)


class Funnel(Strict):
    """Probabilities of a visit's next step; `ctr` by banner position from 0, before device and channel factors."""

    step_gap_s: float = Field(default=1.0, gt=0, le=3600)
    rounds: float = Field(default=2.5, ge=1, le=100)
    search: float = Field(default=0.35, ge=0, le=1)
    ctr: tuple[float, ...] = Field(default=(0.22, 0.14, 0.09, 0.06, 0.04), min_length=1, max_length=20)
    add_to_cart: float = Field(default=0.4, ge=0, le=1)
    checkout: float = Field(default=0.7, ge=0, le=1)
    purchase: float = Field(default=0.8, ge=0, le=1)
    paid: float = Field(default=0.92, ge=0, le=1)
    cancelled: float = Field(default=0.06, ge=0, le=1)
    refunded: float = Field(default=0.05, ge=0, le=1)

    @field_validator("ctr")
    @classmethod
    def _probabilities(cls, ctr: tuple[float, ...]) -> tuple[float, ...]:
        for position, share in enumerate(ctr):
            if not 0 <= share <= 1:
                raise ValueError(f"position {position} is clicked with probability {share:g}, give one between 0 and 1")
        return ctr


class Injection(Strict):
    """Shares of injected faults among all sends, and the distribution of late and poison over the entities."""

    duplicates: float = Field(default=0, ge=0, le=1)
    late: float = Field(default=0, ge=0, le=1)
    poison: float = Field(default=0, ge=0, le=1)
    by_entity: dict[str, float] = {}

    @model_validator(mode="after")
    def _leaves_room(self) -> Injection:
        total = self.duplicates + self.late + self.poison
        if total > 0.9:
            raise ValueError(f"duplicates + late + poison is {total:g}, leave at least 0.1 for good records")
        if (self.late or self.poison) and not self.by_entity:
            raise ValueError("late or poison is asked for: say by_entity, the share of each entity")
        check_shares("by_entity", self.by_entity, frozenset(entities()))
        return self


class Scenario(Strict):
    """One scenario file, with a `curve` or a `spike`.

    `duration_s` null means until stopped, of a spike: until it is over.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    description: str = ""
    seed: int
    duration_s: float | None = Field(default=None, gt=0)
    rate: Rate
    curve: Curve | None = None
    spike: SpikePhases | None = None
    mix: dict[str, float]
    population: Population
    funnel: Funnel = Funnel()
    # Created lazily: its check reads the contracts, which an import must not do.
    inject: Injection = Field(default_factory=Injection)

    @field_validator("mix")
    @classmethod
    def _sums_to_one(cls, mix: dict[str, float]) -> dict[str, float]:
        check_shares("mix", mix, frozenset({VISITS, *entities()}))
        if not mix:
            raise ValueError(f"empty; say at least {VISITS}: 1.0")
        return mix

    @model_validator(mode="before")
    @classmethod
    def _one_shape(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and bool(raw.get("curve")) == bool(raw.get("spike")):
            both = "both are there" if raw.get("curve") else "there is neither"
            raise ValueError(f"curve (the day, --flat) and spike (its phases) exclude each other, {both}; say one")
        return raw

    def shape(self, start: datetime) -> Shape:
        """The rate over time of a run that starts at `start`, an aware time."""
        if self.spike:
            return Spike(self.rate.low, self.rate.high, **self.spike.model_dump())
        assert self.curve is not None  # _one_shape
        if self.curve.flat:
            return Flat(self.rate.high)
        return DayCurve(
            self.rate.low,
            self.rate.high,
            self.curve.hours,
            self.curve.weekend_factor,
            start,
            ZoneInfo(self.curve.zone),
        )

    @property
    def lasts_s(self) -> float | None:
        """Seconds from the first due record to the end, from any source; None: until stopped."""
        whole = sum(self.spike.model_dump().values()) if self.spike else None
        return min((seconds for seconds in (self.duration_s, whole) if seconds is not None), default=None)

    def among(self, processes: int) -> Scenario:
        """The scenario of one of `processes` that share its rate."""
        rate = Rate(low=self.rate.low / processes, high=self.rate.high / processes)
        return self.model_copy(update={"rate": rate})


def scenario_path(name: str) -> Path:
    """The path of a built-in scenario."""
    return SCENARIOS_DIR / f"{name}.yaml"


def load_scenario(path: Path, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario; `overrides` (dotted keys, from the command line) win over the file.

    Raises ConfigurationError naming the file, the key and its value.
    """
    return load_model(Scenario, path, overrides)


def load_model(kind: type[Model], path: Path, overrides: Mapping[str, Any] | None = None) -> Model:
    """`load_scenario` for a file of another kind."""
    try:
        raw = yaml.safe_load(_text(path))
    except FileNotFoundError:
        if path.parent == SCENARIOS_DIR:
            require_folder(SCENARIOS_DIR, "scenarios")
        known = ", ".join(sorted(p.name for p in SCENARIOS_DIR.glob("*.yaml"))) or "none"
        raise ConfigurationError(f"scenario {path} does not exist; {SCENARIOS_DIR.name}/ holds: {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"scenario {path} can't be read: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"scenario {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ConfigurationError(f"scenario {path} must be a mapping of keys, found {type(raw).__name__}")
    for key, value in (overrides or {}).items():
        _set(raw, key.split("."), value)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise ConfigurationError(f"scenario {path}: {_explain(error)}") from None


def _text(path: Path) -> str:
    """The file's text. Raises ConfigurationError if it is too large or not a regular file (a device never ends)."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ConfigurationError(f"scenario {path} is not a regular file; give a YAML file")
    if found.st_size > MAX_BYTES:
        raise ConfigurationError(f"scenario {path} has {found.st_size:,} bytes, a scenario has at most {MAX_BYTES:,}")
    return path.read_text(encoding="utf-8")


def _set(raw: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = raw.get(key)
        if not isinstance(inner, dict):
            inner = raw[key] = {}
        raw = inner
    raw[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key} (value {first['input']!r}); remove it or correct its name"
    if first["type"] == "missing":
        return f"key {key} is missing; add it (scenarios/normal.yaml has every key)"
    message = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(first["input"], dict | list | tuple) else f" is {first['input']!r}"
    return f"{key}{value}: {message[0].lower()}{message[1:]}"
