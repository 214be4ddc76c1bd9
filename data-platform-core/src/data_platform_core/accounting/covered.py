"""Which marts A5 sums, and how: the key `accounting` in the meta of each model of `dbt/models/marts/`.

A mart without it is refused, so a new mart is accounted for or says why not: `accounting: {none: <reason>}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import DBT_DIR, require_folder

MARTS_DIR: Final = DBT_DIR / "models" / "marts"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CountColumns(_Frozen):
    """Columns of a daily mart with the number of a kind's rows, and their amount in whole KRW."""

    count: str
    amount: str | None = None


class _OfEntity(_Frozen):
    name: str
    entity: str


class EachMart(_OfEntity):
    """A row per row of silver: it can be compared for one run."""

    rows: Literal["each"]


class NewestMart(_OfEntity):
    """A row per key: its newest version. `only`: of silver's rows with these values; `kind`: summed by this column.

    `key` and `kind` are the contract's where they are not given.
    """

    rows: Literal["newest"]
    key: tuple[str, ...] = ()
    only: dict[str, str] = {}
    kind: str | None = None


class DailyMart(_OfEntity):
    """Rows per business day. `kinds`: a kind of silver, or `all`, to the columns that count it.

    `replaced`: a state that was sent again counts once a day, as it was produced last (ADR 0009).
    """

    rows: Literal["daily"]
    kinds: dict[str, CountColumns] = Field(min_length=1)
    replaced: bool = False

    @property
    def has_amounts(self) -> bool:
        return any(columns.amount for columns in self.kinds.values())


class UncoveredMart(_Frozen):
    """A mart that A5 leaves out, and why."""

    name: str
    none: str = Field(min_length=1)


CoveredMart = EachMart | NewestMart | DailyMart
_COVERED: Final[TypeAdapter[CoveredMart]] = TypeAdapter(Annotated[CoveredMart, Field(discriminator="rows")])


@lru_cache(maxsize=1)
def covered_marts() -> tuple[CoveredMart, ...]:
    """The project's marts that A5 sums, by name. Raises ConfigurationError naming the mart and the key."""
    return read_marts(MARTS_DIR)


def read_marts(folder: Path) -> tuple[CoveredMart, ...]:
    """`covered_marts` of a folder of models. A folder without models is refused."""
    names = sorted(path.stem for path in require_folder(folder, "dbt's marts").glob("*.sql"))
    if not names:
        raise ConfigurationError(f"dbt folder {folder} holds no model; restore it from the repository")
    described = dict(_described(folder))
    read = [_read(name, described.get(name), folder) for name in names]
    return tuple(mart for mart in read if not isinstance(mart, UncoveredMart))


def _described(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.glob("*.yml")):
        for model in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("models") or []:
            yield model["name"], ((model.get("config") or {}).get("meta") or {}).get("accounting")


def _read(name: str, raw: Any, folder: Path) -> CoveredMart | UncoveredMart:
    where = f"mart {name}: config.meta.accounting in {folder}"
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{where} is missing; say how A5 sums the mart, or `none: <reason>`")
    try:
        return UncoveredMart(name=name, **raw) if "none" in raw else _COVERED.validate_python({"name": name, **raw})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{where}: {key}: {first['msg']}") from None
