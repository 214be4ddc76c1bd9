"""The object store as accounting reads it: the ledger's objects, by the S3 API."""

from __future__ import annotations

import urllib3
from minio import Minio

from data_platform_core import object_store
from data_platform_core.lake.delta import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S, TRIES
from data_platform_core.settings import ObjectStoreSettings


def s3_client(settings: ObjectStoreSettings) -> Minio:
    """A client with our credentials and accounting's timeouts; it connects with the first request."""
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=REQUEST_TIMEOUT_S),
        retries=urllib3.Retry(total=TRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
    )
    return object_store.s3_client(settings, pool)
