"""What an image contains, on this machine: a read-only home, a virtual environment with our wheels, a state folder.

The environment gets the wheels and what they declare, by the locks that images install, from the package cache that
`make setup` has filled; nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributions import distributions

from data_platform_core.paths import INSTALLED_DIR, REPOSITORY_ROOT

UV = INSTALLED_DIR / "venvs" / "uv" / "bin" / "uv"
#: As in an image, an environment of its own that PATH leads to.
DBT = INSTALLED_DIR / "venvs" / "dbt" / "bin" / "dbt"
#: What commands without a server read.
HOME_PARTS = (
    ".env.example", "ansible/inventories", "data-generator/scenarios", "data-platform-core/contracts", "dbt",
    "data-platform-core/spark-applications", "docs/ai-context/entities.md", "helm", "home-server-infra/kubernetes",
    "home-server-infra/monitoring", "home-server-infra/topology", "requirements/constraints.txt",
)  # fmt: skip
#: Root can write regardless of modes; this prevents it.
_BOUND_BY_MODES = ("setpriv", "--bounding-set", "-dac_override")


@dataclass(frozen=True)
class Image:
    """`root` holds all of it; only `state` and `scratch` (the temporary folder) can be written."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command with CRM_HOME and CRM_STATE set, in a process that may write nothing else."""
        env = {
            "PATH": f"{self.venv / 'bin'}:{DBT.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "TMPDIR": str(self.scratch),
            "CRM_HOME": str(self.home),
            "CRM_STATE": str(self.state),
            **variables,
        }
        bound = _BOUND_BY_MODES if os.geteuid() == 0 else ()
        return subprocess.run((*bound, *command), env=env, cwd=self.home, capture_output=True, text=True, check=False)

    def written(self) -> Mapping[str, int]:
        """Files and folders outside the state folder with the nanosecond of their last change; 0 in the scratch folder.

        What a process leaves there after its end is found, a temporary file that it has deleted is not.
        """
        found = {path: path.lstat().st_mtime_ns for part in (self.home, self.venv) for path in (part, *part.rglob("*"))}
        found |= dict.fromkeys(self.scratch.rglob("*"), 0)
        return {str(path.relative_to(self.root)): changed for path, changed in found.items()}


@contextmanager
def image(*locks: str) -> Iterator[Image]:
    """An image with every wheel of ours whose lock is named, and what the locks pin."""
    root = Path(tempfile.mkdtemp(prefix="crm-image-"))
    try:
        made = Image(root)
        _copy_home(made.home)
        _install(made.venv, root / "wheels", locks)
        for folder in (made.state, made.scratch):
            folder.mkdir()
        _freeze(made.home, made.venv)
        yield made
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(root)], check=True)
        shutil.rmtree(root)


def _copy_home(home: Path) -> None:
    names = subprocess.run(
        ["git", "ls-files", *HOME_PARTS], cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in names:
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY_ROOT / name, target)


def _install(venv: Path, wheels: Path, locks: tuple[str, ...]) -> None:
    for ours in distributions(REPOSITORY_ROOT):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
        subprocess.run(build, cwd=ours.folder, capture_output=True, check=True)
    _uv("venv", "--python", sys.executable, str(venv))
    where = ("--offline", "--link-mode", "copy", "--python", str(venv / "bin" / "python"))
    _uv("pip", "sync", *where, "--require-hashes", *(str(REPOSITORY_ROOT / "requirements" / f"{n}.txt") for n in locks))
    chosen = ["core", *(["generator"] if "generator" in locks else [])]
    _uv(
        "pip",
        "install",
        *where,
        "--no-deps",
        *(str(wheel) for name in chosen for wheel in wheels.glob(f"crm_*{name}-*.whl")),
    )


def _uv(*arguments: str) -> None:
    done = subprocess.run([str(UV), "--quiet", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _freeze(*folders: Path) -> None:
    subprocess.run(["chmod", "-R", "a+rX,a-w", *map(str, folders)], check=True)
