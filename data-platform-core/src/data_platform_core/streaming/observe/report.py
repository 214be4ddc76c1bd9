"""An entity's job reports each committed batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BatchCounts:
    """Counts of one micro-batch: `records` = `silver` + `late` + `duplicates` + `dlq`."""

    records: int
    silver: int
    late: int
    duplicates: int
    dlq: int
    newest_ms: int  # newest Kafka timestamp


@dataclass(frozen=True)
class BatchReport:
    """A batch committed to bronze and silver.

    `waits`: seconds from `produced_ts` to silver's commit of each row in silver, empty for a batch that silver
    had committed before (its rows were reported before the crash). `phases`: seconds of each step of the job.
    `state_keys` and `state_bytes` describe the index of seen keys.
    """

    counts: BatchCounts
    waits: Seconds
    phases: Mapping[str, float]
    state_keys: int
    state_bytes: int
