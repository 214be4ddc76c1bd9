"""Programs out of Go modules, by plain `go build`: go.mod pins each version, go.sum each hash.

What was built is kept in the user's cache under a hash of everything that makes it, so nothing is built twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_platform_core.commands import call, last_words
from data_platform_core.errors import ConfigurationError, ServiceError
from infra_lab.kubernetes.layout import SOURCES, Layout

#: Told each step before it begins.
Progress = Callable[[str], None]

_GO = SOURCES / "go"
#: Seconds between two lines of progress of a long step.
_EVERY_SECONDS = 15.0
_POLL_SECONDS = 0.2
#: A build is welcome to take what nobody else wants of the machine.
_NICE = ("nice", "-n", "15")
_LIBRARIES_WITH_VERSION = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True)
class Program:
    """`package` of the Go module in `module`; `parts` are the folders of ours that it is made of."""

    name: str
    module: str
    package: str
    parts: tuple[str, ...] = ()

    def inputs(self) -> list[Path]:
        """Files that decide what the program is."""
        folder = _GO / self.module
        sources = [path for part in self.parts for path in sorted((folder / part).glob("*.go"))]
        return [folder / "go.mod", folder / "go.sum", *sources]


KUBE = Program("kube", "cluster", "./kube", ("kube", "commands"))
KUBEAPI = Program("kubeapi", "cluster", "./kubeapi", ("kubeapi", "commands"))
COREDNS = Program("coredns", "cluster", "./coredns", ("coredns",))
PAUSE = Program("pause", "cluster", "./pause", ("pause",))
RELAY = Program("relay", "cluster", "./relay", ("relay",))
HELM = Program("helm", "cluster", "helm.sh/helm/v3/cmd/helm")
OPERATOR = Program("spark-operator", "spark-operator", ".", (".",))
#: Everything that a node needs; the big one first, since the others share its packages.
NODE_PROGRAMS = (KUBE, COREDNS, PAUSE, RELAY, HELM, OPERATOR)

OPERATOR_MODULE = "github.com/kubeflow/spark-operator/v2"
_MONITORING_MODULE = "github.com/prometheus-operator/prometheus-operator"


def pinned(folder: str, module: str) -> str:
    """The version of `module` that go/`folder`'s go.mod names, without its `v`.

    Raises ConfigurationError when it names none.
    """
    path = _GO / folder / "go.mod"
    found = re.search(rf"^\s*{re.escape(module)} v(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ConfigurationError(f"{path} requires no {module}")
    return found[1]


def kubernetes_version() -> str:
    """Such as 1.34.4."""
    return pinned("cluster", "k8s.io/kubernetes")


def operator_version() -> str:
    """Such as 2.5.1."""
    return pinned("spark-operator", OPERATOR_MODULE)


def operator_source(part: str) -> Path:
    """A folder of the operator's own module, such as its chart; read-only."""
    return module_folder("spark-operator", OPERATOR_MODULE) / part


def monitoring_kinds() -> Path:
    """Definitions of ServiceMonitor, PrometheusRule and the like."""
    return module_folder("manifests", _MONITORING_MODULE) / "example" / "prometheus-operator-crd"


def module_folder(folder: str, module: str) -> Path:
    """Where Go keeps the source of `module` in the version that go/`folder` pins; fetched when it is not there."""
    where = _GO / folder
    call(["go", "mod", "download", module], folder=where)
    return Path(call(["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module], folder=where).strip())


def ensure_programs(layout: Layout, programs: Iterable[Program], progress: Progress) -> None:
    """Builds what is missing or was made from something else. Raises ServiceError with the end of the build's log."""
    for program in programs:
        result = layout.bin / program.name
        ensure(layout, program.name, program.inputs(), partial(_build, layout, program, progress), there=result.is_file)


def ensure(
    layout: Layout,
    name: str,
    inputs: Iterable[Path],
    make: Callable[[], None],
    also: str = "",
    there: Callable[[], bool] = lambda: True,
) -> None:
    """Call `make` unless `name` is `there`, and was last made from these very files and the text `also`."""
    digest = hashlib.sha256(also.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    stamp = layout.stamps / name
    if there() and stamp.is_file() and stamp.read_text(encoding="utf-8") == digest.hexdigest():
        return
    make()
    layout.stamps.mkdir(parents=True, exist_ok=True)
    stamp.write_text(digest.hexdigest(), encoding="utf-8")


def watched(
    layout: Layout, name: str, command: list[str], progress: Progress, *, folder: Path | None = None,
    environment: dict[str, str] | None = None, counted: str = "lines",
) -> None:  # fmt: skip
    """Run a long command: its output goes to a log, whose lines are counted as `counted` meanwhile.

    Raises ServiceError with the log's end.
    """
    layout.build_logs.mkdir(parents=True, exist_ok=True)
    log = layout.build_logs / f"{name}.log"
    with log.open("wb") as output:
        try:
            running = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise ServiceError(f"program {error.filename} is missing; install it, or put it on PATH") from error
        try:
            _follow(running, name, log, progress, counted)
        finally:
            if running.poll() is None:
                running.terminate()
                running.wait()
    if running.returncode:
        words = last_words(log.read_text(encoding="utf-8", errors="replace"))
        raise ServiceError(f"{name} ended with {running.returncode}: {words}; all of it in {log}")


def _follow(running: subprocess.Popen[bytes], name: str, log: Path, progress: Progress, counted: str) -> None:
    told = time.monotonic()
    while running.poll() is None:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - told >= _EVERY_SECONDS:
            told = time.monotonic()
            done = log.read_bytes().count(b"\n")
            progress(f"{name}: {done:,} {counted} so far")


def _build(layout: Layout, program: Program, progress: Progress) -> None:
    progress(f"build {program.name} (Go compiles only what its cache lacks)")
    layout.bin.mkdir(parents=True, exist_ok=True)
    command = [
        *_NICE, "go", "build", "-v", "-mod=readonly", "-trimpath", "-ldflags", _linker_flags(),
        "-o", str(layout.bin / program.name), program.package,
    ]  # fmt: skip
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    folder = _GO / program.module
    watched(layout, f"build {program.name}", command, progress, folder=folder, environment=settings, counted="packages")


def _linker_flags() -> str:
    """Without a version Kubernetes calls itself v0.0.0, and charts that ask for one refuse it."""
    version = kubernetes_version()
    major, minor, _ = version.split(".")
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    set_by_linker = [
        f"-X {library}.{key}={value}" for library in _LIBRARIES_WITH_VERSION for key, value in stamps.items()
    ]
    return " ".join(["-s -w", *set_by_linker])
