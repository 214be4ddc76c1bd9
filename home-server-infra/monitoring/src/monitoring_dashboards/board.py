"""Common parts of every dashboard: uid, variables, annotations, links, rows; and the conversion to JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# The SDK prefers dashboard schema v2, which Grafana 12 reads from files only behind a feature toggle.
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from monitoring_dashboards.panels import AnyPanel, panel_id
from monitoring_dashboards.queries import (
    POSTGRES_TYPE,
    POSTGRES_VARIABLE,
    PROMETHEUS,
    PROMETHEUS_TYPE,
    PROMETHEUS_VARIABLE,
)

#: Tag of every dashboard; the links between them use it.
TAG: Final = "crm"
RUNBOOKS: Final = "runbooks"

#: Phases of the generator without steady load, and their colour.
PHASE_COLOURS: Final = {"ramp": "light-orange", "hold": "light-red", "decay": "light-blue"}


@dataclass(frozen=True)
class Section:
    """A row with a heading."""

    title: str
    panels: Sequence[AnyPanel]


@dataclass(frozen=True)
class Board:
    """A dashboard. `name` is its file and, with the tag before it, its uid: both stay once published."""

    name: str
    title: str
    about: str
    sections: Sequence[Section]
    labels: tuple[tuple[str, str], ...] = ()
    """Variables to choose by: (label, metric that has it), each the label's name."""
    phases: bool = False
    """Shade the phases of the generator's scenario."""
    metrics: bool = True
    warehouse: bool = False
    """Which data sources it reads."""
    runbook: str = ""
    """Title of the runbook that goes with it."""
    since: str = "now-30m"
    refresh: str = "10s"

    @property
    def uid(self) -> str:
        return f"{TAG}-{self.name}"


def to_json(board: Board) -> str:
    """The dashboard as Grafana provisions it, the same text for the same code."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .time(board.since, "now")
        .refresh(board.refresh)
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()  # changes belong in the code
    )
    for link in _links(board):
        built.link(link)
    for variable in _variables(board):
        built.with_variable(variable)
    if board.phases:
        for phase, colour in PHASE_COLOURS.items():
            built.annotation(_shade(phase, colour))
    for section in board.sections:
        built.with_row(dashboard.Row(section.title).id(panel_id(f"row {section.title}")))
        for panel in section.panels:
            built.with_panel(panel)
    finished = built.build()
    for line in (*(finished.links or ()), *(finished.annotations.list_val or () if finished.annotations else ())):
        line.placement = None  # the SDK's only choice hides them in a menu
    return json.dumps(finished, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _links(board: Board) -> list[dashboard.DashboardLink]:
    others = dashboard.DashboardLink("Dashboards").type(model.DashboardLinkType.DASHBOARDS).tags([TAG])
    links = [others.as_dropdown(True).keep_time(True).include_vars(True)]
    if board.runbook:
        # A path within Grafana: the runbooks are a dashboard too, so no address is needed.
        where = f"/d/{TAG}-{RUNBOOKS}?viewPanel=panel-{panel_id(board.runbook)}"
        runbook = dashboard.DashboardLink(f"Runbook: {board.runbook}").type(model.DashboardLinkType.LINK).icon("doc")
        links.append(runbook.url(where).tooltip("What to do when something here is red"))
    return links


def _variables(board: Board) -> list[dashboard.DatasourceVariable | dashboard.QueryVariable]:
    """Data sources choose the environment: each environment has a Prometheus and a warehouse of its own."""
    sources = [
        (board.metrics, PROMETHEUS_VARIABLE, PROMETHEUS_TYPE, "Environment (metrics)"),
        (board.warehouse, POSTGRES_VARIABLE, POSTGRES_TYPE, "Environment (warehouse)"),
    ]
    chosen: list[dashboard.DatasourceVariable | dashboard.QueryVariable] = [
        dashboard.DatasourceVariable(name).type(kind).label(label) for wanted, name, kind, label in sources if wanted
    ]
    return chosen + [_label_variable(label, metric) for label, metric in board.labels]


def _label_variable(label: str, metric: str) -> dashboard.QueryVariable:
    query = f"label_values({metric}, {label})"
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(label)
        .label(label.capitalize())
        .datasource(PROMETHEUS)
        .query({"query": query, "refId": f"Variable-{label}"})
        .definition(query)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _shade(phase: str, colour: str) -> dashboard.AnnotationQuery:
    """Grafana joins neighbouring samples to one region: the phase's whole time is shaded."""
    return (
        dashboard.AnnotationQuery()
        .name(f"Phase: {phase}")
        .datasource(PROMETHEUS)
        .enable(True)
        .icon_color(colour)
        .expr(f'crm_generator_phase{{phase="{phase}"}} == 1')
        .title_format("{{scenario}}")
        .text_format("{{phase}}")
        .step("1s")
    )
