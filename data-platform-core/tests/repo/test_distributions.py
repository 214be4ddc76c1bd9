"""Three distributions: each declares what it imports, each bound is written once, no package is forgotten."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from distributions import Distribution, distribution_of, distributions, split

from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit

REQUIREMENTS = REPOSITORY_ROOT / "requirements"
OURS = distributions(REPOSITORY_ROOT)


def lines(file: Path) -> list[str]:
    """Requirements of a file, without comments and options."""
    found = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in found if line and not line.startswith("-")]


@pytest.mark.parametrize("ours", OURS, ids=lambda ours: ours.name)
def test_what_a_distribution_imports_it_declares(ours: Distribution) -> None:
    assert list(ours.undeclared()) == []


@pytest.mark.parametrize("ours", OURS, ids=lambda ours: ours.name)
def test_a_distribution_declares_nothing_that_it_does_not_import(ours: Distribution) -> None:
    used = {distribution_of(name) for found in ours.modules.values() for name in found.eager | found.lazy}
    # Spark's Arrow conversion imports pandas; the stack starts the generator's command.
    indirect = {"pandas"} if ours.name == "crm-data-platform-core" else {"crm-data-generator"}
    assert {name for name, _extras in map(split, ours.requirements)} - used - {ours.name} <= indirect


def core_with(folder: Path, **files: str) -> Distribution:
    """A core whose package has these modules beside the real description."""
    package = folder / "src" / "data_platform_core"
    package.mkdir(parents=True)
    described = (REPOSITORY_ROOT / "data-platform-core" / "pyproject.toml").read_text(encoding="utf-8")
    (folder / "pyproject.toml").write_text(described, encoding="utf-8")
    for name, text in files.items():
        path = package / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Distribution(folder)


def test_spark_outside_the_extras_rooms_is_found(tmp_path: Path) -> None:
    core = core_with(tmp_path, kafka__client="def f():\n    import pyspark\n", lake__session="import pyspark\n")
    assert list(core.undeclared()) == ["data_platform_core.kafka.client: pyspark"]


def test_a_module_that_loads_one_of_another_room_needs_what_that_needs(tmp_path: Path) -> None:
    core = core_with(
        tmp_path,
        cli="from data_platform_core.lake.session import spark\n",
        generate="def f():\n    from data_platform_core.lake.session import spark\n",
        lake__session="import pyspark\n",
    )
    assert list(core.undeclared()) == ["data_platform_core.cli: pyspark"]


def test_bounds_are_written_once_and_nowhere_but_in_the_constraints() -> None:
    bounded = [split(line)[0] for line in lines(REQUIREMENTS / "constraints.txt")]
    assert [name for name, count in Counter(bounded).items() if count > 1] == []
    named = [line for ours in OURS for line in ours.requirements] + [
        line for line in lines(REQUIREMENTS / "core.in") if " @ " not in line
    ]
    assert [line for line in named if re.search(r"[<>=~!]", line)] == []
    used = {split(line)[0] for line in named}
    assert [name for name in bounded if name not in used] == [], "a bound of nothing"


def test_an_images_lock_has_the_versions_of_the_core_environment() -> None:
    versions = {line.split()[0] for line in lines(REQUIREMENTS / "core.txt") if "==" in line}
    for image in ("accounting", "generator", "spark", "warehouse"):
        assert {line.split()[0] for line in lines(REQUIREMENTS / f"{image}.txt") if "==" in line} <= versions


def test_every_package_belongs_to_a_distribution_and_is_linted() -> None:
    there = {path.parent.name for path in REPOSITORY_ROOT.glob("*/**/src/*/__init__.py") if ".local" not in path.parts}
    owned = [package.name for ours in OURS for package in ours.packages]
    linted = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
    assert sorted(there) == sorted(owned) == sorted(linted)


def test_the_distributions_have_one_version() -> None:
    sources = {(ours.folder / ours.described["tool"]["hatch"]["version"]["path"]).resolve() for ours in OURS}
    assert len(sources) == 1
