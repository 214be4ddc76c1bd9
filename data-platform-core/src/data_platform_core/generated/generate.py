"""Files generated from contracts, topology and the matrix of accounts.

`make generate` writes them. CI fails when they have drifted.
"""

from __future__ import annotations

from pathlib import Path

from data_platform_core.access.matrix import load_matrix
from data_platform_core.contracts import load_contracts
from data_platform_core.errors import GeneratedFileError
from data_platform_core.generated.accounts import account_files
from data_platform_core.generated.dbt_sources import SOURCES_FILE, sources_text
from data_platform_core.generated.entities import ENTITIES_PAGE, entities_page
from data_platform_core.generated.inventory import inventories
from data_platform_core.kubernetes.files import kubernetes_files
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.settings import known_variables

ENV_EXAMPLE: Path = REPOSITORY_ROOT / ".env.example"


def generated_files() -> dict[Path, str]:
    """The required text of each generated file."""
    contracts, matrix = load_contracts(), load_matrix()
    return {
        SOURCES_FILE: sources_text(contracts),
        ENTITIES_PAGE: entities_page(contracts),
        ENV_EXAMPLE: env_example(),
        **inventories(contracts.values()),
        **account_files(matrix),
        **kubernetes_files(matrix),
    }


def write() -> list[Path]:
    """Write the files that differ; returns them."""
    changed = {path: text for path, text in generated_files().items() if _read(path) != text}
    for path, text in changed.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(changed)


def check() -> None:
    """Raises GeneratedFileError naming the first file that differs."""
    for path, text in generated_files().items():
        if _read(path) != text:
            drifted = path.relative_to(REPOSITORY_ROOT)
            raise GeneratedFileError(f"{drifted} is not what contracts, topology and accounts say; run `make generate`")


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def env_example() -> str:
    """Every environment variable of a setting, commented out."""
    head = """\
# GENERATED from data_platform_core/settings.py by `make generate`. No variable is required: the topology and the
# accounts in <state>/<ENV>/secrets/<service>.env (written by `make up`) are enough. To override a value, set the
# variable in a command's environment, or in a ConfigMap or Secret on Kubernetes.
"""
    return head + "".join(f"#{name}=\n" for name in sorted(known_variables()))
