"""The commands of this project, called by one another."""

from __future__ import annotations

import sys
from pathlib import Path


def command_path(name: str) -> str:
    """Path of one of our commands (`crm`, `crm-generator`): it is installed beside the Python that runs."""
    return str(Path(sys.executable).parent / name)
