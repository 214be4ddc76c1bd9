"""What every peer has: its name, its tables, its group, and the word that says it is ready."""

from __future__ import annotations

import signal
import threading
from enum import StrEnum

READY = "ready"


class Peer(StrEnum):
    """The module of this package that is the peer."""

    PLAIN = "plain"
    STRICT = "strict"
    SPARK = "spark"

    @property
    def group(self) -> str:
        """The consumer group whose offsets say what its tables hold."""
        return f"peer-{self}"

    def folder(self, entity: str) -> str:
        """Its table of decoded records in the lake's bucket, outside of accounting."""
        return f"peer/{self}/{entity}"

    def bronze(self, entity: str) -> str:
        """Its table of records as they came; plain has none."""
        return f"peer/{self}/bronze_{entity}"


def asked_to_end() -> threading.Event:
    """Set by SIGTERM, from now on."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    return asked
