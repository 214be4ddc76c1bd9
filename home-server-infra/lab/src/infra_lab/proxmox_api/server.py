"""The API as a process: TLS on loopback, and error texts in the status line, where Proxmox's clients expect them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import h11
import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from data_platform_core.topology import Topology
from infra_lab.hosts import Hosts
from infra_lab.image import chosen_recipe, image_path
from infra_lab.layout import LabLayout, lab_layout, lab_topology
from infra_lab.network import LabNetwork
from infra_lab.proxmox_api.access import Tokens
from infra_lab.proxmox_api.app import REASON_HEADER, create_app
from infra_lab.proxmox_api.driver import NspawnDriver
from infra_lab.proxmox_api.faults import Faults
from infra_lab.proxmox_api.machines import Machines
from infra_lab.proxmox_api.state import Cluster, Storage, Store, Vm
from infra_lab.proxmox_api.tasks import TaskList

#: Where the image of a template would lie on a real host; every node has it.
IMAGE_STORAGE = "local"


class _ReasonConnection(h11.Connection):
    """Writes the text of REASON_HEADER into the status line, which ASGI can't set."""

    def send(self, event: Any) -> Any:
        if isinstance(event, h11.Response):
            headers = dict(event.headers)
            reason = headers.pop(REASON_HEADER.encode(), event.reason)
            event = h11.Response(
                status_code=event.status_code, headers=list(headers.items()), reason=reason.replace(b"\n", b" ")
            )
        return super().send(event)


class PveProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, with Proxmox's status lines."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = _ReasonConnection(h11.SERVER)


def first_cluster(topology: Topology) -> Cluster:
    """A host as it is before the first playbook: the template, the storages, the bridge, and no other VM.

    VMs on more than one node need shared storage to be clones of one template; on one node it is as local as LVM.
    """
    proxmox = topology.proxmox
    assert proxmox is not None
    nodes = sorted({host.vm.node for host in topology.hosts.values()} | {proxmox.template.node})
    template = {
        "name": proxmox.template.name, "memory": "1024", "cores": "1", "agent": "1", "ostype": "l26",
        "scsihw": "virtio-scsi-single", "boot": "order=scsi0", "serial0": "socket", "vga": "serial0", "template": "1",
        "net0": f"virtio=BC:24:11:00:00:01,bridge={proxmox.bridge}",
        "scsi0": f"{proxmox.storage}:base-{proxmox.template.vmid}-disk-0,size=3G",
        "ide2": f"{proxmox.storage}:vm-{proxmox.template.vmid}-cloudinit,media=cdrom",
    }  # fmt: skip
    shared = len(nodes) > 1
    return Cluster(
        nodes=nodes,
        bridges=[proxmox.bridge],
        storages={
            IMAGE_STORAGE: Storage("dir", "iso,vztmpl,import"),
            proxmox.storage: Storage("rbd" if shared else "lvmthin", "images,rootdir", shared),
        },
        vms={proxmox.template.vmid: Vm(proxmox.template.node, template)},
    )


def build(layout: LabLayout, topology: Topology) -> tuple[FastAPI, TaskList]:
    """The app with hosts behind it, and its tasks."""
    proxmox = topology.proxmox
    assert proxmox is not None
    recipe = chosen_recipe(proxmox.template.name)
    network = LabNetwork(proxmox.gateway, proxmox.prefix_length)
    driver = NspawnDriver(Hosts(layout.hosts, image_path(recipe), recipe, network))
    store, tasks = Store(layout.api_state, first_cluster(topology)), TaskList()
    machines = Machines(store, driver, tasks, Faults(layout.api_faults))
    return create_app(store, machines, tasks, Tokens.read(layout.api_tokens)), tasks


def main(arguments: list[str]) -> None:
    """`python -m infra_lab.proxmox_api.server [folder of the lab]`."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    layout = LabLayout(Path(arguments[0])) if arguments else lab_layout()
    topology = lab_topology()
    assert topology.proxmox is not None
    app, tasks = build(layout, topology)
    config = uvicorn.Config(
        app,
        host=topology.proxmox.api_host,
        port=topology.proxmox.api_port,
        http=PveProtocol,
        ssl_certfile=str(layout.api_certificate),
        ssl_keyfile=str(layout.api_key),
        log_level="warning",
    )
    asyncio.run(uvicorn.Server(config).serve())
    tasks.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
