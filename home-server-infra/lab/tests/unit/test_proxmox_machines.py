"""A VM's life by the API: clone, describe, grow, start, stop, delete; and what prevents them."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest
from fake_proxmox import Api, first_cluster

from infra_lab.proxmox_api import machines
from infra_lab.proxmox_api.faults import FAILURES
from infra_lab.proxmox_api.state import Store

pytestmark = pytest.mark.unit
VM = "/nodes/pve/qemu/101"


def test_a_clone_is_a_vm_of_its_own(api: Api) -> None:
    assert api.clone(101) == "OK"
    config = api.ask("GET", f"{VM}/config").json()["data"]
    assert config["name"] == "vm101"
    assert config["scsi0"] == "local-lvm:vm-101-disk-0,size=3G"
    assert "template" not in config
    assert config["net0"].startswith("virtio=BC:24:11:")
    assert "BC:24:11:00:00:01" not in config["net0"]


def test_a_new_vm_is_locked_until_its_copy_is_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = threading.Event()
    monkeypatch.setattr(machines, "time", SimpleNamespace(sleep=lambda _seconds: whole.wait(60)))
    upid = api.ask("POST", "/nodes/pve/qemu/9000/clone", newid=101, full=1).json()["data"]
    assert upid.startswith("UPID:pve:")
    assert upid.endswith(":qmclone:9000:automation@pve!ansible:")
    answer = api.ask("POST", f"{VM}/status/start")
    assert (answer.status_code, answer.json()["message"]) == (500, "VM is locked (clone)")
    whole.set()
    api.tasks.wait()
    assert api.task("POST", f"{VM}/status/start") == "OK"


def test_a_change_of_configuration(api: Api) -> None:
    api.clone(101)
    keys = "ssh-ed25519%20AAAA%20me"
    answer = api.ask("PUT", f"{VM}/config", cores=2, memory=2048, ipconfig0="ip=10.0.0.5/24,gw=10.0.0.1", sshkeys=keys)
    assert (answer.status_code, answer.json()) == (200, {"data": None})
    config = api.ask("GET", f"{VM}/config").json()["data"]
    assert (config["cores"], config["memory"], config["sshkeys"]) == (2, "2048", keys)
    api.ask("PUT", f"{VM}/config", delete="sshkeys")
    assert "sshkeys" not in api.ask("GET", f"{VM}/config").json()["data"]


def test_a_change_on_an_old_view_is_refused(api: Api) -> None:
    api.clone(101)
    digest = api.ask("GET", f"{VM}/config").json()["data"]["digest"]
    assert api.ask("PUT", f"{VM}/config", cores=2, digest=digest).status_code == 200
    assert "file changed by other user" in api.ask("PUT", f"{VM}/config", cores=3, digest=digest).json()["message"]


def test_passwords_are_starred(api: Api) -> None:
    api.clone(101)
    api.ask("PUT", f"{VM}/config", cipassword="hidden")
    assert "hidden" not in api.ask("GET", f"{VM}/config").text
    assert api.state.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("asked", "shown"), [("20G", "20G"), ("+2G", "5G"), ("3584M", "3584M")])
def test_a_disk_grows(api: Api, asked: str, shown: str) -> None:
    api.clone(101)
    assert api.task("PUT", f"{VM}/resize", disk="scsi0", size=asked) == "OK"
    assert api.ask("GET", f"{VM}/config").json()["data"]["scsi0"].endswith(f"size={shown}")


def test_a_disk_never_shrinks(api: Api) -> None:
    api.clone(101)
    assert api.task("PUT", f"{VM}/resize", disk="scsi0", size="1G") == "shrinking disks is not supported"
    assert api.ask("PUT", f"{VM}/resize", disk="scsi7", size="9G").json()["message"] == "disk 'scsi7' does not exist"


def test_start_and_end(api: Api) -> None:
    api.clone(101)
    assert api.task("POST", f"{VM}/status/start") == "OK"
    assert api.driver.boots[101]["name"] == "vm101"
    assert api.ask("GET", f"{VM}/status/current").json()["data"]["status"] == "running"
    assert api.task("POST", f"{VM}/status/start") == "VM 101 already running"
    assert api.task("POST", f"{VM}/status/shutdown", timeout=5, forceStop=1) == "OK"
    assert api.ask("GET", f"{VM}/status/current").json()["data"]["status"] == "stopped"
    api.task("POST", f"{VM}/status/start")
    assert api.task("POST", f"{VM}/status/stop") == "OK"
    assert api.driver.killed == [101]


def test_a_host_that_died_is_stopped(api: Api) -> None:
    api.clone(101)
    api.task("POST", f"{VM}/status/start")
    api.driver.up.clear()
    assert api.ask("GET", f"{VM}/status/current").json()["data"]["status"] == "stopped"


def test_a_running_or_protected_vm_is_not_destroyed(api: Api) -> None:
    api.clone(101)
    api.task("POST", f"{VM}/status/start")
    assert api.ask("DELETE", VM).json()["message"] == "VM 101 is running - destroy failed"
    api.task("POST", f"{VM}/status/stop")
    api.ask("PUT", f"{VM}/config", protection=1)
    assert api.ask("DELETE", VM).json()["message"] == "can't remove VM 101 - protection mode enabled"
    api.ask("PUT", f"{VM}/config", protection=0)
    assert api.task("DELETE", VM) == "OK"
    assert api.ask("GET", f"{VM}/config").status_code == 500


def test_a_template_is_made(api: Api) -> None:
    made = api.task(
        "POST", "/nodes/pve/qemu", vmid=9001, name="other", memory=1024, net0="virtio,bridge=vmbr0",
        scsi0="local-lvm:0,import-from=local:import/image.qcow2", ide2="local-lvm:cloudinit",
    )  # fmt: skip
    assert made == "OK"
    assert api.task("POST", "/nodes/pve/qemu/9001/template") == "OK"
    config = api.ask("GET", "/nodes/pve/qemu/9001/config").json()["data"]
    assert (config["template"], config["scsi0"]) == (1, "local-lvm:vm-9001-disk-0,size=3G")


@pytest.mark.parametrize("kind", ["clone", "next"])
def test_an_ordered_failure_happens_once(api: Api, kind: str) -> None:
    api.faults.order(kind, 1)
    assert api.clone(101) == FAILURES["clone"]
    # As on a real host, nothing is left of it, and the next attempt succeeds.
    assert api.ask("GET", f"{VM}/config").status_code == 500
    assert api.clone(101) == "OK"
    assert api.faults.ordered() == {}


def test_orders_of_two_processes_add_up(api: Api) -> None:
    api.faults.order("start", 40)
    takers = [threading.Thread(target=lambda: [api.faults.take("start") for _ in range(10)]) for _ in range(4)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert api.faults.ordered() == {}


def test_state_survives_a_restart_and_locks_do_not(api: Api) -> None:
    api.clone(101)
    state = json.loads(api.state.read_text())
    state["vms"]["101"]["lock"] = "clone"
    api.state.write_text(json.dumps(state))
    with Store(api.state, first_cluster()).reading() as cluster:
        assert cluster.vms[101].config["name"] == "vm101"
        assert cluster.vms[101].lock is None


def test_lists_for_the_modules(api: Api) -> None:
    nodes = api.ask("GET", "/nodes").json()["data"]
    assert [(node["node"], node["status"]) for node in nodes] == [("pve", "online"), ("pve2", "online")]
    assert [row["storage"] for row in api.ask("GET", "/storage").json()["data"]] == ["local-lvm", "elsewhere"]
    assert [row["storage"] for row in api.ask("GET", "/nodes/pve/storage").json()["data"]] == ["local-lvm"]
    assert api.ask("GET", "/cluster/nextid").json()["data"] == "100"
    volumes = api.ask("GET", "/nodes/pve/storage/local-lvm/content", content="images").json()["data"]
    assert [volume["volid"] for volume in volumes] == ["local-lvm:base-9000-disk-0"]
