"""Paths of the lab, and its values from the topology."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.paths import INSTALLED_DIR, REPOSITORY_ROOT, environment_folder
from data_platform_core.topology import Topology, load_topology

ENVIRONMENT = "lab"
#: The lab's half of the repository.
LAB_DIR = REPOSITORY_ROOT / "home-server-infra" / "lab"
ANSIBLE_DIR = REPOSITORY_ROOT / "ansible"
CORE_BIN = INSTALLED_DIR / "venvs" / "core" / "bin"
ANSIBLE_BIN = INSTALLED_DIR / "venvs" / "ansible" / "bin"
#: Prefix of the lab's namespaces, links and cgroups: `down` removes those with it, and nothing else.
PREFIX = "crmlab"
APT_CACHE_PORT = 3142


@dataclass(frozen=True)
class LabLayout:
    """Folders and files below `root`; git ignores them all."""

    root: Path

    @property
    def hosts(self) -> Path:
        return self.root / "hosts"

    @property
    def apt_cache(self) -> Path:
        return user_cache() / "apt"

    @property
    def run(self) -> Path:
        """Process ids and logs of background processes."""
        return self.root / "run"

    @property
    def api_state(self) -> Path:
        return self.root / "proxmox" / "state.json"

    @property
    def api_faults(self) -> Path:
        """Failures scheduled for the API by `crm-lab fail`."""
        return self.root / "proxmox" / "faults.json"

    @property
    def api_tokens(self) -> Path:
        return self.root / "proxmox" / "tokens.json"

    @property
    def api_certificate(self) -> Path:
        return self.root / "proxmox" / "api-cert.pem"

    @property
    def api_key(self) -> Path:
        return self.root / "proxmox" / "api-key.pem"

    @property
    def vault(self) -> Path:
        return self.root / "vault.yml"

    @property
    def vault_password(self) -> Path:
        return self.root / "vault-password"

    @property
    def ssh_key(self) -> Path:
        return self.root / "ssh" / "id_ed25519"

    @property
    def variables(self) -> Path:
        """Playbook variables of this lab that a topology can't have: paths on this machine."""
        return self.root / "lab-vars.yml"

    @property
    def authority(self) -> Path:
        """Certificate of the CA that the role pki creates; clients of the lab's Kafka trust it."""
        return self.root / "pki" / "ca.crt"

    @property
    def archives(self) -> Path:
        return self.root / "archives"

    @property
    def logs(self) -> Path:
        """One file per playbook run of `crm-lab test`."""
        return self.root / "logs"


def lab_layout() -> LabLayout:
    """The layout of this checkout."""
    return LabLayout(environment_folder(ENVIRONMENT))


def user_cache() -> Path:
    """Data shared by checkouts: base images and packages, below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "crm-data-platform" / "lab"


def lab_topology() -> Topology:
    """Truth 2 for the lab."""
    return load_topology(ENVIRONMENT)
