"""Display of a run: a live line on a terminal, log lines elsewhere, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType

import structlog
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from data_generator.status import Counts, Status

#: Between log lines, seconds.
LOG_EVERY_S = 10.0


def configure_log() -> None:
    """Log lines as JSON on stderr, for people on a terminal."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer() if not sys.stderr.isatty() else structlog.dev.ConsoleRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class Progress:
    """Shows each report of a run, on stderr. Use as a context; `quiet` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        configure_log()
        self._quiet = quiet
        self._log = structlog.get_logger()
        self._next_log = 0.0
        self._phase = ""
        console = Console(stderr=True)
        self._live = (
            Live(console=console, auto_refresh=False, transient=True) if console.is_terminal and not quiet else None
        )

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, status: Status) -> None:
        """One report."""
        if self._quiet:
            return
        if self._live:
            self._live.update(_line(status), refresh=True)
            return
        now = time.monotonic()
        phase = _phase(status)
        if phase == self._phase and now < self._next_log:
            return
        self._phase, self._next_log = phase, now + LOG_EVERY_S
        self._log.info(
            phase,
            run_id=status.run_id,
            elapsed_s=round(status.elapsed_s, 1),
            target_rate=round(status.target_rate, 1) if status.target_rate else None,
            achieved_rate=round(status.achieved_rate, 1),
            sent=status.sent,
            acked=status.acked,
            failed=status.failed,
            buffered=status.buffered,
            behind_s=round(status.behind_s, 3),
        )


def _phase(status: Status) -> str:
    return f"{status.phase}: {status.stage}" if status.stage and len(status.stages) > 1 else status.phase


def _line(status: Status) -> Text:
    if status.planned:
        done = f"{status.acked / status.planned:4.0%}"
    elif status.duration_s:
        done = f"{status.elapsed_s:.0f}/{status.duration_s:.0f} s"
    else:
        done = f"{status.elapsed_s:.0f} s"
    target = f" of {status.target_rate:,.0f}" if status.target_rate else ""
    parts = [
        _phase(status),
        done,
        f"{status.achieved_rate:,.0f}{target} records/s",
        f"{status.acked:,} acknowledged",
        f"{status.buffered:,} waiting",
    ]
    if status.behind_s > 0.1:
        parts.append(f"{status.behind_s:.1f} s behind schedule")
    if status.failed or status.unknown:
        parts.append(f"{status.failed:,} failed, {status.unknown:,} unknown")
    return Text("  ".join(parts), style="red" if status.failed or status.unknown else "")


def summary_table(counts: Sequence[Counts], status: Status) -> Table:
    """The ledger's counts by entity."""
    table = Table(title=f"run {status.run_id}: {status.achieved_rate:,.1f} records/s over {status.elapsed_s:,.1f} s")
    table.add_column("entity")
    for column in ("sent", "acknowledged", "failed", "unknown"):
        table.add_column(column, justify="right")
    for entity, *numbers in counts:
        table.add_row(entity, *(f"{number:,}" for number in numbers))
    return table
