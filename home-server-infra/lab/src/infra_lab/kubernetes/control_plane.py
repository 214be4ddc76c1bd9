"""Store and API server: what the node and the light tier have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from data_platform_core.commands import call, succeeds
from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until
from infra_lab.kubernetes.build import KUBE, KUBEAPI
from infra_lab.kubernetes.layout import SERVICE_NETWORK, Layout

_POLL_SECONDS = 0.2
#: For whatever a cluster does by itself; a busy machine of two cores took 30 s.
PATIENCE_SECONDS = 180.0


def program(layout: Layout) -> Path:
    """The binary with the API server in it: the node's where there is one, else the light tier's."""
    whole = layout.bin / KUBE.name
    return whole if whole.is_file() else layout.bin / KUBEAPI.name


def etcd_flags(layout: Layout, client: str, peer: str) -> list[str]:
    """A store of one member on loopback. Without fsync: objects of a lab may be lost with the machine."""
    return [
        f"--data-dir={layout.etcd}", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync", "--log-level=warn",
    ]  # fmt: skip


def api_server_flags(layout: Layout, store: str) -> list[str]:
    """Who it believes, what it shows, where it keeps objects."""
    folder = layout.certificates
    return [
        f"--etcd-servers={store}", f"--service-cluster-ip-range={SERVICE_NETWORK}", "--authorization-mode=Node,RBAC",
        f"--client-ca-file={folder / 'ca.crt'}",
        f"--tls-cert-file={folder / 'apiserver.crt'}", f"--tls-private-key-file={folder / 'apiserver.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={folder / 'service-account.pub'}",
        f"--service-account-signing-key-file={folder / 'service-account.key'}",
    ]  # fmt: skip


def kubectl_command(layout: Layout, *arguments: str) -> list[str]:
    """kubectl as the administrator."""
    return [str(program(layout)), "kubectl", f"--kubeconfig={layout.kubeconfig}", *arguments]


def kubectl(layout: Layout, *arguments: str, stdin: str = "") -> str:
    """What kubectl prints. Raises ServiceError with its last words."""
    return call(kubectl_command(layout, *arguments), stdin=stdin)


def api_server_ready(layout: Layout) -> bool:
    """Whether it answers and has all that it waits for."""
    return layout.kubeconfig.is_file() and succeeds(
        kubectl_command(layout, "get", "--raw", "/readyz", "--request-timeout=2s")
    )


def wait_for(
    what: str, ready: Callable[[], bool], logs: Sequence[Path], ended: Callable[[], bool] = lambda: False
) -> None:
    """Until `ready`. Raises ServiceError naming `what` and the logs, at once when what should do it has `ended`."""
    if ask_until(bool, lambda: ready() or ended(), within_s=PATIENCE_SECONDS, every_s=_POLL_SECONDS) and ready():
        return
    reason = "its process ended" if ended() else f"not after {PATIENCE_SECONDS:g} s"
    raise ServiceError(f"{what}: {reason}; see {' and '.join(str(log) for log in logs)}")
