"""API tokens and their privileges in Proxmox's access control lists: a path, and privileges below it."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra_lab.proxmox_api.errors import PveError, no_permission

#: Roles of Proxmox, as far as VMs go.
ROLES: Mapping[str, frozenset[str]] = {
    "PVEAuditor": frozenset({"VM.Audit", "Datastore.Audit", "Sys.Audit", "SDN.Audit", "Pool.Audit"}),
    "PVEVMAdmin": frozenset(
        {
            "VM.Allocate", "VM.Audit", "VM.Backup", "VM.Clone", "VM.Config.CDROM", "VM.Config.CPU",
            "VM.Config.Cloudinit", "VM.Config.Disk", "VM.Config.HWType", "VM.Config.Memory", "VM.Config.Network",
            "VM.Config.Options", "VM.Console", "VM.Migrate", "VM.Monitor", "VM.PowerMgmt", "VM.Snapshot",
        }
    ),
    "PVEDatastoreAdmin": frozenset(
        {"Datastore.Allocate", "Datastore.AllocateSpace", "Datastore.AllocateTemplate", "Datastore.Audit"}
    ),
    "PVESDNUser": frozenset({"SDN.Audit", "SDN.Use"}),
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Token:
    """`owner!name`, its secret, and its roles by path. No repr: it would print the secret."""

    owner: str
    name: str
    secret: str
    acl: Mapping[str, tuple[str, ...]]

    @property
    def id(self) -> str:
        return f"{self.owner}!{self.name}"

    def has(self, path: str, privilege: str) -> bool:
        """The longest path of the list that contains `path` decides, as in Proxmox."""
        parts = path.rstrip("/").split("/")
        for length in range(len(parts), 0, -1):
            roles = self.acl.get("/".join(parts[:length]) or "/")
            if roles is not None:
                return any(privilege in ROLES[role] for role in roles)
        return False

    def require(self, path: str, *privileges: str) -> None:
        """Any of the privileges. Raises PveError 403 with Proxmox's message."""
        if not any(self.has(path, privilege) for privilege in privileges):
            raise no_permission(path, *privileges)


class Tokens:
    """The tokens of one Proxmox host."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = {token.id: token for token in tokens}

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """From the file that `crm-lab up` writes."""
        entries = json.loads(path.read_text(encoding="utf-8"))
        return cls([Token(**{**entry, "acl": {p: tuple(r) for p, r in entry["acl"].items()}}) for entry in entries])

    def authenticate(self, header: str | None) -> Token:
        """The token of an `Authorization` header. Raises PveError 401."""
        scheme, _, credentials = (header or "").partition("=")
        if scheme != "PVEAPIToken" or "=" not in credentials:
            raise PveError(401, "No ticket")
        token_id, _, secret = credentials.rpartition("=")
        token = self._tokens.get(token_id)
        if token is None:
            owner, _, name = token_id.partition("!")
            if all(known.owner != owner for known in self._tokens.values()):
                raise PveError(401, f"no such user ('{owner}')")
            raise PveError(401, f"no such token '{name}' for user '{owner}'")
        if not hmac.compare_digest(token.secret, secret):
            raise PveError(401, "invalid token value!")
        return token
