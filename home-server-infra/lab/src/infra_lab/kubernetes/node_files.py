"""Configuration of containerd, CNI, kubelet and kube-proxy for the lab's node."""

from __future__ import annotations

import json

import yaml

from infra_lab.kubernetes import images
from infra_lab.kubernetes.layout import DNS_ADDRESS, POD_NETWORK, PREFIX, Layout, Wire

#: Inside the node, whose /run is its own.
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

_CONTAINERD = """\
version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Lowering a score is not allowed everywhere.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"""


def write_node_files(layout: Layout, wire: Wire) -> None:
    """All of them, anew at each start."""
    cni = layout.config / "cni"
    cni.mkdir(parents=True, exist_ok=True)
    containerd = _CONTAINERD.format(
        root=layout.containerd, socket=CONTAINERD_SOCKET, pause=images.PAUSE.reference, cni=cni
    )
    (layout.config / "containerd.toml").write_text(containerd, encoding="utf-8")
    (cni / "10-pods.conflist").write_text(json.dumps(_cni()), encoding="utf-8")
    # Nobody answers there: pods ask the cluster's DNS, which forwards nothing.
    (layout.config / "resolv.conf").write_text(f"nameserver {wire.machine.ip}\n", encoding="utf-8")
    (layout.config / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet(layout)), encoding="utf-8")
    (layout.config / "kube-proxy.yaml").write_text(yaml.safe_dump(_kube_proxy(layout)), encoding="utf-8")


def _cni() -> dict[str, object]:
    addresses = {
        "type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": str(POD_NETWORK)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }  # fmt: skip
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{**bridge, "ipam": addresses}, ports]}


def _kubelet(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.certificates / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{PREFIX}",
        "failSwapOn": False,
        "oomScoreAdj": 0,
        "maxOpenFiles": 20_000,
        "maxPods": 60,
        "clusterDNS": [str(DNS_ADDRESS)],
        "clusterDomain": "cluster.local",
        "resolvConf": str(layout.config / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "podLogsDir": str(layout.pod_logs),
        "volumePluginDir": str(layout.kubelet / "volume-plugins"),
        # Images are imported, not pulled: one that is collected would be gone.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "200Mi", "nodefs.available": "2Gi", "imagefs.available": "2Gi"},
    }


def _kube_proxy(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.certificates / "kube-proxy.conf")},
        "clusterCIDR": str(POD_NETWORK),
        "hostnameOverride": PREFIX,
        "mode": "iptables",
        "oomScoreAdj": 0,
        # Sizes of the machine's tables are left as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
