"""Secrets on disk: random, written atomically, readable by their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_SECRET_BYTES = 24


def new_secret() -> str:
    """A random password of letters, digits, `-` and `_`."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def write_secret(path: Path, text: str) -> None:
    """Write a file of mode 0600, atomically and never readable by others. An unchanged file is not rewritten."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    partial.replace(path)
