"""The lab as functions: start, stop, status. `crm-lab` and the chain of tests call them."""

from __future__ import annotations

import shutil
import socket
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import httpx

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.topology import Topology
from data_platform_core.topology.hosts import Proxmox
from data_platform_core.waiting import ask_until
from infra_lab import kafka_archive, needs
from infra_lab.background import Background
from infra_lab.hosts import Hosts
from infra_lab.image import Recipe, available, chosen_recipe, ensure_image, image_path
from infra_lab.layout import APT_CACHE_PORT, ENVIRONMENT, LabLayout, lab_layout, lab_topology
from infra_lab.network import LabNetwork
from infra_lab.private_files import API_USER, TOKEN_NAME, ensure_secrets, token_secret
from infra_lab.proxmox_api.driver import host_name
from infra_lab.proxmox_api.faults import Faults

_START_SECONDS = 30
_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.2
#: Called before each step.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One line of `crm-lab status`."""

    name: str
    state: str
    detail: str


@dataclass(frozen=True)
class Lab:
    """The lab of one checkout."""

    layout: LabLayout
    topology: Topology

    @property
    def proxmox(self) -> Proxmox:
        """Raises ConfigurationError if the topology lacks the section."""
        if self.topology.proxmox is None:
            raise ConfigurationError(f"topology {ENVIRONMENT} has no section proxmox")
        return self.topology.proxmox

    @cached_property
    def recipe(self) -> Recipe:
        return chosen_recipe(self.proxmox.template.name)

    @property
    def network(self) -> LabNetwork:
        return LabNetwork(self.proxmox.gateway, self.proxmox.prefix_length)

    @property
    def hosts(self) -> Hosts:
        return Hosts(self.layout.hosts, image_path(self.recipe), self.recipe, self.network)

    @property
    def faults(self) -> Faults:
        return Faults(self.layout.api_faults)

    @property
    def api(self) -> Background:
        return Background(self.layout.run, "proxmox-api")

    @property
    def apt_cache(self) -> Background:
        return Background(self.layout.run, "apt-cache")

    def test_host(self, name: str) -> str:
        """The test host behind a host of the topology. Raises ConfigurationError for an unknown name."""
        host = self.topology.hosts.get(name)
        if host is None:
            known = ", ".join(self.topology.hosts)
            raise ConfigurationError(f"host {name} is not in topology {ENVIRONMENT}; one of: {known}")
        return host_name(host.vm.id)


def this_lab() -> Lab:
    """The lab of this checkout."""
    return Lab(lab_layout(), lab_topology())


def up(lab: Lab, progress: Progress) -> None:
    """Start everything except the hosts, which `proxmox.yml` creates. Repeatable; running parts are kept."""
    needs.require(lab.layout.root)
    wanted = lab.proxmox.template.name
    if not wanted.startswith(lab.recipe.name):
        reason = next(why for name, why in available().items() if wanted.startswith(name))
        progress(f"template {wanted} stands for {lab.recipe.name} here: {reason}")
    progress(f"image {lab.recipe.name}" + ("" if image_path(lab.recipe).is_dir() else ": a minute, once"))
    ensure_image(lab.recipe)
    progress(f"network {lab.proxmox.network} on {lab.network.wire}")
    lab.network.up()
    progress("apt cache")
    _start_apt_cache(lab)
    progress("certificate, keys, tokens, vault")
    ensure_secrets(lab.layout, lab.topology)
    progress(f"Proxmox API on https://{lab.proxmox.api_host}:{lab.proxmox.api_port}")
    _start_api(lab)
    for line in kafka_archive.LINES:
        progress(f"archive {line.name}")
        kafka_archive.ensure_archive(line, lab.layout.archives, lab.layout.root / "jars")


def down(lab: Lab, progress: Progress, delete: bool = False) -> None:
    """Stop everything the lab started; `delete` also deletes the hosts and Proxmox's state of them."""
    progress("Proxmox API")
    lab.api.stop()
    names = lab.hosts.names()
    progress(f"{len(names)} hosts")
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        list(pool.map(lab.hosts.destroy if delete else lab.hosts.shutdown, names))
    progress("apt cache and network")
    lab.apt_cache.stop()
    lab.network.down()
    if delete:
        lab.layout.api_state.unlink(missing_ok=True)
        lab.layout.api_faults.unlink(missing_ok=True)
        # The certificates are of deleted hosts.
        shutil.rmtree(lab.layout.root / "pki", ignore_errors=True)


def status(lab: Lab) -> list[Row]:
    """Running and missing parts."""
    rows = [Row("image", "made" if image_path(lab.recipe).is_dir() else "missing", str(image_path(lab.recipe)))]
    rows += [Row("network", "up" if lab.network.exists() else "down", str(lab.proxmox.network))]
    rows += [_process_row("apt cache", lab.apt_cache, f"{lab.proxmox.gateway}:{APT_CACHE_PORT}")]
    rows += [_process_row("proxmox api", lab.api, f"https://{lab.proxmox.api_host}:{lab.proxmox.api_port}")]
    for name, host in lab.topology.hosts.items():
        state = _host_state(lab, host_name(host.vm.id), host.address)
        rows.append(Row(name, state, f"VM {host.vm.id}, {host.address}"))
    for kind, count in lab.faults.ordered().items():
        rows.append(Row(f"fails: {kind}", "ordered", f"{count} times"))
    return rows


def playbook_command(lab: Lab, playbook: str, *options: str) -> list[str]:
    """`ansible-playbook` with this lab's inventory, vault and variables; it runs in the folder `ansible/`."""
    return [
        "ansible-playbook", "-i", "inventories/lab", f"playbooks/{playbook}.yml",
        "-e", f"@{lab.layout.variables}", "-e", f"@{lab.layout.vault}",
        "--vault-password-file", str(lab.layout.vault_password), *options,
    ]  # fmt: skip


def _process_row(name: str, background: Background, address: str) -> Row:
    process = background.process()
    if process is None:
        return Row(name, "down", background.last_words(1))
    return Row(name, "up", f"{address}, pid {process.pid}")


def _host_state(lab: Lab, host: str, address: str) -> str:
    if host not in lab.hosts.names():
        return "not made"
    if not lab.hosts.running(host):
        return "stopped"
    return "up" if answers(address, 22) else "boots"


def answers(address: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether something listens at that address."""
    try:
        with socket.create_connection((address, port), timeout_s):
            return True
    except OSError:
        return False


def _start_apt_cache(lab: Lab) -> None:
    where = [lab.proxmox.gateway, str(APT_CACHE_PORT), str(lab.layout.apt_cache)]
    lab.apt_cache.start([sys.executable, "-m", "infra_lab.apt_cache", *where])
    _wait_for(lab.apt_cache, lambda: answers(lab.proxmox.gateway, APT_CACHE_PORT))


def _start_api(lab: Lab) -> None:
    if lab.api.process() is None and answers(lab.proxmox.api_host, lab.proxmox.api_port):
        raise ServiceError(f"port {lab.proxmox.api_port} of {lab.proxmox.api_host} is taken; see `ss -ltnp`")
    lab.api.start([sys.executable, "-m", "infra_lab.proxmox_api.server", str(lab.layout.root)])
    _wait_for(lab.api, lambda: _api_version(lab) is not None)


def _api_version(lab: Lab) -> str | None:
    """As a client sees it: TLS checked against the lab's certificate, the playbooks' token accepted."""
    trust = ssl.create_default_context(cafile=str(lab.layout.api_certificate))
    token = f"PVEAPIToken={API_USER}!{TOKEN_NAME}={token_secret(lab.layout, API_USER)}"
    url = f"https://{lab.proxmox.api_host}:{lab.proxmox.api_port}/api2/json/version"
    try:
        # trust_env: a proxy of the environment must not be used for loopback.
        with httpx.Client(verify=trust, timeout=_ASK_SECONDS, trust_env=False) as client:
            answer = client.get(url, headers={"Authorization": token})
    except httpx.HTTPError:
        return None
    return str(answer.json()["data"]["version"]) if answer.status_code == 200 else None


def _wait_for(background: Background, ready: Callable[[], bool]) -> None:
    """Wait until `ready`. Raises ServiceError with the log's end after a timeout or if it has exited."""
    decided = ask_until(
        bool, lambda: background.process() is None or ready(), within_s=_START_SECONDS, every_s=_POLL_SECONDS
    )
    if not decided:
        raise ServiceError(f"{background.name} does not answer in {_START_SECONDS} s: {background.last_words()}")
    if background.process() is None:
        raise ServiceError(f"{background.name} ended: {background.last_words()}")
