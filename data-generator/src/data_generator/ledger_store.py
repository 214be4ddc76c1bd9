"""The ledger's objects in the object store, through the S3 API. Each object is written once and never replaced."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import urllib3
from minio.error import MinioException, S3Error
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.naming import ledger_prefix
from data_platform_core.object_store import s3_client
from data_platform_core.settings import ObjectStoreSettings
from data_platform_core.wire.ledger import (
    LEDGER_SCHEMA,
    ProducerSummary,
    newest_summary,
    part_key,
    summary_key,
    summary_number,
)

T = TypeVar("T")

#: Seconds for one request on loopback or a home network; parts are a few hundred kilobytes.
TIMEOUT_S = 10
#: Outage of the store after which the run ends, seconds: longer than a restart of the store.
PATIENCE_S = 60
#: Timeout of the first request, while a person waits.
FIRST_PATIENCE_S = 5
_DENIED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


class LedgerStore:
    """Writes the ledger of one producer of one run. All methods raise ServiceError in one line."""

    def __init__(self, settings: ObjectStoreSettings, run_id: str, producer_id: int) -> None:
        self._where = f"object store {settings.url}, bucket {settings.ledger_bucket}"
        self._bucket, self._lake_bucket = settings.ledger_bucket, settings.lake_bucket
        self._run_id, self._producer_id = run_id, producer_id
        self._prefix = ledger_prefix(run_id)
        self._summaries = 0  # written so far, by this process and those before it
        self._patience_s: float = FIRST_PATIENCE_S
        self._client = s3_client(settings, urllib3.PoolManager(timeout=urllib3.Timeout(TIMEOUT_S), retries=False))

    def claim(self) -> None:
        """Raises ConfigurationError if this run id and producer number were used before."""

        def anything() -> str | None:
            found = self._client.list_objects(self._bucket, f"{self._prefix}{self._producer_id}/", recursive=True)
            return next((item.object_name for item in found), None)

        used = self._call(anything)
        if used:
            raise ConfigurationError(
                f"run id {self._run_id!r} was used already by producer {self._producer_id} "
                f"({self._bucket}/{used} exists); give another --run-id"
            )

    def read_summary(self) -> ProducerSummary | None:
        """This producer's last summary of the run; None if there is none."""

        newest = newest_summary(self.keys(f"{self._prefix}{self._producer_id}/"))
        if newest is None:
            return None
        self._summaries = summary_number(newest)
        return ProducerSummary.model_validate_json(self.get(newest) or b"")

    def get(self, key: str) -> bytes | None:
        """Read an object of the ledger's bucket; None if it does not exist."""

        def read() -> bytes | None:
            try:
                response = self._client.get_object(self._bucket, key)
            except S3Error as error:
                if error.code == "NoSuchKey":
                    return None
                raise
            try:
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return self._call(read)

    def put_part(self, entity: str, number: int, columns: dict[str, Any]) -> None:
        """Write a part. An existing part with the same rows is kept: a killed process wrote it."""
        table = pa.table(columns, schema=LEDGER_SCHEMA)
        buffer = io.BytesIO()
        # A dictionary of distinct numbers is larger than the numbers, and slower.
        pq.write_table(table, buffer, compression="zstd", use_dictionary=["outcome", "injected"])
        key = part_key(self._prefix, self._producer_id, entity, number)
        if not self.put_new(key, buffer.getvalue()):
            there = pq.read_table(io.BytesIO(self.get(key) or b""))
            if not there.sort_by("seq").equals(table.sort_by("seq")):
                raise self._taken(key)

    def put_summary(self, summary: ProducerSummary) -> None:
        """Write the next summary."""
        key, content = self._next_summary(), summary.model_dump_json(indent=1).encode()
        if not self.put_new(key, content) and self.get(key) != content:
            raise self._taken(key)
        self._summaries += 1
        # The store is reachable and accepts our credentials: from now on, wait during outages.
        self._patience_s = PATIENCE_S

    def _next_summary(self) -> str:
        return summary_key(self._prefix, self._producer_id, self._summaries + 1)

    def _taken(self, key: str) -> ServiceError:
        return ServiceError(
            f"{self._where}: {key} exists with other content, and evidence is written once; does another process send "
            f"run {self._run_id!r}? End one of them, or start a new run"
        )

    def put_landing(self, key: str, data: bytes) -> None:
        """Write an object of the lake's bucket; only `landing/` is ours."""
        self._call(lambda: self._client.put_object(self._lake_bucket, key, io.BytesIO(data), len(data)))

    def keys(self, prefix: str) -> list[str]:
        """Keys of the ledger's bucket that begin with `prefix`."""
        return self._call(
            lambda: [str(item.object_name) for item in self._client.list_objects(self._bucket, prefix, recursive=True)]
        )

    def put_new(self, key: str, data: bytes) -> bool:
        """Write an object of the ledger's bucket unless it exists: False then. Of two concurrent calls, one wins."""

        def put() -> bool:
            url = self._client.get_presigned_url("PUT", self._bucket, key)
            answer = urllib3.request("PUT", url, body=data, headers={"If-None-Match": "*"}, timeout=TIMEOUT_S)
            if answer.status not in (200, 409, 412):
                raise urllib3.exceptions.HTTPError(f"status {answer.status}")
            return answer.status == 200

        return self._call(put)

    def put(self, key: str, data: bytes) -> None:
        """Write an object of the ledger's bucket."""
        self._call(lambda: self._client.put_object(self._bucket, key, io.BytesIO(data), len(data)))

    def _call(self, request: Callable[[], T]) -> T:
        attempts = Retrying(
            retry=retry_if_exception(_passes),
            wait=wait_exponential(0.1, max=2),
            stop=stop_after_delay(self._patience_s),
            reraise=True,
        )
        try:
            return attempts(request)
        except S3Error as error:
            raise ServiceError(f"{self._where}: {_advice(error)}") from None
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
            raise ServiceError(
                f"{self._where}: no answer within {self._patience_s:g} s ({type(error).__name__}); "
                f"is the stack up? `make status`"
            ) from None


def _passes(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, S3Error):
        return error.code in {
            "SlowDown",
            "InternalError",
            "ServiceUnavailable",
            "RequestTimeout",
            "XMinioServerNotInitialized",
        }
    return isinstance(error, urllib3.exceptions.HTTPError | MinioException | OSError)


def _advice(error: S3Error) -> str:
    if error.code in _DENIED:
        return (
            f"refuses our credentials ({error.code}); check CRM_OBJECT_STORE__ACCESS_KEY and "
            f"CRM_OBJECT_STORE__SECRET_KEY of service generator"
        )
    if error.code == "NoSuchBucket":
        return "the bucket does not exist; `make up` creates it"
    return f"{error.code}: {error.message}"
