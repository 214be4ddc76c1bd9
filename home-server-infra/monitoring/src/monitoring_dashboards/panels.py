"""The dashboards' kinds of panel. Each needs a title, a description of what to conclude from it, and a unit."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import common, heatmap, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)

from monitoring_dashboards.queries import Query

RECORDS_PER_SECOND = "suffix: records/s"
RECORDS = units.Short
SECONDS = units.Seconds
MILLISECONDS = units.Milliseconds
SHARE = units.PercentUnit
COUNT = units.Short
BYTES = units.BytesIEC
BYTES_PER_SECOND = units.BytesPerSecondIEC
WON = units.SouthKoreanWon
TEXT = units.String
CORES = "suffix: cores"

AnyPanel = Builder[model.Panel]
Style = Literal["line", "stacked", "bars"]

_GOOD, _WARNING, _CRITICAL = "green", "orange", "red"
#: Height of a graph and of a number, in Grafana's grid rows.
_TALL, _LOW = 8, 4


@dataclass(frozen=True)
class Levels:
    """Thresholds of a value; `below`: small values are bad."""

    warning: float | None = None
    critical: float | None = None
    below: bool = False

    def build(self) -> ThresholdsConfig:
        marks = [(self.warning, _WARNING), (self.critical, _CRITICAL)]
        known = sorted((level, colour) for level, colour in marks if level is not None)
        if not self.below:
            steps = [(None, _GOOD), *known]
        else:  # a step holds from its value upwards: the worst colour comes first
            colours = [colour for _level, colour in known] + [_GOOD]
            steps = list(zip([None, *(level for level, _colour in known)], colours, strict=True))
        return ThresholdsConfig().steps([model.Threshold(value=value, color=colour) for value, colour in steps])


NO_LEVELS = Levels()
#: Thresholds of a count that should be 0.
ANY_IS_BAD = Levels(critical=1)


def panel_id(title: str) -> int:
    """A number derived from the title, so that links to a panel survive new panels before it."""
    return zlib.crc32(title.encode()) & 0x7FFFFFFF or 1


def _dress(panel: Any, title: str, about: str, unit: str, queries: Sequence[Query]) -> Any:
    """Common parts of every panel. Queries are lettered in order."""
    built = []
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        query.build().ref_id = letter  # type: ignore[attr-defined]
        built.append(query)
    datasource = built[0].build().to_json()["datasource"]  # type: ignore[attr-defined]
    return panel.id(panel_id(title)).title(title).description(about).unit(unit).targets(built).datasource(datasource)


def graph(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    levels: Levels = NO_LEVELS,
    width: int = 12,
    style: Style = "line",
    signed: bool = False,
) -> timeseries.Panel:
    """Values over time, from 0 upwards unless `signed`, with last and maximum in the legend."""
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
    panel: timeseries.Panel = _dress(timeseries.Panel(), title, about, unit, queries)
    panel.height(_TALL).span(width).legend(legend).tooltip(tooltip)
    if not signed:
        panel.min(0)
    panel.line_width(1).fill_opacity(8 if style == "line" else 60).show_points(VisibilityMode.AUTO).span_nulls(False)
    if style == "bars":
        panel.draw_style(GraphDrawStyle.BARS)
    if style == "stacked":
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if levels != NO_LEVELS:
        dashed = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel.thresholds(levels.build()).thresholds_style(dashed)
    return panel


def number(
    title: str,
    about: str,
    unit: str,
    query: Query,
    *,
    levels: Levels = NO_LEVELS,
    width: int = 4,
    none: str = "",
) -> stat.Panel:
    """The last value, large; of TEXT the series' name instead; `none` is shown when there is no series."""
    panel: stat.Panel = _dress(stat.Panel(), title, about, unit, [query])
    panel.height(_LOW).span(width).thresholds(levels.build()).graph_mode(BigValueGraphMode.NONE)
    panel.color_mode(BigValueColorMode.VALUE if levels != NO_LEVELS else BigValueColorMode.NONE)
    panel.text_mode(BigValueTextMode.NAME if unit == TEXT else BigValueTextMode.AUTO)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel.no_value(none) if none else panel


def up_or_down(title: str, about: str, query: Query, *, width: int = 12) -> statetimeline.Panel:
    """A bar per series, green while it is 1 and red while it is 0."""
    words = model.ValueMap(
        options={
            "0": model.ValueMappingResult(text="down", color=_CRITICAL, index=0),
            "1": model.ValueMappingResult(text="up", color=_GOOD, index=1),
        }
    )
    panel: statetimeline.Panel = _dress(statetimeline.Panel(), title, about, COUNT, [query])
    panel.height(_TALL).span(width).mappings([words]).thresholds(Levels(critical=1, below=True).build())
    return panel.show_value(VisibilityMode.NEVER).row_height(0.8)


def listing(title: str, about: str, *queries: Query, width: int = 12, unit: str = COUNT, none: str = "") -> table.Panel:
    """A table; `none` is shown when it has no rows."""
    panel: table.Panel = _dress(table.Panel(), title, about, unit, queries)
    panel.height(_TALL).span(width)
    return panel.no_value(none) if none else panel


def spread(title: str, about: str, unit: str, query: Query, *, width: int = 12) -> heatmap.Panel:
    """A histogram over time: darker cells have more observations."""
    panel: heatmap.Panel = _dress(heatmap.Panel(), title, about, unit, [query])
    panel.height(_TALL).span(width).calculate(False)
    panel.rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
    return panel.y_axis(heatmap.YAxisConfig().unit(unit)).show_legend()


def without(panel: table.Panel, *columns: str) -> table.Panel:
    """Hide columns of a table."""
    left_out: dict[str, object] = {"excludeByName": dict.fromkeys(columns, True)}
    return panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=left_out))


def in_column(panel: table.Panel, column: str, unit: str) -> table.Panel:
    """Give one column of a table its own unit."""
    return panel.override_by_name(column, [model.DynamicConfigValue(id_val="unit", value=unit)])
