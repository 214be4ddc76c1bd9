"""The repository's distributions as their pyproject.toml files describe them, and what their modules import."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from data_platform_core.paths import REPOSITORY_ROOT


@dataclass(frozen=True)
class Imports:
    """What a module imports: dotted names, `eager` when it is loaded, `lazy` inside a function."""

    eager: frozenset[str]
    lazy: frozenset[str]


@dataclass(frozen=True)
class Distribution:
    """One folder that a wheel is built from."""

    folder: Path

    @cached_property
    def described(self) -> dict[str, Any]:
        """Its pyproject.toml."""
        return tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))

    @property
    def name(self) -> str:
        return str(self.described["project"]["name"])

    @property
    def packages(self) -> list[Path]:
        """Folders of its import packages."""
        wheel = self.described["tool"]["hatch"]["build"]["targets"]["wheel"]
        return [self.folder / path for path in wheel["packages"]]

    @property
    def requirements(self) -> list[str]:
        """Every requirement it declares, those of extras too, as written."""
        project = self.described["project"]
        return [
            *project["dependencies"],
            *(r for each in project.get("optional-dependencies", {}).values() for r in each),
        ]

    def declared(self, extras: Iterable[str] = ()) -> set[str]:
        """Names of the distributions that it may import from with these extras, itself and its own extras included."""
        optional = self.described["project"].get("optional-dependencies", {})
        found, waiting = {self.name}, [*self.described["project"]["dependencies"]]
        for extra in extras:
            waiting += optional[extra]
        while waiting:
            name, inner = split(waiting.pop())
            found.add(name)
            if name == self.name:
                waiting += [requirement for extra in inner for requirement in optional[extra]]
        return found

    def extras_of(self, module: str) -> list[str]:
        """The extras of the entry in `[tool.crm.extras_by_module]` for a module: of its folder, or the one file."""
        extras_by_module: Mapping[str, list[str]] = self.described["tool"].get("crm", {}).get("extras_by_module", {})
        inside = module.partition(".")[2].replace(".", "/")
        covering = (name for name in extras_by_module if f"{inside}/".startswith(f"{name.removesuffix('.py')}/"))
        return next((extras_by_module[name] for name in covering), [])

    @cached_property
    def modules(self) -> dict[str, Imports]:
        """What each of its modules imports."""
        return {
            dotted(path.relative_to(package.parent)): imports(path.read_text(encoding="utf-8"))
            for package in self.packages
            for path in sorted(package.rglob("*.py"))
        }

    def undeclared(self) -> Iterator[str]:
        """`module: distribution` for each import of a module, or of what it loads with it, not covered by its extras.

        A module imported inside a function is loaded by that function's callers, so its own imports are covered by its
        own entry.
        """
        for module, found in self.modules.items():
            allowed = self.declared(self.extras_of(module))
            needed = found.lazy | found.eager | self._loaded_by(module)
            for distribution in sorted({d for name in needed if (d := distribution_of(name))}):
                if distribution not in allowed:
                    yield f"{module}: {distribution}"

    def _loaded_by(self, module: str) -> set[str]:
        seen, waiting, needed = {module}, [module], set[str]()
        while waiting:
            for name in self.modules[waiting.pop()].eager:
                needed.add(name)
                for inner in {name, name.rpartition(".")[0]} & self.modules.keys() - seen:
                    seen.add(inner)
                    waiting.append(inner)
        return needed


def distributions(root: Path) -> list[Distribution]:
    """Every distribution of the repository, by folder."""
    return [Distribution(path.parent) for path in sorted(root.glob("*/pyproject.toml"))]


def split(requirement: str) -> tuple[str, list[str]]:
    """A requirement's name and extras: `psycopg[binary]` is ("psycopg", ["binary"])."""
    match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?", requirement)
    assert match is not None
    return match[1], [extra.strip() for extra in (match[2] or "").split(",") if extra.strip()]


def dotted(path: Path) -> str:
    """The module's name of a file below a source folder."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def distribution_of(name: str) -> str | None:
    """The distribution that installs what an import names; None for the standard library."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return None
    # Two distributions of the lock install a part of one package: the one with the package's name is meant.
    found = _by_package().get(top, [top])
    return next((each for each in found if each.replace("-", "_") == top), found[0])


@cache
def _by_package() -> dict[str, list[str]]:
    installed = {
        top: sorted({re.sub(r"[-_.]+", "-", name).lower() for name in names})
        for top, names in packages_distributions().items()
    }
    # An editable install does not list its packages.
    return installed | {each.name: [ours.name] for ours in distributions(REPOSITORY_ROOT) for each in ours.packages}


def imports(source: str) -> Imports:
    """What a module's source imports, without what is for type checkers only. Relative imports are not used here."""
    eager: set[str] = set()
    lazy: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child, inside)
            return
        if isinstance(node, ast.Import):
            (lazy if inside else eager).update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from a.b import c`: c may be a module.
            (lazy if inside else eager).update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return Imports(frozenset(eager), frozenset(lazy))
