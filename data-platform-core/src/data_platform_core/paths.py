"""Where the repository's data files lie. Images keep the checkout's layout, so this works in both."""

from __future__ import annotations

from pathlib import Path

REPOSITORY_ROOT = Path(__file__).resolve().parents[3]
CONTRACTS_DIR = REPOSITORY_ROOT / "data-platform-core" / "contracts"
SCENARIOS_DIR = REPOSITORY_ROOT / "data-generator" / "scenarios"
DBT_DIR = REPOSITORY_ROOT / "dbt"
JARS_DIR = REPOSITORY_ROOT / ".local" / "jars"
