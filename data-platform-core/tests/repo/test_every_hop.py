"""One name, every hop: an entity that is missing somewhere between generator and marts is named with the hop."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_platform_core.contracts import Contract
from data_platform_core.errors import GeneratedFileError
from data_platform_core.generated import generate
from data_platform_core.naming import names
from data_platform_core.paths import REPOSITORY_ROOT

pytestmark = pytest.mark.unit


def missing_hops(entity: str, root: Path = REPOSITORY_ROOT) -> list[str]:
    """The hops without `entity`, by their readable names."""
    files = {
        "wire schema": root / "data-platform-core" / "contracts" / entity / "schema.avsc",
        "contract": root / "data-platform-core" / "contracts" / entity / "contract.yaml",
        "generator": root / "data-generator" / "src" / "data_generator" / "entities" / f"{entity}.py",
        "staging model": root / "dbt" / "models" / "staging" / f"{names(entity).staging_model}.sql",
    }
    missing = [hop for hop, path in files.items() if not path.is_file()]
    marts = "\n".join(path.read_text() for path in (root / "dbt" / "models" / "marts").glob("*.sql"))
    if names(entity).staging_model not in marts:
        missing.append("a mart that reads the staging model")
    sources = (root / "dbt" / "models" / "staging" / "_crm__sources.yml").read_text()
    if not re.search(rf"^ +- name: {entity}$", sources, re.MULTILINE):
        missing.append("dbt source")
    return missing


def test_every_contract_is_known_at_every_hop(contracts: dict[str, Contract]) -> None:
    assert {entity: missing_hops(entity) for entity in contracts} == {entity: [] for entity in contracts}


def test_an_unknown_entity_is_missed_at_every_hop() -> None:
    assert missing_hops("coupons") == [
        "wire schema",
        "contract",
        "generator",
        "staging model",
        "a mart that reads the staging model",
        "dbt source",
    ]


def test_generated_files_have_not_drifted() -> None:
    generate.check()


def test_drift_is_named_with_the_file_and_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    page = generate.ENTITIES_PAGE
    monkeypatch.setattr(generate, "generated_files", lambda: {page: "something else"})
    told = r"entities\.md is not what contracts, topology and accounts say; run `make generate`"
    with pytest.raises(GeneratedFileError, match=told):
        generate.check()
