"""Adding an account is one entry of the matrix; a service that is not in the matrix is reported, with its place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_platform_core.access import kafka, matrix, object_store, postgres
from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import RESERVED, access_key, role
from data_platform_core.contracts import Contract
from data_platform_core.errors import ConfigurationError
from data_platform_core.generated import generate
from data_platform_core.generated.accounts import DBT_PROJECT_FILE, VAULT_EXAMPLE, dbt_project
from data_platform_core.generated.inventory import inventory_file
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.settings import load_settings
from data_platform_core.topology import load_topology

pytestmark = pytest.mark.unit

NEW = "fictitious"
ENTRY: dict[str, Any] = {
    "kafka": {"topics": ["read"], "reader_group": ["read"]},
    "object_store": {"ledger": ["read"]},
    "postgres": {"landing": ["select"], "marts": ["select"]},
}
#: Calls that name a service, and which of their arguments does.
NAMING = {"load_settings": 0, "require": 0, "access_key": 0, "role": 0, "read_account": 1}
SOURCES = sorted(path for path in REPOSITORY_ROOT.glob("*/**/src/**/*.py") if ".local" not in path.parts)
YAML = sorted(path for room in ("ansible", "dbt") for path in (REPOSITORY_ROOT / room).rglob("*.yml"))


@pytest.fixture
def with_one_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The committed matrix with one more entry, and no other edited file."""
    path = tmp_path / "services.yaml"
    entry = yaml.safe_dump({NEW: ENTRY})
    text = matrix.SERVICES_FILE.read_text(encoding="utf-8")
    path.write_text(text + "".join(f"  {line}\n" for line in entry.splitlines()), encoding="utf-8")
    monkeypatch.setattr(matrix, "SERVICES_FILE", path)


@pytest.mark.usefixtures("with_one_more")
def test_one_entry_gives_a_service_its_rights_in_every_system(contracts: dict[str, Contract]) -> None:
    rules = [str(rule) for rule in kafka.wanted_rules(load_matrix(), [contracts["orders"]]) if rule.principal == NEW]
    assert rules == ["fictitious may read group crm-reader", "fictitious may read topic crm.orders.v1"]
    policies = object_store.policies(load_matrix(), load_topology("test").object_store.buckets)
    assert len(policies["crm-fictitious"]["Statement"]) == 2
    (grants,) = (grants for grants in postgres.grants(load_matrix()) if grants.role == role(NEW))
    assert (grants.landing, grants.tables["platform.loads"]) == ("SELECT", "")
    assert load_settings(NEW, "test").kafka.username == ""
    assert load_settings(NEW, "home").kafka.username == NEW


@pytest.mark.usefixtures("with_one_more")
def test_one_entry_gives_a_service_its_credentials_in_the_embedded_stack(tmp_path: Path) -> None:
    from embedded_stack.credentials import ensure_accounts

    account = ensure_accounts(tmp_path / "secrets")[NEW]
    assert account.store_login[0] == "crm-fictitious"
    assert account.postgres_login[0] == "crm_fictitious"


@pytest.mark.usefixtures("with_one_more")
def test_one_entry_reaches_every_generated_file_and_only_those_drift() -> None:
    files = generate.generated_files()
    drifted = {path for path, text in files.items() if path.read_text(encoding="utf-8") != text}
    assert drifted == {inventory_file("home"), inventory_file("lab"), VAULT_EXAMPLE, DBT_PROJECT_FILE}

    facts = yaml.safe_load(files[inventory_file("home")])["all"]["vars"]
    assert NEW in facts["platform_kafka_clients"]
    assert NEW in facts["kafka_acls"]
    assert "crm_fictitious" in facts["postgresql_roles"]
    assert facts["minio_accounts"][NEW]["access_key"] == "crm-fictitious"

    vault = yaml.safe_load(files[VAULT_EXAMPLE])
    assert NEW in vault["vault_kafka_passwords"]
    assert "crm_fictitious" in vault["vault_postgres_passwords"]
    assert NEW in vault["vault_object_store_passwords"]

    grants = yaml.safe_load(files[DBT_PROJECT_FILE])["models"]["crm"]["marts"]["+grants"]
    assert grants["select"] == ["crm_accounting", "crm_reader", "crm_fictitious"]


def test_handwritten_lines_of_the_dbt_project_are_kept() -> None:
    text = DBT_PROJECT_FILE.read_text(encoding="utf-8").replace("[crm_accounting, crm_reader]", "[crm_nobody]")
    assert dbt_project(text, load_matrix()) == DBT_PROJECT_FILE.read_text(encoding="utf-8")


def test_a_dbt_project_without_the_mark_is_refused_with_the_line_it_lacks() -> None:
    text = DBT_PROJECT_FILE.read_text(encoding="utf-8").replace("is GENERATED from", "comes from")
    with pytest.raises(ConfigurationError, match=r"dbt_project\.yml must have the line `# The next line is GENERATED"):
        dbt_project(text, load_matrix())


def named_in_python(path: Path) -> Iterator[tuple[int, str]]:
    """(line, service) of each call in `path` that names a service."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        position = NAMING.get(called)
        if position is None or len(node.args) <= position:
            continue
        argument = node.args[position]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield node.lineno, argument.value


def named_in_yaml(path: Path) -> Iterator[tuple[int, str]]:
    """(line, service) of each PostgreSQL role of ours in `path`."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for service in re.findall(rf"\b{role('')}([a-z0-9]+)\b", line):
            yield number, service


def strangers(python: Iterable[Path], texts: Iterable[Path]) -> list[str]:
    """A line for each place that names a service the matrix does not have."""
    known = load_matrix().services.keys() | RESERVED
    found = [(path, *at) for path in python for at in named_in_python(path)]
    found += [(path, *at) for path in texts for at in named_in_yaml(path)]
    return [
        f"{_short(path)}:{line}: service {service!r} is not in {matrix.SERVICES_FILE.name}; add it or correct the name"
        for path, line, service in found
        if service not in known
    ]


def _short(path: Path) -> Path:
    return path.relative_to(REPOSITORY_ROOT) if path.is_relative_to(REPOSITORY_ROOT) else path


def test_every_service_that_is_named_is_in_the_matrix() -> None:
    assert len({service for path in SOURCES for _, service in named_in_python(path)}) > 5
    assert any(named_in_yaml(path) for path in YAML)
    if found := strangers(SOURCES, YAML):
        pytest.fail("\n".join(found), pytrace=False)


def test_a_service_that_the_matrix_does_not_have_is_named_with_its_place(tmp_path: Path) -> None:
    code, text = tmp_path / "report.py", tmp_path / "grants.yml"
    code.write_text("import x\nsettings = load_settings('reporter', environment)\nload_settings('batch')\n")
    text.write_text("select: [crm_reader, crm_reporter]\n")
    assert strangers([code], [text]) == [
        f"{code}:2: service 'reporter' is not in services.yaml; add it or correct the name",
        f"{text}:1: service 'reporter' is not in services.yaml; add it or correct the name",
    ]


def test_no_role_and_no_playbook_names_an_account() -> None:
    """They are in the inventory, which is generated: a role that lists them is a second matrix."""
    written = [path for part in ("roles", "playbooks") for path in (REPOSITORY_ROOT / "ansible" / part).rglob("*")]
    accounts = "|".join(map(re.escape, (*postgres.roles(load_matrix()), *map(access_key, load_matrix().services))))
    texts = [path for path in written if path.suffix in {".yml", ".j2", ".py"}]
    assert texts
    found = [path for path in texts if re.search(rf"\b({accounts})\b", path.read_text(encoding="utf-8"))]
    assert found == []


def test_no_module_of_ansible_imports_the_repository_s_python() -> None:
    modules = sorted((REPOSITORY_ROOT / "ansible").rglob("*.py"))
    packages = {path.parent.name for path in SOURCES if path.name == "__init__.py" and path.parents[1].name == "src"}
    assert modules
    assert "data_platform_core" in packages
    pattern = re.compile(rf"^\s*(?:from|import)\s+({'|'.join(sorted(packages))})\b", re.MULTILINE)
    assert [path for path in modules if pattern.search(path.read_text(encoding="utf-8"))] == []
