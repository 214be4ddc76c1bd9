"""The pipeline as a user drives it: the same commands, against the test stack."""

from __future__ import annotations

import io
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minio import Minio

from data_platform_core.accounting import reconcile
from data_platform_core.accounting.liveness import wait_until_drained
from data_platform_core.contracts import load_contracts
from data_platform_core.errors import UserError
from data_platform_core.jobs import BATCH, job, program_path
from data_platform_core.naming import names
from data_platform_core.settings import Settings, load_settings
from embedded_stack import api
from embedded_stack.services import STREAMING

_DRAIN_TIMEOUT_S = 240


@dataclass(frozen=True)
class Finished:
    """A command that ended."""

    code: int
    out: str
    err: str


class Pipeline:
    """Generator, streaming driver, load, dbt and reconcile in one environment."""

    def __init__(self, environment: str) -> None:
        self.environment = environment

    def crm(self, *arguments: str, env: dict[str, str] | None = None, timeout: float = 400) -> Finished:
        """Any command of `crm`, with `arguments` as typed in a shell."""
        return self._run([program_path("crm"), "--env", self.environment, *arguments], env, timeout)

    def job(self, name: str, *options: str, run_id: str | None = None) -> list[str]:
        """The command of a job of the catalogue in this environment, for a child process."""
        return job(name).argv(self.environment, *options, run_id=run_id)

    def run_job(self, name: str, *options: str, run_id: str | None = None) -> Finished:
        """Run a job of the catalogue to its end."""
        return self._run(self.job(name, *options, run_id=run_id), None, 400)

    def generate(self, run_id: str, *, seconds: float, rate: float) -> None:
        """Send the normal scenario at a constant rate; fails unless every record was acknowledged."""
        done = self._run(self.generator(run_id, seconds, rate), None, seconds + 120)
        assert done.code == 0, done.err + done.out

    @contextmanager
    def generating(self, run_id: str, *, seconds: float, rate: float) -> Iterator[subprocess.Popen[str]]:
        """The same in the background; on leaving, waits for its end and fails unless it was clean."""
        with self._in_background(self.generator(run_id, seconds, rate), seconds) as process:
            yield process

    @contextmanager
    def spiking(self, run_id: str, *, rate: float, **seconds: float) -> Iterator[subprocess.Popen[str]]:
        """A spike up to `rate` in the background, its metrics served; `seconds` by phase, as the command's options."""
        phases = [part for phase, length in seconds.items() for part in (f"--{phase}", str(length))]
        options = ("--baseline-rate", str(rate / 10), "--rate", str(rate), *phases, "--quiet")
        command = self.job("generate-spike", *options, run_id=run_id)
        with self._in_background(command, sum(seconds.values())) as process:
            yield process

    @staticmethod
    @contextmanager
    def _in_background(command: list[str], seconds: float) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            yield process
            out, _ = process.communicate(timeout=seconds + 120)
            assert process.returncode == 0, out
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def generator(self, run_id: str, seconds: float, rate: float) -> list[str]:
        options = ("--flat", "--duration", str(seconds), "--rate", str(rate), "--metrics-port", "0", "--quiet")
        return self.job("generate-normal", *options, run_id=run_id)

    def start_streaming(self, settings: Mapping[str, str] | None = None) -> None:
        """`settings` of the run, as variables of the driver's environment."""
        api.start(self.environment, STREAMING, settings or {})

    def end_run(self) -> None:
        """The running driver keeps its settings; the next one has the default ones, regardless of how it is started."""
        api.end_run(self.environment, STREAMING)

    def stop_streaming(self) -> None:
        api.stop(self.environment, STREAMING)

    def kill_streaming(self) -> None:
        """SIGKILL to the driver and its JVM; the supervisor starts it again."""
        api.kill(self.environment, STREAMING, group=True)

    def drain(self) -> None:
        """Wait until every query has committed everything its topic holds; as `crm stream drain`, in this process."""
        drained = wait_until_drained(self.settings("accounting"), load_contracts(), _DRAIN_TIMEOUT_S)
        assert not drained.waiting, f"not drained after {_DRAIN_TIMEOUT_S} s: {drained.waiting}"

    def load_and_build(self) -> None:
        for name in BATCH:
            done = self.run_job(name)
            assert done.code == 0, done.err + done.out

    def reconcile(self, run_id: str, report: Path, wait_s: float = 60) -> dict[str, Any]:
        """The report of a run as JSON; `code` is the exit code that `crm reconcile` has, `printed` what it prints.

        In this process, which spares a start of a second or two each time; `reconcile_by_command` is the command.
        """
        said, code, complaint = io.StringIO(), 0, ""
        try:
            with redirect_stdout(said):
                reconcile.run(self.settings("accounting"), run_id, report, wait_s)
        except UserError as error:
            code, complaint = error.exit_code, str(error)
        return self._read(report, code, said.getvalue() + complaint)

    def reconcile_by_command(self, run_id: str, report: Path) -> dict[str, Any]:
        done = self.run_job("reconcile", "--json", str(report), run_id=run_id)
        return self._read(report, done.code, done.out + done.err)

    @staticmethod
    def _read(report: Path, code: int, printed: str) -> dict[str, Any]:
        assert report.is_file(), printed
        return {**json.loads(report.read_text()), "code": code, "printed": printed}

    def settings(self, service: str) -> Settings:
        return load_settings(service, self.environment)  # type: ignore[arg-type]

    @staticmethod
    def _run(command: list[str], env: dict[str, str] | None, timeout: float) -> Finished:
        import os

        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **(env or {})}
        )
        return Finished(done.returncode, done.stdout, done.stderr)


class Checkpoint:
    """What the object store has of an entity's query: batches planned, batches finished, batches in silver."""

    def __init__(self, store: Minio, bucket: str, entity: str) -> None:
        self._store, self._bucket, self._names = store, bucket, names(entity)

    def newest(self, log: str) -> int:
        """Newest batch id in the checkpoint's `offsets` or `commits`; -1 when there is none."""
        prefix = f"{self._names.checkpoint}/{log}/"
        found = [item.object_name.rsplit("/", 1)[1] for item in self._store.list_objects(self._bucket, prefix)]
        return max((int(name) for name in found if name.isdigit()), default=-1)

    def newest_in_silver(self) -> int:
        """Newest batch id that silver's log holds of the query; -1 when there is none."""
        prefix = f"{self._names.silver}/_delta_log/"
        keys = sorted(item.object_name for item in self._store.list_objects(self._bucket, prefix))
        for key in reversed([key for key in keys if key.endswith(".json")][-5:]):
            response = self._store.get_object(self._bucket, key)
            try:
                actions = [json.loads(line) for line in response.read().splitlines()]
            finally:
                response.close()
                response.release_conn()
            notes = [json.loads(a["commitInfo"].get("userMetadata") or "{}") for a in actions if "commitInfo" in a]
            batches = [note["batch"] for note in notes if note.get("query") == self._names.query]
            if batches:
                return int(batches[0])
        return -1

    def wait_for_batch_under_way(self, timeout_s: float) -> None:
        """Return while a batch is planned and not finished: a new one, not one that a dead driver left."""
        deadline = time.monotonic() + timeout_s
        left = self.newest("offsets")
        while time.monotonic() < deadline:
            planned = self.newest("offsets")
            if planned > left and planned > self.newest("commits"):
                return
        raise TimeoutError(f"{self._names.query} planned no batch within {timeout_s:.0f} s")

    def wait_for_half_committed_batch(self, timeout_s: float) -> int:
        """Return a batch id that is committed to silver and not yet in the checkpoint's `commits`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            in_silver = self.newest_in_silver()
            if in_silver > self.newest("commits"):
                return in_silver
        raise TimeoutError(f"{self._names.query} committed no batch within {timeout_s:.0f} s")
