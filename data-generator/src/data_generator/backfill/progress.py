"""A bar with day, rate and time left on a terminal; elsewhere log lines with the same content."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from data_generator.progress import LOG_EVERY_S, configure_log
from data_generator.status import Status

if TYPE_CHECKING:
    from data_generator.backfill.run import BackfillRun


class BackfillProgress:
    """Shows each report of a backfill, on stderr. Use as a context; `quiet` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        configure_log()
        self._quiet, self._log = quiet, structlog.get_logger()
        self._next_log, self._phase = 0.0, ""
        self.run: BackfillRun | None = None
        console = Console(stderr=True)
        self._bar = (
            Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:,.0f} records/s"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal and not quiet
            else None
        )
        self._task = self._bar.add_task("starting", rate=0.0) if self._bar else None

    def __enter__(self) -> BackfillProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, status: Status) -> None:
        """One report."""
        day = self.run.day if self.run else ""
        if self._bar and self._task is not None:
            self._bar.update(
                self._task,
                description=f"{status.phase} {day}",
                total=status.planned,
                completed=status.acked,
                rate=status.achieved_rate,
            )
            return
        now = time.monotonic()
        if self._quiet or (status.phase == self._phase and now < self._next_log):
            return
        self._phase, self._next_log = status.phase, now + LOG_EVERY_S
        left = (status.planned or 0) - status.acked
        self._log.info(
            status.phase,
            run_id=status.run_id,
            day=day,
            acked=status.acked,
            planned=status.planned,
            achieved_rate=round(status.achieved_rate),
            eta_s=round(left / status.achieved_rate) if status.achieved_rate else None,
        )
