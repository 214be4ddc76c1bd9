"""The lab's cluster, the parts that need no root and no Go: images, manifests, flags, what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.topology import load_topology
from infra_lab.kubernetes import build, certificates, checks, control_plane, images, manifests, node_files
from infra_lab.kubernetes.layout import (
    DNS_ADDRESS,
    POD_NETWORK,
    SERVICE_NETWORK,
    Layout,
    stack_topology,
    wire,
)
from infra_lab.kubernetes.oci import Images, Layer, Run

pytestmark = pytest.mark.unit


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "cluster", tmp_path / "cache")


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "b.pyc").write_bytes(b"times")
    (folder / "b.py").write_text("b")
    (folder / "a.py").write_text("a")
    return folder


RUN = Run(("/a",), "185:185", {"HOME": "/tmp"})


def test_the_same_content_makes_the_same_image(tmp_path: Path, content: Path) -> None:
    digests = set()
    for number in range(2):
        store = Images(tmp_path / str(number))
        store.build("localhost/a:1", [Layer(content, "/opt/a")], RUN)
        (content / "a.py").touch()
        digests.add(store.digest("localhost/a:1"))
    assert len(digests) == 1


def test_an_image_over_another_has_its_layers_once(tmp_path: Path, content: Path) -> None:
    store = Images(tmp_path / "store")
    store.build("localhost/a:1", [Layer(content, "/opt/a")], RUN)
    store.build("localhost/b:1", [Layer(content / "b.py", "/b.py")], RUN, base="localhost/a:1")
    out = io.BytesIO()
    store.export(["localhost/a:1", "localhost/b:1"], out)
    out.seek(0)
    with tarfile.open(fileobj=out) as archive:
        members = archive.getnames()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert len(members) == len(set(members)) == 2 + 2 * 2 + 2, "two files, two manifests and configs, two layers"
    names = {entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]}
    assert names == {"localhost/a:1", "localhost/b:1"}


def test_a_layer_holds_no_owner_no_time_and_no_compiled_python(tmp_path: Path, content: Path) -> None:
    store = Images(tmp_path / "store")
    store.build("localhost/a:1", [Layer(content, "/opt/a")], RUN)
    blobs = tmp_path / "store" / "blobs" / "sha256"
    (layer,) = (blob for blob in blobs.iterdir() if tarfile.is_tarfile(blob))
    with tarfile.open(layer) as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert sorted(members) == ["opt", "opt/a", "opt/a/a.py", "opt/a/b.py"]
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}
    assert layer.name == hashlib.sha256(layer.read_bytes()).hexdigest()


def test_an_image_built_anew_leaves_no_blob_of_the_old_one(tmp_path: Path, content: Path) -> None:
    store = Images(tmp_path / "store")
    store.build("localhost/a:1", [Layer(content, "/opt/a")], RUN)
    store.build("localhost/a:1", [Layer(content / "a.py", "/a.py")], RUN)
    assert len(list((tmp_path / "store" / "blobs" / "sha256").iterdir())) == 3, "manifest, config, layer"


def test_what_was_made_from_the_same_is_not_made_again(layout: Layout, tmp_path: Path) -> None:
    source, made = tmp_path / "source", []
    source.write_text("one")
    for text in ("one", "one", "two"):
        source.write_text(text)
        build.ensure(layout, "thing", [source], lambda: made.append(source.read_text()))
    build.ensure(layout, "thing", [source], lambda: made.append("other words"), also="other words")
    assert made == ["one", "two", "other words"]


def test_a_failed_build_is_reported_with_the_end_of_its_log_and_retried(layout: Layout) -> None:
    command = ["sh", "-c", "echo compiling; echo no such module >&2; exit 7"]
    with pytest.raises(ServiceError, match=r"tool ended with 7: compiling \| no such module; all of it in .*tool\.log"):
        build.watched(layout, "tool", command, lambda text: None)
    with pytest.raises(ServiceError, match="program no-such-program is missing"):
        build.watched(layout, "tool", ["no-such-program"], lambda text: None)


def test_versions_are_those_of_the_go_modules() -> None:
    assert build.kubernetes_version().split(".")[:2] == ["1", "34"]
    assert f"gitVersion=v{build.kubernetes_version()}" in build._linker_flags()
    with pytest.raises(ConfigurationError, match=r"requires no example\.org/none"):
        build.pinned("cluster", "example.org/none")


@pytest.mark.parametrize("module", ["cluster", "spark-operator"])
def test_go_modules_hold_hashes_and_no_addresses(module: str) -> None:
    for name in ("go.mod", "go.sum"):
        text = (build._GO / module / name).read_text()
        assert "://" not in text.replace("// ", "")


def test_manifests_are_filled_and_pin_every_image(layout: Layout) -> None:
    for name in manifests.names():
        text = manifests.manifest(layout, name)
        assert "{{" not in text
        assert all(document["kind"] for document in yaml.safe_load_all(text))
    dns = list(yaml.safe_load_all(manifests.manifest(layout, "dns")))
    assert dns[-1]["spec"]["clusterIP"] == str(DNS_ADDRESS)
    values = yaml.safe_load(manifests.manifest(layout, "operator-values"))["image"]
    whole = f"{values['registry']}/{values['repository']}:{values['tag']}"
    assert whole == images.OPERATOR.reference, "the chart puts the name together again"


def test_each_mistake_is_one(layout: Layout) -> None:
    right = {manifests.manifest(layout, name) for name in manifests.names()}
    mistakes = list(checks.mistakes(layout))
    assert len(mistakes) >= 4
    assert not {mistake.text for mistake in mistakes} & right


def test_networks_of_the_cluster_do_not_meet() -> None:
    between = wire(stack_topology())
    networks = [POD_NETWORK, SERVICE_NETWORK, between.machine.network]
    assert not any(one.overlaps(other) for one in networks for other in networks if one is not other)
    assert between.node.network == between.machine.network
    with pytest.raises(ConfigurationError, match="topology local has no section pods"):
        wire(load_topology("local"))


def test_the_store_listens_on_loopback_only(layout: Layout) -> None:
    flags = control_plane.etcd_flags(layout, "http://127.0.0.1:1", "http://127.0.0.1:2")
    addresses = [flag.split("=", 1)[1] for flag in flags if "-listen-" in flag.split("=")[0]]
    assert len(addresses) == 2
    assert all(address.startswith("http://127.0.0.1:") for address in addresses)


def test_files_of_the_node_name_its_folders(layout: Layout) -> None:
    node_files.write_node_files(layout, wire(stack_topology()))
    kubelet = yaml.safe_load((layout.config / "kubelet.yaml").read_text())
    assert (
        kubelet["containerRuntimeEndpoint"].removeprefix("unix://") in (layout.config / "containerd.toml").read_text()
    )
    assert kubelet["clusterDNS"] == [str(DNS_ADDRESS)]
    network = json.loads((layout.config / "cni" / "10-pods.conflist").read_text())
    assert network["plugins"][0]["ipam"]["ranges"] == [[{"subnet": str(POD_NETWORK)}]]


def test_certificates_are_private_and_signed_by_the_authority(layout: Layout) -> None:
    certificates.ensure_certificates(layout, "https://10.0.0.2:6443", (), ("admin",))
    folder = layout.certificates
    assert folder.stat().st_mode & 0o077 == 0
    made = (folder / "apiserver.crt").read_bytes()
    certificates.ensure_certificates(layout, "https://10.0.0.2:6443", (), ("admin",))
    assert (folder / "apiserver.crt").read_bytes() == made, "what is there stays"
    assert build.call(["openssl", "verify", "-CAfile", str(folder / "ca.crt"), str(folder / "apiserver.crt")])
    config = yaml.safe_load(layout.kubeconfig.read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://10.0.0.2:6443"


def test_the_end_of_a_part_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"API server: its process ended; see .*server\.log"):
        control_plane.wait_for("API server", lambda: False, (tmp_path / "server.log",), lambda: True)
