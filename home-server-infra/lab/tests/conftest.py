"""What the lab's tests share: a Proxmox API of its own per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_proxmox import SECRET, Api, FakeDriver, first_cluster
from fastapi.testclient import TestClient

from infra_lab.proxmox_api.access import Token, Tokens
from infra_lab.proxmox_api.app import create_app
from infra_lab.proxmox_api.faults import Faults
from infra_lab.proxmox_api.machines import Machines
from infra_lab.proxmox_api.state import Store
from infra_lab.proxmox_api.tasks import TaskList


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    driver, tasks, faults = FakeDriver(), TaskList(), Faults(tmp_path / "faults.json")
    store = Store(tmp_path / "state.json", first_cluster())
    tokens = Tokens(
        [
            Token(
                "automation@pve", "ansible", SECRET,
                {"/": ("PVEAuditor",), "/vms": ("PVEVMAdmin",), "/storage": ("PVEDatastoreAdmin",)},
            ),
            Token("auditor@pve", "ansible", SECRET, {"/": ("PVEAuditor",)}),
        ]
    )  # fmt: skip
    app = create_app(store, Machines(store, driver, tasks, faults, copy_s=0.05), tasks, tokens)
    with TestClient(app) as client:
        yield Api(client, driver, faults, tasks, tmp_path / "state.json")
