"""Runs playbooks against the lab: log, recap, and assertions on the outcome."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.errors import ServiceError
from infra_lab.lab import Lab, playbook_command
from infra_lab.layout import ANSIBLE_BIN, ANSIBLE_DIR

_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
_PLAYBOOK_SECONDS = 1800


@dataclass(frozen=True)
class PlaybookRun:
    """The outcome of one run; `changed` is the sum over all hosts."""

    code: int
    output: str
    seconds: float
    log: Path

    @property
    def recap(self) -> dict[str, tuple[int, ...]]:
        """Host -> (ok, changed, unreachable, failed)."""
        return {match[0]: tuple(map(int, match[1:])) for match in _RECAP.findall(self.output)}

    @property
    def changed(self) -> int:
        return sum(counts[1] for counts in self.recap.values())

    def require_success(self) -> PlaybookRun:
        """Raises ServiceError naming the log and the first error."""
        if self.code != 0 or any(counts[2] or counts[3] for counts in self.recap.values()):
            raise ServiceError(f"playbook ended with {self.code}: {first_error(self.output)}; see {self.log}")
        return self

    def require_unchanged(self) -> PlaybookRun:
        """Raises ServiceError naming the tasks that changed something."""
        self.require_success()
        if self.changed:
            tasks = changed_tasks(self.output)
            raise ServiceError(f"changed={self.changed} where nothing should change: {tasks}; see {self.log}")
        return self

    def require_refusal(self, *words: str) -> PlaybookRun:
        """Check that it failed and printed `words`. Raises ServiceError otherwise."""
        if self.code == 0:
            raise ServiceError(f"playbook went through where it should refuse ({', '.join(words)}); see {self.log}")
        printed = " ".join(self.output.split())
        if lacking := [word for word in words if word not in printed]:
            error = first_error(self.output)
            raise ServiceError(f"playbook failed without naming {', '.join(lacking)}: {error}; see {self.log}")
        return self


def run_playbook(lab: Lab, playbook: str, *options: str, log: str | None = None) -> PlaybookRun:
    """Run it to its end; the output is written to `<log>.log`."""
    command = playbook_command(lab, playbook, *options)
    environment = {**os.environ, "PATH": f"{ANSIBLE_BIN}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    # A proxy of this machine's environment would be used for loopback and for the lab's hosts.
    environment |= {"NO_PROXY": "*", "no_proxy": "*", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    path = lab.layout.logs / f"{log or playbook}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with path.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                command, cwd=ANSIBLE_DIR, env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, check=False, timeout=_PLAYBOOK_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"playbook {playbook} did not end in {_PLAYBOOK_SECONDS} s; see {path}") from error
    return PlaybookRun(done.returncode, path.read_text(encoding="utf-8"), time.monotonic() - began, path)


def first_error(output: str) -> str:
    """The first failed task and the beginning of its message."""
    task = ""
    for line in output.splitlines():
        if line.startswith("TASK ["):
            task = line[6 : line.rfind("]")]
        elif line.startswith(("fatal: ", "failed: ", "[ERROR]", "ERROR!")):
            return f"{task}: {line[:300]}"
    return (output.strip().splitlines() or ["no output"])[-1][:300]


def changed_tasks(output: str) -> str:
    """Names of the tasks that report a change."""
    found, task = [], ""
    for line in output.splitlines():
        if line.startswith("TASK [") or line.startswith("RUNNING HANDLER ["):
            task = line[line.index("[") + 1 : line.rfind("]")]
        elif line.startswith("changed: ") and task not in found:
            found.append(task)
    return ", ".join(found)
