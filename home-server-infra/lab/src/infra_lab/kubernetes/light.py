"""The light tier: etcd and an API server on loopback. No root, no container, no pod: objects are checked, none runs."""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from data_platform_core.commands import succeeds
from data_platform_core.errors import ServiceError
from infra_lab.background import Background
from infra_lab.kubernetes import control_plane
from infra_lab.kubernetes.build import HELM, KUBE, KUBEAPI, Progress, ensure_programs, monitoring_kinds, operator_source
from infra_lab.kubernetes.certificates import ensure_certificates
from infra_lab.kubernetes.layout import Layout

_LOOPBACK = "127.0.0.1"


def parts(layout: Layout) -> tuple[Background, Background]:
    """Store and API server, in the order in which they start."""
    return Background(layout.run, "etcd"), Background(layout.run, "kube-apiserver")


def is_up(layout: Layout) -> bool:
    """Whether both run and the API server answers."""
    return all(part.process() is not None for part in parts(layout)) and control_plane.api_server_ready(layout)


def up(layout: Layout, progress: Progress) -> None:
    """An empty API server with the operator's kinds. Does nothing when it is up."""
    if is_up(layout):
        progress("the light tier is up")
        return
    down(layout)
    whole = (layout.bin / KUBE.name).is_file()
    ensure_programs(layout, (HELM,) if whole else (KUBEAPI, HELM), progress)
    client_port, peer_port, api_port = _free_ports(3)
    progress("certificates")
    ensure_certificates(layout, f"https://{_LOOPBACK}:{api_port}", (), ("admin",))
    progress("API server")
    _start(layout, f"http://{_LOOPBACK}:{client_port}", f"http://{_LOOPBACK}:{peer_port}", api_port)
    progress("kinds of the operators for Spark and Prometheus")
    add_kinds(layout, [operator_source("config/crd/bases"), monitoring_kinds()])


def down(layout: Layout) -> None:
    """Ends it and forgets its objects. Repeatable."""
    for part in reversed(parts(layout)):
        part.stop()
    for folder in layout.objects:
        shutil.rmtree(folder, ignore_errors=True)


def add_kinds(layout: Layout, folders: list[Path]) -> None:
    """Custom resource definitions; returns when the API server serves them."""
    for folder in folders:
        control_plane.kubectl(layout, "apply", "--server-side", "-f", str(folder))
    established = control_plane.kubectl_command(
        layout, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"
    )
    # It ends in an error while a kind has no condition at all.
    control_plane.wait_for("custom kinds", lambda: succeeds(established), (parts(layout)[1].log,))


def _start(layout: Layout, client: str, peer: str, api_port: int) -> None:
    store, server = parts(layout)
    binary = str(control_plane.program(layout))
    layout.etcd.mkdir(parents=True, mode=0o700)
    store.start([binary, "etcd", *control_plane.etcd_flags(layout, client, peer)])
    # Admission asks for service accounts that only a controller manager makes: without it no pod could be tried.
    flags = [f"--bind-address={_LOOPBACK}", f"--advertise-address={_LOOPBACK}", f"--secure-port={api_port}",
             "--disable-admission-plugins=ServiceAccount"]  # fmt: skip
    server.start([binary, "kube-apiserver", *flags, *control_plane.api_server_flags(layout, client)])

    def ended() -> bool:
        return any(part.process() is None for part in (store, server))

    try:
        control_plane.wait_for(
            "API server", lambda: control_plane.api_server_ready(layout), (server.log, store.log), ended
        )
    except ServiceError as error:
        words = server.last_words(2)
        for part in (server, store):
            part.stop()
        raise ServiceError(f"{error}; its last words: {words}") from None


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now: several checkouts may have a light tier."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((_LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
