"""The project's runbooks as a dashboard, so that a link to one needs no address."""

from __future__ import annotations

from grafana_foundation_sdk.builders import text
from grafana_foundation_sdk.models.text import TextMode

from data_platform_core.paths import REPOSITORY_ROOT
from monitoring_dashboards.board import RUNBOOKS, Board, Section
from monitoring_dashboards.panels import panel_id

_FOLDER = REPOSITORY_ROOT / "docs" / "ai-context" / "runbooks"


def _panel(name: str, markdown: str) -> text.Panel:
    panel = text.Panel().id(panel_id(name)).title(name).description(f"docs/ai-context/runbooks/{name}.md")
    return panel.mode(TextMode.MARKDOWN).content(markdown).height(16).span(24)


def board() -> Board:
    """One panel per runbook, titled by its file's name."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.md"))}
    return Board(
        name=RUNBOOKS,
        title="Runbooks",
        about="What to do when something is red, from the project's docs/ai-context/runbooks.",
        sections=[Section("Runbooks", [_panel(name, markdown) for name, markdown in pages.items()])],
        metrics=False,
        refresh="",
    )
