"""The class data archive of Spark's JVM: named by what it fits, created once, and never a cause of failure."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from data_platform_core.lake import class_archive
from data_platform_core.lake.class_archive import archive_options, archive_path, make_archive

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for archives, and a folder of jars."""
    monkeypatch.setattr(class_archive, "ARCHIVES", tmp_path / "archives")
    monkeypatch.setattr(class_archive, "JARS_DIR", tmp_path / "jars")
    (tmp_path / "jars" / "spark").mkdir(parents=True)
    (tmp_path / "jars" / "spark" / "one.jar").write_text("1")
    return tmp_path


def trained(aside: Path) -> None:
    time.sleep(0.2)
    aside.write_text("classes")


def test_without_an_archive_no_option_is_given(folder: Path) -> None:
    assert archive_options() == ()


def test_an_archive_is_used_once_it_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_archive, "_train", trained)
    path = make_archive()
    assert path is not None
    assert archive_options()[0] == f"-XX:SharedArchiveFile={path}"


def test_another_jar_or_another_jvm_needs_another_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [archive_path()]
    (folder / "jars" / "spark" / "one.jar").write_text("12")
    names.append(archive_path())
    jvm = folder / "jdk"
    for file in (jvm / "bin" / "java", jvm / "lib" / "server" / "libjvm.so"):
        file.parent.mkdir(parents=True)
        file.write_text("")
        file.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(jvm))
    names.append(archive_path())
    os.utime(jvm / "lib" / "server" / "libjvm.so", (1, 1))
    names.append(archive_path())
    assert len(set(names)) == 4
    assert None not in names


def test_without_java_there_is_no_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(folder))
    assert archive_path() is None
    assert make_archive() is None


def test_two_at_once_make_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Path] = []

    def once(aside: Path) -> None:
        runs.append(aside)
        trained(aside)

    monkeypatch.setattr(class_archive, "_train", once)
    made: list[Path | None] = []
    makers = [threading.Thread(target=lambda: made.append(make_archive())) for _maker in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(runs) == 1
    assert made == [archive_path()] * 3


def test_an_unfinished_archive_is_recreated_and_an_outdated_one_is_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_archive, "_train", trained)
    path = archive_path()
    assert path is not None
    path.parent.mkdir()
    path.with_suffix(".partial").write_text("half")
    (path.parent / "spark-other.jsa").write_text("old")
    assert make_archive() == path
    assert path.read_text() == "classes"
    assert sorted(file.name for file in path.parent.iterdir()) == ["lock", path.name]


def test_a_jvm_that_can_not_use_its_archive_starts_silently(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_archive, "_train", lambda aside: aside.write_bytes(b"no archive at all" * 1_000))
    make_archive()
    done = subprocess.run(["java", *archive_options(), "-version"], capture_output=True, text=True, check=False)
    plain = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.replace(", sharing", "") == plain.stderr.replace(", sharing", "")
