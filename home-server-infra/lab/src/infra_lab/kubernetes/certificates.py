"""The cluster's authority, a certificate per component, and the kubeconfigs that hold them. Made once per cluster."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Iterable
from pathlib import Path

from data_platform_core.commands import call
from data_platform_core.secret_files import write_secret
from infra_lab.kubernetes.layout import API_SERVICE_ADDRESS, PREFIX, Layout

_DAYS = "825"
_P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
#: Component -> its subject, as Kubernetes' default roles know it.
_SUBJECTS = {
    "admin": "/O=system:masters/CN=admin",
    "kubelet": f"/O=system:nodes/CN=system:node:{PREFIX}",
    "kube-controller-manager": "/CN=system:kube-controller-manager",
    "kube-scheduler": "/CN=system:kube-scheduler",
    "kube-proxy": "/CN=system:kube-proxy",
}
COMPONENTS = tuple(_SUBJECTS)
_API_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
              "kubernetes.default.svc.cluster.local")  # fmt: skip


def ensure_certificates(
    layout: Layout, server: str, addresses: Iterable[ipaddress.IPv4Address], components: Iterable[str]
) -> None:
    """Authority, service accounts' key, the API server's two, and a kubeconfig for each of `components`.

    `server` is the URL in the kubeconfigs, `addresses` where the API server is reached. What is there stays.
    """
    folder = layout.certificates
    whole = folder / "whole"
    if whole.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    _make_authority(folder)
    here = ipaddress.IPv4Address("127.0.0.1")
    names = [f"IP:{address}" for address in (*addresses, API_SERVICE_ADDRESS, here)] + [f"DNS:{n}" for n in _API_NAMES]
    _sign(folder, "apiserver", "/CN=kube-apiserver", names)
    _sign(folder, "apiserver-to-kubelet", "/O=system:masters/CN=kube-apiserver")
    for component in components:
        _sign(folder, component, _SUBJECTS[component])
        _write_kubeconfig(folder, component, server)
    whole.touch()


def _make_authority(folder: Path) -> None:
    usage = "keyUsage=critical,digitalSignature,keyCertSign"
    call(
        ["openssl", "req", "-x509", *_P256, "-days", _DAYS, "-subj", f"/CN={PREFIX}-ca", "-addext", usage,
         "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")]
    )  # fmt: skip
    key = folder / "service-account.key"
    call(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)])
    call(["openssl", "ec", "-in", str(key), "-pubout", "-out", str(folder / "service-account.pub")])


def _sign(folder: Path, name: str, subject: str, alternatives: Iterable[str] = ()) -> None:
    names = ",".join(alternatives)
    call(
        ["openssl", "req", "-x509", *_P256, "-days", _DAYS, "-subj", subject,
         "-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"),
         "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=digitalSignature,keyEncipherment",
         "-addext", "extendedKeyUsage=clientAuth,serverAuth",
         *(["-addext", f"subjectAltName={names}"] if names else []),
         "-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    )  # fmt: skip


def _write_kubeconfig(folder: Path, name: str, server: str) -> None:
    def inside(file: str) -> str:
        return base64.b64encode((folder / file).read_bytes()).decode()

    user = {"client-certificate-data": inside(f"{name}.crt"), "client-key-data": inside(f"{name}.key")}
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": PREFIX, "cluster": {"server": server, "certificate-authority-data": inside("ca.crt")}},
        ],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": PREFIX, "context": {"cluster": PREFIX, "user": name}}],
        "current-context": PREFIX,
    }
    write_secret(folder / f"{name}.conf", json.dumps(text, indent=1))  # JSON is YAML
