"""The S3 client of every part: one place that knows how settings become one; each says how long it waits."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3
from minio import Minio

from data_platform_core.settings import ObjectStoreSettings

#: The service's name in messages and metrics.
OBJECT_STORE = "object store"


def s3_client(store: ObjectStoreSettings, pool: urllib3.PoolManager) -> Minio:
    """A client with our credentials, `pool` its timeouts and retries; it connects with the first request."""
    url = urlsplit(store.url)
    return Minio(
        url.netloc,
        access_key=store.access_key.get_secret_value() or None,
        secret_key=store.secret_key.get_secret_value() or None,
        secure=url.scheme == "https",
        region=store.region,
        http_client=pool,
    )
