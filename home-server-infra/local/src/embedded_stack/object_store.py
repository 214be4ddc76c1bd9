"""The object store: buckets, and a user per service with a policy that allows only what its service needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import STACK
from data_platform_core.access.object_store import policy
from data_platform_core.errors import ServiceError
from data_platform_core.secret_files import write_secret
from data_platform_core.topology import Topology
from embedded_stack.credentials import Account
from embedded_stack.layout import Layout


def prepare_minio(layout: Layout, stack: Account) -> None:
    """Root credentials as files: MinIO reads them, and they stay out of its environment."""
    layout.minio_data.mkdir(mode=0o700, exist_ok=True)
    login = stack.store_login
    write_secret(layout.secrets / "minio-root-user", login[0])
    write_secret(layout.secrets / "minio-root-password", login[1])


def apply_accounts(topology: Topology, accounts: Mapping[str, Account]) -> None:
    """Set up buckets, users and policies from topology and secrets. A second call changes nothing."""
    from minio import Minio, MinioAdmin
    from minio.commonconfig import ENABLED
    from minio.credentials import StaticProvider
    from minio.error import MinioException
    from minio.versioningconfig import VersioningConfig

    store = topology.object_store
    root = accounts[STACK].store_login
    client = Minio(store.address, *root, secure=False, region=store.region)
    admin = MinioAdmin(endpoint=store.address, credentials=StaticProvider(*root), secure=False)
    try:
        for bucket in (store.buckets.lake, store.buckets.ledger):
            if not client.bucket_exists(bucket):
                client.make_bucket(bucket)
        client.set_bucket_versioning(store.buckets.ledger, VersioningConfig(ENABLED))
        for name, access in load_matrix().object_store.items():
            login = accounts[name].store_login
            admin.policy_add(login[0], policy=policy(access, store.buckets))
            admin.user_add(*login)
            _attach(admin, login[0])
    except MinioException as error:
        raise ServiceError(f"object store at {store.url} refuses the stack's account: {error}") from None


def _attach(admin: Any, name: str) -> None:
    """Policy `name` to user `name`; attaching twice is an error in MinIO, so check first."""
    held = json.loads(admin.get_policy_entities([name], [], []))
    mapped = {policy for user in held.get("userMappings") or [] for policy in user.get("policies") or []}
    if name not in mapped:
        admin.attach_policy([name], user=name)
