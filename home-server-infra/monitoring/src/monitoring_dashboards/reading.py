"""The queries in the dashboards' JSON, with Grafana's variables and macros replaced as in Grafana.

It reads the files, not the code that wrote them, so that a test runs the queries that Grafana will send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from monitoring_dashboards.queries import POSTGRES_TYPE, PROMETHEUS_TYPE

Language = Literal["promql", "labels", "sql"]

_LEFT_OVER = re.compile(r"\$\{?_*[A-Za-z]\w*")
_LABEL_VALUES = re.compile(r"label_values\((?P<metric>\w+), (?P<label>\w+)\)")
_LANGUAGES: dict[str, Language] = {PROMETHEUS_TYPE: "promql", POSTGRES_TYPE: "sql"}


@dataclass(frozen=True)
class Asked:
    """One query. `where`: panel, variable or annotation; `instant`: at the end of the range only."""

    dashboard: str
    where: str
    language: Language
    text: str
    instant: bool = False

    @property
    def name(self) -> str:
        return f"{self.dashboard}: {self.where}"


@dataclass(frozen=True)
class Range:
    """A dashboard's time range. `step_s` is the distance of two points, `scrape_s` of two scrapes."""

    start: datetime
    end: datetime
    step_s: int
    scrape_s: float

    @property
    def rate_interval_s(self) -> int:
        """Grafana's `$__rate_interval`: it always holds enough samples for a rate."""
        return int(max(self.step_s + self.scrape_s, 4 * self.scrape_s))


def asked(path: Path) -> Iterator[Asked]:
    """Every query of a dashboard's file: panels' targets, variables and annotations."""
    board = json.loads(path.read_text(encoding="utf-8"))
    for panel in _panels(board):
        for target in panel.get("targets", []):
            language = _LANGUAGES[target["datasource"]["type"]]
            where = f"{panel['title']} ({target['refId']})"
            text = target["expr"] if language == "promql" else target["rawSql"]
            yield Asked(path.stem, where, language, text, bool(target.get("instant")))
    for note in board["annotations"].get("list", []):
        yield Asked(path.stem, note["name"], _LANGUAGES[note["datasource"]["type"]], note["expr"])
    for variable in board["templating"].get("list", []):
        if variable["type"] == "query":
            yield Asked(path.stem, f"variable {variable['name']}", "labels", variable["query"]["query"])


def _panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board.get("panels", []):
        yield panel
        yield from _panels(panel)


def label_values(text: str) -> tuple[str, str]:
    """Metric and label of a variable's `label_values(metric, label)`. Raises ValueError when it is none."""
    found = _LABEL_VALUES.fullmatch(text)
    if found is None:
        raise ValueError(f"not a label_values(metric, label): {text}")
    return found["metric"], found["label"]


def filled(text: str, over: Range, variables: Mapping[str, str]) -> str:
    """`text` with Grafana's macros and the dashboard's variables replaced.

    Raises ValueError when a `$name` is left without a value.
    """
    start, end = (moment.astimezone(UTC).isoformat(timespec="milliseconds") for moment in (over.start, over.end))
    text = re.sub(r"\$__timeFilter\(([^)]+)\)", rf"\1 BETWEEN '{start}' AND '{end}'", text)
    text = text.replace("$__timeFrom()", f"'{start}'").replace("$__timeTo()", f"'{end}'")
    given = {
        "__rate_interval": f"{over.rate_interval_s}s",
        "__interval": f"{over.step_s}s",
        "__range": f"{int((over.end - over.start).total_seconds())}s",
        **variables,
    }
    for name, value in given.items():
        text = re.sub(rf"\$(?:{name}\b|\{{{name}(?::\w+)?\}})", value.replace("\\", r"\\"), text)
    if left := _LEFT_OVER.search(text):
        raise ValueError(f"variable {left.group()} has no value in: {text}")
    return text
