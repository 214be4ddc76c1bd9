"""Asks the object store whether we may read the lake, before Spark spends twenty seconds and a stack trace on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from pyarrow.fs import S3FileSystem, SubTreeFileSystem

from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.object_store import OBJECT_STORE, PutRefusedError, s3_client
from data_platform_core.settings import ObjectStoreSettings

#: One small request, seconds: a store that takes longer is not well.
TIMEOUT_S = 5.0
#: A piece of a data file, seconds.
_READ_TIMEOUT_S = 30.0


def delta_options(store: ObjectStoreSettings) -> dict[str, str]:
    """What delta-rs needs to know of the store to read a table at `s3://<bucket>/<folder>`."""
    return {
        "AWS_ENDPOINT_URL": store.url,
        "AWS_REGION": store.region,
        "AWS_ACCESS_KEY_ID": store.access_key.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": store.secret_key.get_secret_value(),
        "AWS_ALLOW_HTTP": str(not store.url.startswith("https")).lower(),
    }


def arrow_store(
    store: ObjectStoreSettings, root: str, *, connect_s: float = TIMEOUT_S, read_s: float = _READ_TIMEOUT_S
) -> SubTreeFileSystem:
    """Arrow's own client of the store, for the objects below `root` (`<bucket>/<folder>`). Timeouts in seconds."""
    client = S3FileSystem(
        access_key=store.access_key.get_secret_value(),
        secret_key=store.secret_key.get_secret_value(),
        endpoint_override=store.url,
        region=store.region,
        connect_timeout=connect_s,
        request_timeout=read_s,
    )
    return SubTreeFileSystem(root, client)


def require_lake(store: ObjectStoreSettings) -> None:
    """Raises ServiceError when the store is away, refuses our credentials, or lacks the lake's bucket."""
    with refusals(store):
        next(iter(_client(store).list_objects(store.lake_bucket)), None)


def lake_object(store: ObjectStoreSettings, key: str) -> bytes | None:
    """A small object of the lake's bucket; None when there is none. Raises as `require_lake`."""
    with refusals(store):
        found = read_object(_client(store), store.lake_bucket, key)
    return None if found is None else found[0]


def read_object(client: Minio, bucket: str, key: str) -> tuple[bytes, Mapping[str, str]] | None:
    """A small object with the answer's headers; None when there is none. Raises what `refusals` makes a line of."""
    try:
        response = client.get_object(bucket, key)
    except S3Error as error:
        if error.code == "NoSuchKey":
            return None
        raise
    try:
        return bytes(response.read()), response.headers
    finally:
        response.close()
        response.release_conn()


def _client(store: ObjectStoreSettings) -> Minio:
    return s3_client(store, urllib3.PoolManager(timeout=TIMEOUT_S, retries=urllib3.Retry(total=2, backoff_factor=0.2)))


@contextmanager
def refusals(store: ObjectStoreSettings) -> Iterator[None]:
    """What the store says no to becomes one line: ServiceError, UnreachableError when it does not answer."""
    where = f"object store {store.url}, bucket {store.lake_bucket}"
    try:
        yield
    except S3Error as error:
        if error.code == "NoSuchBucket":
            raise ServiceError(f"{where}: the bucket does not exist; `make up` creates it") from None
        if error.response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise UnreachableError(OBJECT_STORE, f"{where}: is not ready ({error.code}); `make status`") from None
        raise _refused(where, error.code) from None
    except PutRefusedError as error:
        raise _refused(where, str(error)) from None
    except (MinioException, urllib3.exceptions.HTTPError, OSError):
        raise UnreachableError(OBJECT_STORE, f"{where}: does not answer; is it up? `make status` shows it") from None


def _refused(where: str, code: str) -> ServiceError:
    return ServiceError(
        f"{where}: refuses our credentials ({code}); check CRM_OBJECT_STORE__ACCESS_KEY and "
        "CRM_OBJECT_STORE__SECRET_KEY"
    )
