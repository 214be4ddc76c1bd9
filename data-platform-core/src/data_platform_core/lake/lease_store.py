"""The lease's object in the store: read, and replaced only by conditional puts (ADR 0021)."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

import urllib3
from pydantic import ValidationError

from data_platform_core.errors import ServiceError
from data_platform_core.lake.lease_record import GIVES_UP_AFTER, LeaseRecord
from data_platform_core.lake.store import TIMEOUT_S, read_object, refusals
from data_platform_core.naming import LEASE_KEY
from data_platform_core.object_store import put_if, s3_client
from data_platform_core.settings import LeaseSettings, ObjectStoreSettings

#: Of a request whose connection the store has just closed.
_RETRIES = 1
#: Kept open: entities that commit at the same moment, two tables each.
_CONNECTIONS = 8


@dataclass(frozen=True)
class Found:
    """A record and the ETag of its object; for people the object's age in seconds, by the store's clock."""

    record: LeaseRecord
    etag: str
    age_s: float = field(compare=False)


class LeaseStore:
    """One lake's lease. Raises ServiceError in one line, UnreachableError when the store does not answer.

    A call ends within the time between the holder's own deadline and the end of its lease. So a call that begins before
    the former ends before the latter.
    """

    def __init__(self, store: ObjectStoreSettings, lease: LeaseSettings) -> None:
        self._store = store
        timeout_s = min(TIMEOUT_S, lease.ttl_s * (1 - GIVES_UP_AFTER) / (1 + _RETRIES))
        # The lease is read before each commit.
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(total=timeout_s), retries=urllib3.Retry(total=_RETRIES)
        )
        self._client = s3_client(store, self._pool)

    @property
    def lake(self) -> str:
        """The lake for messages."""
        return self._store.lake_uri("").rstrip("/")

    def read(self) -> Found | None:
        """The current lease; None before the first one. Raises ServiceError also when it is not readable."""
        with refusals(self._store):
            found = read_object(self._client, self._store.lake_bucket, LEASE_KEY)
        if found is None:
            return None
        content, headers = found
        try:
            record = LeaseRecord.model_validate_json(content)
        except ValidationError as error:
            raise ServiceError(
                f"lease {self.lake}/{LEASE_KEY} is not readable ({error.errors()[0]['msg']}); was it written by "
                "another version? When no writer runs, delete it"
            ) from None
        return Found(record, headers["ETag"].strip('"'), _age_s(headers["Last-Modified"], headers["Date"]))

    def replace(self, record: LeaseRecord, etag: str | None) -> str | None:
        """Write `record` in place of the object with that ETag (None: if there is no object).

        Returns the new ETag; None when another record is there.
        """
        with refusals(self._store):
            return put_if(
                self._client, self._pool, self._store.lake_bucket, LEASE_KEY, record.model_dump_json().encode(), etag
            )


def _age_s(written: str, now: str) -> float:
    return (parsedate_to_datetime(now) - parsedate_to_datetime(written)).total_seconds()
