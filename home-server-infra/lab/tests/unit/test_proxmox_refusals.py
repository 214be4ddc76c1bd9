"""What Proxmox refuses, and with which message: the real host prints the same ones."""

from __future__ import annotations

from typing import Any

import pytest
from fake_proxmox import SECRET, Api

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "No ticket"),
        ("PVEAPIToken=nobody@pve!ansible=x", "no such user ('nobody@pve')"),
        ("PVEAPIToken=automation@pve!other=x", "no such token 'other' for user 'automation@pve'"),
        ("PVEAPIToken=automation@pve!ansible=wrong", "invalid token value!"),
    ],
)
def test_a_wrong_token_is_unauthorised(api: Api, header: str | None, reason: str) -> None:
    answer = api.client.get("/api2/json/version", headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.json()["message"]) == (401, reason)
    assert answer.headers["x-status-reason"] == reason


def test_the_secret_is_in_no_answer(api: Api) -> None:
    wrong = {"Authorization": f"PVEAPIToken=automation@pve!ansible={SECRET}0"}
    assert SECRET not in api.client.get("/api2/json/version", headers=wrong).text


@pytest.mark.parametrize(
    ("method", "path", "given", "missing"),
    [
        ("POST", "/nodes/pve/qemu/9000/clone", {"newid": 101}, "/vms/9000, VM.Clone"),
        ("PUT", "/nodes/pve/qemu/9000/config", {"cores": 2}, "/vms/9000, VM.Config.CPU"),
        ("PUT", "/nodes/pve/qemu/9000/config", {"ciuser": "x"}, "/vms/9000, VM.Config.Cloudinit"),
        ("PUT", "/nodes/pve/qemu/9000/resize", {"disk": "scsi0", "size": "9G"}, "/vms/9000, VM.Config.Disk"),
        ("POST", "/nodes/pve/qemu/9000/status/start", {}, "/vms/9000, VM.PowerMgmt"),
        ("DELETE", "/nodes/pve/qemu/9000", {}, "/vms/9000, VM.Allocate"),
    ],
)
def test_a_token_needs_the_privilege(api: Api, method: str, path: str, given: dict[str, Any], missing: str) -> None:
    answer = api.ask(method, path, user="auditor@pve", **given)
    assert (answer.status_code, answer.json()["message"]) == (403, f"Permission check failed ({missing})")


def test_every_wrong_parameter_is_named(api: Api) -> None:
    answer = api.ask("PUT", "/nodes/pve/qemu/9000/config", cores="many", memory=1, nmae="x", name="a b")
    assert answer.status_code == 400
    assert answer.json()["message"] == "Parameter verification failed."
    assert answer.json()["errors"] == {
        "cores": "type check ('integer') failed - got 'many'",
        "memory": "value must have a minimum value of 16",
        "nmae": "property is not defined in schema and the schema does not allow additional properties",
        "name": "invalid format - value does not look like a valid DNS name",
    }


def test_a_missing_parameter_is_named(api: Api) -> None:
    answer = api.ask("POST", "/nodes/pve/qemu/9000/clone", name="x")
    assert answer.json()["errors"] == {"newid": "property is missing and it is not optional"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ipconfig0", "ip=10.0.0.1"), ("ipconfig0", "gw=10.0.0.1"), ("net0", "card,bridge=vmbr0"), ("tags", "a,-b"),
        ("sshkeys", "ssh-ed25519 AAAA plain"), ("onboot", "maybe"), ("scsihw", "none"),
    ],
)  # fmt: skip
def test_values_have_a_form(api: Api, key: str, value: str) -> None:
    answer = api.ask("PUT", "/nodes/pve/qemu/9000/config", **{key: value})
    assert list(answer.json()["errors"]) == [key]


CLONE = "/nodes/pve/qemu/9000/clone"
NO_SUCH_NODE = "failed to get address info for: pve9: Name or service not known"


@pytest.mark.parametrize(
    ("method", "path", "given", "reason"),
    [
        ("POST", CLONE, {"newid": 101, "full": 1, "storage": "nowhere"}, "storage 'nowhere' does not exist"),
        (
            "POST", CLONE, {"newid": 101, "full": 1, "storage": "elsewhere"},
            "storage 'elsewhere' is not available on node 'pve'",
        ),
        (
            "POST", CLONE, {"newid": 9000, "full": 1},
            "unable to create VM 9000: VM 9000 already exists on node 'pve'",
        ),
        (
            "POST", CLONE, {"newid": 101, "full": 1, "target": "pve2"},
            "can't clone VM to node 'pve2' (VM uses local storage)",
        ),
        (
            "GET", "/nodes/pve/qemu/777/config", {},
            "Configuration file 'nodes/pve/qemu-server/777.conf' does not exist",
        ),
        ("GET", "/nodes/pve9/qemu", {}, f"hostname lookup 'pve9' failed - {NO_SUCH_NODE}"),
        ("POST", "/nodes/pve/qemu/9000/status/start", {}, "you can't start a vm if it's a template"),
        ("PUT", "/nodes/pve/qemu/9000/config", {"net0": "virtio,bridge=vmbr7"}, "bridge 'vmbr7' does not exist"),
        ("GET", "/storage/nowhere", {}, "storage 'nowhere' does not exist"),
    ],
)  # fmt: skip
def test_what_is_not_there_or_taken(api: Api, method: str, path: str, given: dict[str, Any], reason: str) -> None:
    answer = api.ask(method, path, **given)
    assert (answer.status_code, answer.json()["message"]) == (500, reason)


def test_an_unknown_call_is_refused(api: Api) -> None:
    answer = api.ask("GET", "/cluster/ha/groups")
    assert (answer.status_code, answer.json()["message"]) == (501, "Method 'GET /cluster/ha/groups' not implemented")


def test_a_refused_clone_leaves_nothing(api: Api) -> None:
    api.ask("POST", "/nodes/pve/qemu/9000/clone", newid=101, full=1, storage="nowhere")
    assert [row["vmid"] for row in api.ask("GET", "/cluster/resources").json()["data"]] == [9000]
