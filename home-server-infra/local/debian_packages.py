"""Debian packages unpacked into a folder: nothing is installed, no service starts, no root needed.

`debian_packages.py FOLDER PACKAGE...`. Installing the packages would start each server on every interface of a person's
machine. apt verifies what it downloads against the distribution's signatures; FOLDER/versions.txt says what came.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: Of the packages' dependencies, those that are files and no programs: what the web pages are made of.
_PAGE_PARTS = re.compile(r"(?:libjs|fonts)-\S+")
#: Never read; the time zones' sources alone are 200 MB.
_LEFT_OUT = ("./etc", "./lib", "./var", "./usr/share/doc", "./usr/share/man", "./usr/share/javascript/*/data")


class PackageError(Exception):
    """What failed, and what to do; one line."""


def unpack(folder: Path, packages: list[str]) -> None:
    """`packages` and the parts of their web pages into `folder`. Raises PackageError."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PackageError(
            f"apt-get and dpkg-deb are missing; put the programs of {', '.join(packages)} into {folder / 'usr' / 'bin'}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="crm-debian-") as downloads:
        wanted, seen, versions = packages, set(packages), []
        while wanted:
            _download(wanted, Path(downloads))
            archives = [_archive(Path(downloads), package) for package in wanted]
            for archive in archives:
                _extract(archive, folder)
            versions += [_field(archive, "Package", "Version") for archive in archives]
            wanted = sorted({part for archive in archives for part in _page_parts(archive)} - seen)
            seen.update(wanted)
    (folder / "versions.txt").write_text("".join(f"{line}\n" for line in sorted(versions)))


def _download(packages: list[str], folder: Path) -> None:
    """Download with apt. Root refreshes its package lists; other users get the command for it."""
    command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode == 0:
        return
    update = "apt-get update"
    if os.geteuid() == 0:
        _call([*update.split(), "-q"])
        _call(command, folder)
        return
    reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
    raise PackageError(f"apt-get can't download {', '.join(packages)} ({reason}); run `sudo {update}` and try again")


def _extract(archive: Path, folder: Path) -> None:
    print(f"unpacking {archive.name}", flush=True)
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as files:
        command = ["tar", "-x", "-C", str(folder), "--no-same-owner", *(f"--exclude={path}" for path in _LEFT_OUT)]
        unpacked = subprocess.run(command, stdin=files.stdout, check=False).returncode
    if files.returncode != 0 or unpacked != 0:
        raise PackageError(f"{archive.name} can't be unpacked into {folder}; is the disk full?")


def _archive(folder: Path, package: str) -> Path:
    found = sorted(folder.glob(f"{package}_*.deb"))
    if not found:
        raise PackageError(f"apt-get downloaded no {package}; the distribution names it otherwise")
    return found[0]


def _field(archive: Path, *names: str) -> str:
    output = _call(["dpkg-deb", "--showformat", " ".join(f"${{{name}}}" for name in names), "-W", str(archive)])
    return output.strip()


def _page_parts(archive: Path) -> set[str]:
    return {part.rstrip(",") for part in _PAGE_PARTS.findall(_field(archive, "Depends"))}


def _call(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise PackageError(f"`{' '.join(command)}` failed: {reason}")
    return done.stdout


if __name__ == "__main__":
    try:
        unpack(Path(sys.argv[1]), sys.argv[2:])
    except PackageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(3) from None
