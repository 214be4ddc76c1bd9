"""Delta tables of the lake as delta-rs and Arrow read them: without Spark, at any version that the log still has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.dataset as ds
import urllib3
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from minio.error import MinioException, S3Error

from data_platform_core.errors import ServiceError
from data_platform_core.lake.store import arrow_store, delta_options
from data_platform_core.settings import ObjectStoreSettings

#: One request, seconds: parts and data files are a few MB.
REQUEST_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 3
#: Of a request.
TRIES = 3
_DENIED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403 Forbidden", "401 Unauthorized")
_ABSENT = ("NoSuchBucket",)
#: Spark writes times as INT96, which Arrow would read as nanoseconds: those end in 1677 and 2262.
_MICROSECONDS = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")


class TableMissingError(ServiceError):
    """There is no such Delta table yet."""


def delta_table(settings: ObjectStoreSettings, folder: str, version: int | None = None) -> DeltaTable:
    """The Delta table at `folder` of the lake, at its newest version or the one asked for. Reads its log only."""
    with store_errors(settings, settings.lake_bucket):
        return DeltaTable(
            f"s3://{settings.lake_bucket}/{folder}",
            version=version,
            storage_options={
                **delta_options(settings),
                "timeout": f"{REQUEST_TIMEOUT_S}s",
                "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
                "max_retries": str(TRIES),
                "retry_timeout": f"{REQUEST_TIMEOUT_S}s",
            },
        )


def table_rows(settings: ObjectStoreSettings, table: DeltaTable) -> ds.Dataset:
    """The rows of a table that `delta_table` opened; the data is read when the dataset is asked.

    Arrow reads by its own S3 client, not through delta-rs's file system, which is Python: one of Arrow's threads that
    gives a file back while the interpreter ends aborts the process (apache/arrow#34314), after all work was done.
    """
    root = table.table_uri.removeprefix("s3://").rstrip("/")
    files = arrow_store(settings, root, connect_s=CONNECT_TIMEOUT_S, read_s=REQUEST_TIMEOUT_S)
    with store_errors(settings, settings.lake_bucket):
        return table.to_pyarrow_dataset(filesystem=files, parquet_read_options=_MICROSECONDS)


@contextmanager
def store_errors(settings: ObjectStoreSettings, bucket: str) -> Iterator[None]:
    """Turn what S3 and delta-rs raise into a ServiceError that names the setting to look at, never its value."""
    where = f"object store {settings.url}, bucket {bucket}"
    try:
        yield
    except TableNotFoundError as error:
        raise TableMissingError(f"{where}: {_line(str(error))}; has the stream run? `crm stream run`") from None
    except S3Error as error:
        raise ServiceError(f"{where}: {_advice(f'{error.code}: {error.message}')}") from None
    except (DeltaError, OSError, MinioException, urllib3.exceptions.HTTPError) as error:
        raise ServiceError(f"{where}: {_advice(str(error))}") from None


def _advice(message: str) -> str:
    if any(word in message for word in _DENIED):
        return "refuses our credentials; check CRM_OBJECT_STORE__ACCESS_KEY and CRM_OBJECT_STORE__SECRET_KEY"
    if any(word in message for word in _ABSENT):
        return "the bucket does not exist; `make up` creates it"
    if "onnect" in message or "timed out" in message:
        return "does not answer; is the stack up? `make status`"
    return _line(message)


def _line(message: str) -> str:
    return " ".join(message.split())[:300]
