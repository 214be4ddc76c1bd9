"""The pipelines that a service level can be about, and how each is measured. Pure.

Their names are those of the platform: a job of the catalogue, a landing table (`raw_crm.orders`), a streaming query
(`ingest_orders`). What else has recorded a run, such as a DAG, is known by that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from data_platform_core.jobs import Job
from data_platform_core.naming import EntityNames


class Measure(Enum):
    """Recorded runs; the newest load of a landing table; the lag of a streaming query."""

    COMPLETIONS = auto()
    LOADS = auto()
    LAG = auto()


@dataclass(frozen=True)
class Pipeline:
    """`entity`: of a landing table or query. `catches_up`: a later interval's run completes earlier ones too."""

    name: str
    measure: Measure
    entity: str = ""
    catches_up: bool = False


def known_pipelines(
    jobs: Iterable[Job], entities: Iterable[EntityNames], recorded: Iterable[str] = ()
) -> dict[str, Pipeline]:
    """Every pipeline by name; `recorded` are those that the log of completions names."""
    found = {name: Pipeline(name, Measure.COMPLETIONS) for name in recorded}
    for job in jobs:
        found[job.name] = Pipeline(job.name, Measure.COMPLETIONS, catches_up=job.catches_up)
    for names in entities:
        found[names.landing_table] = Pipeline(names.landing_table, Measure.LOADS, names.entity)
        found[names.query] = Pipeline(names.query, Measure.LAG, names.entity)
    return found
