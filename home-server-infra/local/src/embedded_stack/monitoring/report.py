"""Report for people: firing alerts and received messages."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from data_platform_core.topology import Topology
from embedded_stack.layout import Layout
from embedded_stack.monitoring.alerts import firing_or_pending
from embedded_stack.monitoring.sink import read_messages

MESSAGES_SHOWN = 20


def show(topology: Topology, console: Console) -> None:
    """Pending and firing alerts, and the sink's last messages. Raises ServiceError when Prometheus is down."""
    table = Table(title=f"alerts of {topology.environment}: http://{topology.monitoring.prometheus.address}/alerts")
    for column in ("state", "severity", "alert", "what"):
        table.add_column(column)
    for alert in firing_or_pending(topology):
        labels, annotations = alert["labels"], alert["annotations"]
        what = f"{annotations['summary']}: {annotations['description']}"
        table.add_row(alert["state"], labels["severity"], labels["alertname"], what)
    console.print(table)
    path = Layout(topology).alerts
    for message in read_messages(path)[-MESSAGES_SHOWN:]:
        at = datetime.fromtimestamp(message.at, UTC)
        console.print(f"{at:%Y-%m-%d %H:%M:%S}Z  {message.via:<8} {message.text}", highlight=False, markup=False)
    console.print(f"messages without a real receiver are in {path}", highlight=False, soft_wrap=True)
