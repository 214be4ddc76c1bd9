"""`crm-experiment bench --only settings`: the same load under one setting after the other, as a Markdown table.

Each arm has a driver of its own, warmed; the topics keep what the arms before have sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from data_platform_core.errors import ConfigurationError
from data_platform_core.lake.session import CHECKPOINT_FILES, CODE_CACHE, LOCAL_CHECKPOINT_FILES, session_conf
from data_platform_core.naming import names
from data_platform_core.settings import load_settings
from platform_experiments.bench.measuring import ENTITY, ENVIRONMENT, Bench, Measured, Used
from platform_experiments.bench.subject import Started, Subject, compare
from platform_experiments.runtime import Part

_JAVA = "spark.driver.extraJavaOptions"


@dataclass(frozen=True)
class _Driver:
    """The streaming driver that runs now (`Subject`)."""

    bench: Bench

    @property
    def folder(self) -> str:
        return names(ENTITY).silver

    def use(self) -> Callable[[], Used]:
        return self.bench.driver_use()

    def drain(self) -> float:
        return self.bench.drain()

    def paused(self) -> AbstractContextManager[None]:
        return self.bench.runtime.paused(Part.DRIVER)


def streaming(changes: Mapping[str, str]) -> Started:
    """The platform's stream under changed settings, as variables of its environment."""

    @contextmanager
    def started(bench: Bench) -> Iterator[Subject]:
        with bench.driver(changes):
            yield _Driver(bench)

    return started


def measure(bench: Bench) -> Sequence[Measured]:
    """Print the table; every arm is printed as it ends, so that an aborted bench has shown what it found."""
    arms = _chosen(bench.load.settings)
    compare(bench, "setting", {arm: streaming(changes) for arm, changes in arms.items()})
    return ()


def _chosen(beginnings: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """The arms whose names begin so, and the first, which the others are compared with."""
    every = _arms()
    for beginning in beginnings:
        if not any(arm.startswith(beginning) for arm in every):
            raise ConfigurationError(f"no setting begins with {beginning!r}; one of: {', '.join(every)}")
    first = next(iter(every))
    wanted = (*beginnings, first) if beginnings else ("",)
    return {arm: changes for arm, changes in every.items() if arm.startswith(wanted)}


def _arms() -> dict[str, Mapping[str, str]]:
    """Changes by arm, as variables of the streaming service; the first is what the platform does."""
    java = session_conf(load_settings("streaming", ENVIRONMENT))[_JAVA]

    def spark(**conf: str) -> dict[str, str]:
        return {"CRM_SPARK__CONF": json.dumps(conf)}

    # Spark's own values of what `session.py` sets against the fixed price of a batch.
    classes = {"spark.sql.codegen.cache.maxEntries": "100"}
    plans = {"spark.sql.ui.explainMode": "formatted", "spark.sql.maxPlanStringLength": "2147483632"}
    written = {"spark.databricks.delta.history.metricsEnabled": "true"}
    polling = {"spark.sql.streaming.pollingDelay": "10ms"}
    return {
        "as it is": {},
        "Spark's own: all of the next four": spark(**classes, **plans, **written, **polling),
        "the JVM's own code cache": spark(**{_JAVA: java.replace(f" {CODE_CACHE}", "")}),
        "100 compiled classes": spark(**classes),
        "whole plans as text": spark(**plans),
        "metrics of each write": spark(**written),
        "no checksum files": spark(**{"spark.databricks.delta.writeChecksumFile.enabled": "false"}),
        "polling each 10 ms": spark(**polling),
        "economy": {"CRM_INGEST__PACE": "economy"},
        "back to back": {"CRM_INGEST__TRIGGER_MS": "0"},
        "trigger 500 ms": {"CRM_INGEST__TRIGGER_MS": "500"},
        "trigger 2 s": {"CRM_INGEST__TRIGGER_MS": "2000"},
        "maxOffsetsPerTrigger 25,000": {"CRM_INGEST__MAX_OFFSETS_PER_TRIGGER": "25000"},
        "maxOffsetsPerTrigger 250,000": {"CRM_INGEST__MAX_OFFSETS_PER_TRIGGER": "250000"},
        "shuffle partitions 1": {"CRM_SPARK__SHUFFLE_PARTITIONS": "1"},
        "checkpoint files renamed": spark(**{CHECKPOINT_FILES: LOCAL_CHECKPOINT_FILES}),
        "compaction off": {"CRM_INGEST__COMPACT_EVERY_S": "0"},
        "compaction eager": {"CRM_INGEST__COMPACT_EVERY_S": "5", "CRM_INGEST__COMPACT_MIN_FILES": "10"},
        "small pages": spark(**{_JAVA: java.replace(" -XX:+UseTransparentHugePages", "")}),
        "G1 collector": spark(**{_JAVA: java.replace("UseParallelGC", "UseG1GC")}),
        "serial collector": spark(**{_JAVA: java.replace("UseParallelGC", "UseSerialGC")}),
        "first compiler only": spark(**{_JAVA: f"{java} -XX:TieredStopAtLevel=1"}),
        "local[4]": {"CRM_SPARK__MASTER": "local[4]"},
        "no generated code": spark(**{"spark.sql.codegen.wholeStage": "false"}),
    }
