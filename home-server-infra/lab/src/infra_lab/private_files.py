"""The lab's generated secrets: certificate, ssh key, API token, vault. Created once, private."""

from __future__ import annotations

import json
import uuid
from typing import Any

import yaml

from data_platform_core.commands import call
from data_platform_core.errors import ServiceError
from data_platform_core.secret_files import new_secret, write_secret
from data_platform_core.topology import Topology
from infra_lab.layout import ANSIBLE_BIN, ANSIBLE_DIR, LabLayout

#: The token of the playbooks, and a read-only one.
API_USER = "automation@pve"
TOKEN_NAME = "ansible"
AUDITOR_USER = "auditor@pve"
#: Lists every secret of the roles; the lab generates a value for each placeholder.
VAULT_EXAMPLE = ANSIBLE_DIR / "inventories" / "home" / "group_vars" / "all" / "vault.example.yml"
_PLACEHOLDER = "CHANGE_ME"
_CERTIFICATE_DAYS = 825


def ensure_secrets(layout: LabLayout, topology: Topology) -> None:
    """Create all files of this module; existing ones are kept."""
    # Not the root itself: PostgreSQL's user must traverse it in a run.
    for folder in (layout.api_state.parent, layout.ssh_key.parent, layout.logs, layout.run):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    _ensure_certificate(layout, topology)
    if not layout.ssh_key.is_file():
        call(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "crm-lab", "-f", str(layout.ssh_key)])
    _ensure_tokens(layout, topology)
    _ensure_vault(layout)
    _write_variables(layout)


def _ensure_certificate(layout: LabLayout, topology: Topology) -> None:
    """Self-signed, like a fresh Proxmox host's: clients must be configured to trust it (`proxmox_vm_api_ca`)."""
    assert topology.proxmox is not None
    if layout.api_certificate.is_file() and layout.api_key.is_file():
        return
    call(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            str(_CERTIFICATE_DAYS),
            "-subj",
            "/O=lab/CN=proxmox",
            "-addext",
            f"subjectAltName=IP:{topology.proxmox.api_host}",
            "-keyout",
            str(layout.api_key),
            "-out",
            str(layout.api_certificate),
        ]
    )
    layout.api_key.chmod(0o600)


def _ensure_tokens(layout: LabLayout, topology: Topology) -> None:
    """The playbooks' token has exactly the privileges documented for a real host; the auditor's can only read."""
    assert topology.proxmox is not None
    if layout.api_tokens.is_file():
        return
    acl = {
        "/": ["PVEAuditor"],
        "/vms": ["PVEVMAdmin"],
        f"/storage/{topology.proxmox.storage}": ["PVEDatastoreAdmin"],
        "/sdn/zones": ["PVESDNUser"],
    }
    tokens = [
        {"owner": API_USER, "name": TOKEN_NAME, "secret": str(uuid.uuid4()), "acl": acl},
        {"owner": AUDITOR_USER, "name": TOKEN_NAME, "secret": str(uuid.uuid4()), "acl": {"/": ["PVEAuditor"]}},
    ]
    write_secret(layout.api_tokens, json.dumps(tokens, indent=1))


def token_secret(layout: LabLayout, owner: str) -> str:
    """The secret of a token of this lab."""
    entries = json.loads(layout.api_tokens.read_text(encoding="utf-8"))
    return str(next(entry["secret"] for entry in entries if entry["owner"] == owner))


def _ensure_vault(layout: LabLayout) -> None:
    """Random passwords, encrypted by ansible-vault; in clear text they only pass through a pipe."""
    if layout.vault.is_file():
        return
    ansible_vault = ANSIBLE_BIN / "ansible-vault"
    if not ansible_vault.is_file():
        raise ServiceError(f"{ansible_vault} is missing; `make lab-up` installs Ansible first")
    if not layout.vault_password.is_file():
        write_secret(layout.vault_password, new_secret() + "\n")
    values = filled(yaml.safe_load(VAULT_EXAMPLE.read_text(encoding="utf-8")))
    values |= {
        "vault_proxmox_api_user": API_USER,
        "vault_proxmox_api_token_id": TOKEN_NAME,
        "vault_proxmox_api_token_secret": token_secret(layout, API_USER),
    }
    encrypted = call(
        [str(ansible_vault), "encrypt", "--vault-password-file", str(layout.vault_password), "--output", "-"],
        stdin=yaml.safe_dump(values),
    )
    write_secret(layout.vault, encrypted)


def filled(example: dict[str, Any]) -> dict[str, Any]:
    """The example vault with a secret in place of each placeholder."""
    return {
        name: filled(value) if isinstance(value, dict) else new_secret() if value == _PLACEHOLDER else value
        for name, value in example.items()
    }


def read_vault(layout: LabLayout) -> dict[str, Any]:
    """The decrypted vault, for checks that connect to Kafka; never printed."""
    ansible_vault = str(ANSIBLE_BIN / "ansible-vault")
    text = call([ansible_vault, "view", "--vault-password-file", str(layout.vault_password), str(layout.vault)])
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def _write_variables(layout: LabLayout) -> None:
    """Variables of the role proxmox_vm that depend on this machine."""
    values = {
        "proxmox_vm_api_user": API_USER,
        "proxmox_vm_api_token_id": TOKEN_NAME,
        "proxmox_vm_api_ca": str(layout.api_certificate),
        "proxmox_vm_ssh_public_key": layout.ssh_key.with_suffix(".pub").read_text(encoding="utf-8").strip(),
    }
    layout.variables.write_text(yaml.safe_dump(values), encoding="utf-8")
