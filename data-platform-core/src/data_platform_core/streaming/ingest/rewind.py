"""Takes a checkpoint to where a table's micro-batch ended, so that the stream reads from there on (ADR 0027).

Where that is follows from bronze, which has every record that was read: one offset behind the last of each partition.
So it does not matter that Spark keeps the offsets of its last 100 batches only.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, Protocol

import urllib3

from data_platform_core.errors import ServiceError
from data_platform_core.lake.store import TIMEOUT_S, read_object, refusals
from data_platform_core.object_store import s3_client
from data_platform_core.settings import ObjectStoreSettings

OFFSETS: Final = "offsets"
COMMITS: Final = "commits"
#: A finished batch of a query without a watermark, as Spark writes it.
_COMMIT: Final = 'v1\n{"nextBatchWatermarkMs":0}'


class CheckpointLogs(Protocol):
    """The two logs of a checkpoint: a file for each batch."""

    def batches(self, log: str) -> list[int]:
        """The batches that a log has, ascending."""

    def read(self, log: str, batch: int) -> str:
        """A batch's file."""

    def write(self, log: str, batch: int, text: str) -> None:
        """Write a batch's file, in place of the one that is there."""

    def delete(self, log: str, batch: int) -> None:
        """Delete a batch's file."""


class StoredLogs:
    """The logs of the checkpoint at `folder` of the lake. Raises ServiceError when the store fails."""

    def __init__(self, store: ObjectStoreSettings, folder: str) -> None:
        self._store, self._folder = store, folder
        pool = urllib3.PoolManager(timeout=TIMEOUT_S, retries=urllib3.Retry(total=2, backoff_factor=0.2))
        self._client = s3_client(store, pool)

    def batches(self, log: str) -> list[int]:
        with refusals(self._store):
            found = self._client.list_objects(self._store.lake_bucket, f"{self._folder}/{log}/")
            names = [(entry.object_name or "").rpartition("/")[2] for entry in found]
        return sorted(int(name) for name in names if name.isdigit())

    def read(self, log: str, batch: int) -> str:
        with refusals(self._store):
            found = read_object(self._client, self._store.lake_bucket, self._key(log, batch))
        if found is None:
            raise ServiceError(f"checkpoint {self._folder} has no {log}/{batch}; does a stream run?")
        return found[0].decode()

    def write(self, log: str, batch: int, text: str) -> None:
        content = text.encode()
        with refusals(self._store):
            self._client.put_object(self._store.lake_bucket, self._key(log, batch), io.BytesIO(content), len(content))

    def delete(self, log: str, batch: int) -> None:
        with refusals(self._store):
            self._client.remove_object(self._store.lake_bucket, self._key(log, batch))

    def _key(self, log: str, batch: int) -> str:
        return f"{self._folder}/{log}/{batch}"


def ends(text: str, topic: str) -> dict[int, int]:
    """Where a batch ended, by partition, from its file of `offsets`. Raises ServiceError for another topic's."""
    try:
        found = json.loads(text.splitlines()[-1])[topic]
        return {int(partition): int(offset) for partition, offset in found.items()}
    except (ValueError, KeyError, IndexError, AttributeError):
        raise ServiceError(f"a checkpoint's offsets are not of {topic}: {text[-200:]!r}") from None


def with_ends(text: str, topic: str, positions: Mapping[int, int]) -> str:
    """A batch's file of `offsets` with other ends; version and settings of the batch stay."""
    offsets = {str(partition): offset for partition, offset in sorted(positions.items())}
    return "\n".join([*text.splitlines()[:-1], json.dumps({topic: offsets}, separators=(",", ":"))])


def steps(logs: CheckpointLogs, batch: int, offsets: str) -> Iterator[Callable[[], None]]:
    """What makes `batch` the newest one, planned and finished, with the file `offsets`; each step is one request.

    After any number of steps a start is refused, or goes on from `offsets`: planned batches go before the finished
    ones, so that until the last step more is finished than planned, which `refuse_other_history` never lets pass.
    """
    for planned in reversed([one for one in logs.batches(OFFSETS) if one > batch]):
        yield partial(logs.delete, OFFSETS, planned)
    # Spark reads the file of the batch before, too, and what lies between them must be nothing.
    for planned in range(max(0, batch - 1), batch + 1):
        yield partial(logs.write, OFFSETS, planned, offsets)
    if batch not in logs.batches(COMMITS):
        yield partial(logs.write, COMMITS, batch, _COMMIT)
    for finished in reversed([one for one in logs.batches(COMMITS) if one > batch]):
        yield partial(logs.delete, COMMITS, finished)
