"""How fast this machine is now: fixed loops of CPU and of memory, so that figures of two days can be compared."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass

import numpy as np

_HASHED_MB = 256
_GATHERED = 4_000_000
#: Far more than caches hold.
_TABLE_MB = 256
_TRIES = 3


@dataclass(frozen=True)
class Speed:
    """`hash_mb_s`: SHA-256, one core, in cache. `gather_m_s`: millions of random 8-byte reads of memory a second."""

    hash_mb_s: float
    gather_m_s: float

    def __str__(self) -> str:
        return f"SHA-256 {self.hash_mb_s:,.0f} MB/s, random reads {self.gather_m_s:,.1f} million/s"


def speed() -> Speed:
    """The best of a few tries, about 3 s: what else runs on the machine makes a try slower, never faster."""
    block = bytes(2**20)
    table = np.arange(_TABLE_MB * 2**20 // 8, dtype=np.int64)
    places = np.random.default_rng(20261128).integers(0, len(table), _GATHERED)
    hashing, gathering = [], []
    for _ in range(_TRIES):
        began = time.perf_counter()
        digest = hashlib.sha256()
        for _ in range(_HASHED_MB):
            digest.update(block)
        hashing.append(time.perf_counter() - began)
        began = time.perf_counter()
        table[places].sum()
        gathering.append(time.perf_counter() - began)
    return Speed(_HASHED_MB / min(hashing), _GATHERED / min(gathering) / 1e6)
