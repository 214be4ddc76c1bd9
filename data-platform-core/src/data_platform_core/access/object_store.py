"""Policies of the object store in AWS's format, derived from the matrix. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from data_platform_core.access.matrix import Matrix, ObjectStoreAccess, StoreAction
from data_platform_core.access.names import access_key
from data_platform_core.naming import LANDING_ROOT
from data_platform_core.topology import Buckets

#: S3 permissions of each action.
_ACTIONS: Final = {
    StoreAction.READ: ("s3:GetObject", "s3:GetObjectVersion"),
    StoreAction.WRITE: ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
    StoreAction.DELETE: ("s3:DeleteObject",),
}
_LIST: Final = ("s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads")
_METRICS: Final = ("admin:Prometheus",)


def policy(access: ObjectStoreAccess, buckets: Buckets) -> dict[str, Any]:
    """The policy document of one service."""
    statements = []
    for bucket, actions in ((buckets.lake, access.lake), (buckets.ledger, access.ledger)):
        if actions:
            statements.append(_allow(_LIST, bucket))
            statements.append(_allow(_s3(actions), f"{bucket}/*"))
    if access.landing:
        statements.append(_allow(_s3(access.landing), f"{buckets.lake}/{LANDING_ROOT}/*"))
    if access.metrics:
        statements.append(_allow(_METRICS, "*"))
    return {"Version": "2012-10-17", "Statement": statements}


def policies(matrix: Matrix, buckets: Buckets) -> dict[str, dict[str, Any]]:
    """Policy documents by access key, of every service with an account in the store."""
    return {access_key(service): policy(access, buckets) for service, access in matrix.object_store.items()}


def _s3(actions: Iterable[StoreAction]) -> tuple[str, ...]:
    return tuple(name for action in actions for name in _ACTIONS[action])


def _allow(actions: tuple[str, ...], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": [f"arn:aws:s3:::{resource}"]}
