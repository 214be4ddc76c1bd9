"""Several producer processes that share a run: started together, shown as one, ended together.

Each process is a `Run` with its own producer number, ledger and Kafka client. It sends every N-th record of the
schedule, so that together they send exactly one producer's schedule. A pipe per process transports its status up and
`stop` down. A producer whose pipe closes (the parent has died) stops too. Only the parent handles signals: those that a
terminal sends to the whole group must not count twice.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

from data_generator.ledger_store import LedgerStore
from data_generator.load.shapes import Share
from data_generator.run import Report, Run
from data_generator.scenario import Scenario
from data_generator.status import Counts, Status, added, together
from data_platform_core.errors import ConfigurationError, ServiceError, UserError
from data_platform_core.settings import Settings, load_settings
from data_platform_core.wire.ledger import check_run_id

#: Upper limit: more processes would only compete for the cores.
MOST_PROCESSES = 64
#: From the last producer's `ready` to the first due record, seconds: time for the message to arrive.
HEAD_START_S = 0.3
#: Poll interval of the processes, seconds, when none sends a message.
LOOK_S = 0.5
_READY, _REPORT, _DONE, _ERROR, _GO, _STOP = "ready", "report", "done", "error", "go", "stop"


@dataclass(frozen=True)
class Job:
    """Parameters of a producer process. `work` is a method of Run, optionally with bound arguments."""

    work: Callable[[Run], Status]
    scenario: Scenario
    run_id: str
    env: str | None
    share: Share


class _Producer:
    """The parent's side of one process."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = job.share.number
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_produce, args=(theirs, job), name=f"producer-{self.number}", daemon=True)
        self.status = Status(job.run_id, job.scenario.name)
        self.counts: Sequence[Counts] = ()
        self.ready = self.settled = False
        self.error: UserError | None = None
        self.process.start()
        theirs.close()

    def send(self, word: str, value: Any = None) -> None:
        with suppress(OSError):  # it has ended: `receive` determines how
            self.pipe.send((word, value))

    def receive(self) -> None:
        """Process its messages; detect when it ended without one."""
        try:
            while not self.settled and self.pipe.poll():
                self._take(*self.pipe.recv())
        except (EOFError, OSError):
            self.process.join(5)
            self.settled = True
            self.error = ServiceError(
                f"producer {self.number} (pid {self.process.pid}) {_ending(self.process.exitcode)} before it was done; "
                f"its ledger says what is certain, the others were ended cleanly"
            )

    def _take(self, word: str, value: Any) -> None:
        if word == _READY:
            self.ready = True
        elif word == _ERROR:
            kind, text = value
            self.error, self.settled = kind(f"producer {self.number}: {text}"), True
        else:
            self.status, self.counts = value
            self.settled = word == _DONE


class Producers:
    """`processes` producers of one run. `status` and `counts` cover all of them."""

    def __init__(
        self,
        settings: Settings,
        scenario: Scenario,
        run_id: str,
        processes: int,
        env: str | None,
        report: Report = lambda status: None,
    ) -> None:
        if not 1 <= processes <= MOST_PROCESSES:
            raise ConfigurationError(f"--processes is {processes}, give 1 to {MOST_PROCESSES}")
        self._settings, self._scenario, self._env = settings, scenario, env
        self._run_id, self._number, self._report = check_run_id(run_id), processes, report
        self._producers: list[_Producer] = []
        self._stopping = self._stop_sent = False
        self.status = Status(run_id, scenario.name)
        self.counts: Sequence[Counts] = ()

    def stop(self) -> None:
        """Stop all of them cleanly. May be called from a signal handler."""
        self._stopping = True

    def kill(self) -> None:
        """Kill all of them."""
        for producer in self._producers:
            producer.process.kill()

    def work(self, work: Callable[[Run], Status]) -> Status:
        """Start the producers and wait for all. Raises the most severe of their errors, a UserError, at the end."""
        for number in range(self._number):
            # All numbers are checked before the first is claimed: a refused run leaves nothing behind.
            LedgerStore(self._settings.object_store, self._run_id, number).claim()
        try:
            for number in range(self._number):
                share = Share(number, self._number)
                self._producers.append(_Producer(Job(work, self._scenario, self._run_id, self._env, share)))
            begun = False
            while not all(producer.settled for producer in self._producers):
                self._listen()
                if not begun and not self._stopping and all(producer.ready for producer in self._producers):
                    begun = True
                    self._tell_all(_GO, datetime.now(UTC) + timedelta(seconds=HEAD_START_S))
            self._gather()
        finally:
            self.kill()
        errors = [producer.error for producer in self._producers if producer.error]
        if errors:
            raise max(errors, key=lambda error: error.exit_code)
        return self.status

    def _listen(self) -> None:
        open_pipes = [producer.pipe for producer in self._producers if not producer.settled]
        wait(open_pipes, LOOK_S)
        for producer in self._producers:
            if not producer.settled:
                producer.receive()
        if any(producer.error for producer in self._producers):
            self.stop()
        if self._stopping and not self._stop_sent:
            self._stop_sent = True
            self._tell_all(_STOP)
        self._gather()

    def _tell_all(self, word: str, value: Any = None) -> None:
        for producer in self._producers:
            if not producer.settled:
                producer.send(word, value)

    def _gather(self) -> None:
        started = self.status.started
        self.status = replace(together(self._run_id, [p.status for p in self._producers]), started=started)
        self.counts = added(producer.counts for producer in self._producers)
        self._report(self.status)


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


class _Child:
    """The producer's side of its pipe."""

    def __init__(self, pipe: Connection, job: Job) -> None:
        self._pipe = pipe
        settings = load_settings("generator", job.env)
        number = job.share.number
        self.run = Run(settings, job.scenario, job.run_id, number, self.report, job.share, self.gate)

    def report(self, status: Status) -> None:
        self._say(_REPORT, (status, self.run.counts))
        if self._received(0) == _STOP:
            self.run.stop()

    def gate(self) -> datetime | None:
        """Report ready; returns the start time when all are ready."""
        self._say(_READY)
        while True:
            try:
                word, value = self._pipe.recv()
            except (EOFError, OSError):
                word, value = _STOP, None
            if word == _STOP:
                self.run.stop()
            return value if word == _GO else None

    def _received(self, seconds: float) -> str | None:
        try:
            return self._pipe.recv()[0] if self._pipe.poll(seconds) else None
        except (EOFError, OSError):
            return _STOP

    def _say(self, word: str, value: Any = None) -> None:
        try:
            self._pipe.send((word, value))
        except OSError:
            self.run.stop()  # the parent has died


def _produce(pipe: Connection, job: Job) -> None:
    """The producer process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    word: str
    value: Any
    try:
        child = _Child(pipe, job)
        status = job.work(child.run)
        word, value = _DONE, (status, child.run.counts)
    except UserError as error:
        word, value = _ERROR, (type(error), str(error))
    with suppress(OSError):  # the ledger is settled; the parent may have died
        pipe.send((word, value))
