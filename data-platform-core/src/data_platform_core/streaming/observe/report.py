"""What an entity's job tells of a batch that it has committed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BatchCounts:
    """What one micro-batch held: `records` = `silver` + `late` + `duplicates` + `dlq`."""

    records: int
    silver: int
    late: int
    duplicates: int
    dlq: int
    newest_ms: int  # newest Kafka timestamp


@dataclass(frozen=True)
class BatchReport:
    """A batch that bronze and silver have taken.

    `waits`: seconds from `produced_ts` to silver's commit of each row that silver took, empty for a batch that silver
    had taken before (its rows were told before the crash). `phases`: seconds of each step of the job. `state_keys` and
    `state_bytes` are those of the index of seen keys.
    """

    counts: BatchCounts
    waits: Seconds
    phases: Mapping[str, float]
    state_keys: int
    state_bytes: int
