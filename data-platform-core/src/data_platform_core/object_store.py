"""Creates every S3 client of the platform from settings; callers choose the timeouts."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3
from minio import Minio

from data_platform_core.settings import ObjectStoreSettings

#: The service's name in messages and metrics.
OBJECT_STORE = "object store"
#: The condition does not hold, or another conditional put of the same object is under way.
_LOST = {HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT}


def s3_client(store: ObjectStoreSettings, pool: urllib3.PoolManager) -> Minio:
    """A client with our credentials; `pool` sets timeouts and retries. It connects at the first request."""
    url = urlsplit(store.url)
    return Minio(
        url.netloc,
        access_key=store.access_key.get_secret_value() or None,
        secret_key=store.secret_key.get_secret_value() or None,
        secure=url.scheme == "https",
        region=store.region,
        http_client=pool,
    )


def put_if(
    client: Minio, pool: urllib3.PoolManager, bucket: str, key: str, data: bytes, replaces: str | None = None
) -> str | None:
    """Put an object if there is none, or with `replaces` only in place of the object with that ETag.

    Returns the new object's ETag; None if there is another object: of concurrent puts, one wins. Raises
    urllib3's HTTPError for every other answer, `PutRefusedError` when the store refuses our credentials.
    """
    condition = {"If-Match": f'"{replaces}"'} if replaces else {"If-None-Match": "*"}
    # The client can't send conditions, but a presigned URL accepts a header that is not part of the signature.
    address = client.get_presigned_url("PUT", bucket, key)
    answer = pool.request("PUT", address, body=data, headers=condition)
    if answer.status == HTTPStatus.OK:
        return answer.headers["ETag"].strip('"')
    if answer.status in _LOST or (replaces and answer.status == HTTPStatus.NOT_FOUND):
        return None
    if answer.status == HTTPStatus.FORBIDDEN:
        raise PutRefusedError(f"status {answer.status}")
    raise urllib3.exceptions.HTTPError(f"status {answer.status}")


class PutRefusedError(urllib3.exceptions.HTTPError):
    """The store refuses our credentials, or they lack write access."""
