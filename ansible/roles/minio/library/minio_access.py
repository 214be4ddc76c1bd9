#!/usr/bin/python
"""Buckets, users and policies of the object store, by its API.

Runs on the controller with a Python that has MinIO's client. Policies come as data, from the inventory.
"""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: minio_access
short_description: Buckets, and a user per service with the policy of that service
description:
  - Makes what is missing, and changes what differs. It deletes nothing.
options:
  endpoint: {description: Address and port of the store., type: str, required: true}
  secure: {description: Whether it speaks HTTPS., type: bool, default: false}
  authority: {description: File with the authority of its certificate., type: path}
  region: {description: Region of the buckets., type: str, required: true}
  root_user: {description: Name of the root account., type: str, required: true}
  root_password: {description: Its password., type: str, required: true}
  lake: {description: Bucket of the lake., type: str, required: true}
  ledger: {description: Bucket of the ledger., type: str, required: true}
  accounts: {description: By service C(access_key) and C(policy)., type: dict, required: true}
  passwords: {description: Secret key by service., type: dict, required: true}
"""


def normalised(policy: dict[str, Any]) -> list[str]:
    """A policy's statements in a form that does not depend on the order in which the store lists things."""
    statements = []
    for statement in policy.get("Statement", []):
        actions, resources = (_listed(statement.get(key, [])) for key in ("Action", "Resource"))
        statements.append(json.dumps([statement.get("Effect"), actions, resources]))
    return sorted(statements)


def _listed(value: Any) -> list[str]:
    return sorted(value if isinstance(value, list) else [value])


class Access:
    """The store as root sees it. Every method says what it changed, or would change in check mode."""

    def __init__(self, parameters: dict[str, Any], dry: bool) -> None:
        from minio import Minio, MinioAdmin
        from minio.credentials import StaticProvider

        self._parameters, self._dry = parameters, dry
        self._minio, self._http = Minio, _pool(parameters["authority"]) if parameters["secure"] else None
        root = (parameters["root_user"], parameters["root_password"])
        self._client = self._connect(*root)
        self._admin = MinioAdmin(
            endpoint=parameters["endpoint"],
            credentials=StaticProvider(*root),
            region=parameters["region"],
            secure=parameters["secure"],
            http_client=self._http,
        )

    def _connect(self, access_key: str, secret_key: str) -> Any:
        return self._minio(
            self._parameters["endpoint"],
            access_key=access_key,
            secret_key=secret_key,
            secure=self._parameters["secure"],
            region=self._parameters["region"],
            http_client=self._http,
        )

    def buckets(self) -> list[str]:
        """Make the buckets that are missing."""
        wanted = (self._parameters["lake"], self._parameters["ledger"])
        missing = [bucket for bucket in wanted if not self._client.bucket_exists(bucket)]
        for bucket in missing if not self._dry else []:
            self._client.make_bucket(bucket)
        return [f"bucket {bucket}" for bucket in missing]

    def versions(self) -> list[str]:
        """Keep every version of the ledger's objects: evidence is added to, never replaced."""
        from minio.commonconfig import ENABLED
        from minio.versioningconfig import VersioningConfig

        ledger = self._parameters["ledger"]
        if not self._client.bucket_exists(ledger):  # check mode, before the first run
            return [f"versions of bucket {ledger}"]
        if self._client.get_bucket_versioning(ledger).status == ENABLED:
            return []
        if not self._dry:
            self._client.set_bucket_versioning(ledger, VersioningConfig(ENABLED))
        return [f"versions of bucket {ledger}"]

    def policies(self, policies: dict[str, dict[str, Any]]) -> list[str]:
        """Write the policies that are missing or differ."""
        held = json.loads(self._admin.policy_list())
        differ = [name for name, policy in policies.items() if normalised(held.get(name, {})) != normalised(policy)]
        for name in differ if not self._dry else []:
            self._admin.policy_add(name, policy=policies[name])
        return [f"policy {name}" for name in differ]

    def users(self, passwords: dict[str, str]) -> list[str]:
        """Make users that can't log in with their secret key, and give each the policy of its name."""
        changes = []
        for name, password in passwords.items():
            if not self._can_log_in(name, password):
                changes.append(f"user {name}")
                if not self._dry:
                    self._admin.user_add(name, password)
            if name not in self._policies_of(name):
                changes.append(f"policy of user {name}")
                if not self._dry:
                    self._admin.attach_policy([name], user=name)
        return changes

    def _can_log_in(self, name: str, password: str) -> bool:
        """The store never returns a user's key. It shows whether one is valid by refusing the action, not the user."""
        from minio.error import S3Error

        try:
            self._connect(name, password).list_buckets()
        except S3Error as error:
            return error.code == "AccessDenied"
        return True

    def _policies_of(self, name: str) -> set[str]:
        held = json.loads(self._admin.get_policy_entities([name], [], []))
        return {policy for user in held.get("userMappings") or [] for policy in user.get("policies") or []}


def _pool(authority: str | None) -> Any:
    from urllib3 import PoolManager

    return PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=authority)


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(
        argument_spec={
            "endpoint": {"type": "str", "required": True},
            "secure": {"type": "bool", "default": False},
            "authority": {"type": "path"},
            "region": {"type": "str", "required": True},
            "root_user": {"type": "str", "required": True},
            "root_password": {"type": "str", "required": True, "no_log": True},
            "lake": {"type": "str", "required": True},
            "ledger": {"type": "str", "required": True},
            "accounts": {"type": "dict", "required": True},
            "passwords": {"type": "dict", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        from minio.error import MinioAdminException, MinioException
    except ImportError as error:
        module.fail_json(msg=f"{error}: minio_controller_python must be the platform's environment; run `make setup`")
    accounts, passwords = module.params["accounts"], module.params["passwords"]
    policies = {account["access_key"]: account["policy"] for account in accounts.values()}
    users = {account["access_key"]: passwords[service] for service, account in accounts.items()}
    try:
        access = Access(module.params, module.check_mode)
        changes = access.buckets() + access.versions() + access.policies(policies) + access.users(users)
    except (MinioException, MinioAdminException) as error:
        module.fail_json(msg=f"object store at {module.params['endpoint']} refuses its root account: {error}")
    module.exit_json(changed=bool(changes), changes=changes)


if __name__ == "__main__":
    main()
