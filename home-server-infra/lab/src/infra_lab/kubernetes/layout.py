"""Where the cluster keeps its things, what it is called, and the addresses it has."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import Topology, load_topology
from data_platform_core.topology.cluster import Kubernetes
from infra_lab.layout import LAB_DIR, lab_layout, user_cache

#: The stack beside the cluster, whose topology names the wire between machine and node.
ENVIRONMENT = "k8s-lab"
SOURCES = LAB_DIR / "kubernetes"
MANIFESTS = SOURCES / "manifests"
#: What the platform puts on every cluster: objects by kustomize, charts by helm.
CLUSTER_OBJECTS = REPOSITORY_ROOT / "home-server-infra" / "kubernetes"
APPLICATIONS = REPOSITORY_ROOT / "data-platform-core" / "spark-applications"
PLATFORM_CHART = REPOSITORY_ROOT / "helm" / "charts" / "crm-platform"
CHART_VALUES = REPOSITORY_ROOT / "helm" / "values"

#: Of the wire, the cgroup and the node's host name; `down` removes what has this name, and nothing else.
PREFIX = "crmk8s"
WIRE_PREFIX_LENGTH = 24
POD_NETWORK = ipaddress.IPv4Network("10.244.0.0/24")
SERVICE_NETWORK = ipaddress.IPv4Network("10.96.0.0/16")
#: The API server takes the first address of the services; DNS has the tenth, as everywhere.
API_SERVICE_ADDRESS, DNS_ADDRESS = SERVICE_NETWORK[1], SERVICE_NETWORK[10]
API_PORT = 6443
#: Of what the lab runs to prove itself; the platform has a namespace of its own.
LAB_NAMESPACE = "lab"


@dataclass(frozen=True)
class Layout:
    """Folders below `root`, which belongs to one cluster, and `cache`, which all checkouts share."""

    root: Path
    cache: Path

    @property
    def bin(self) -> Path:
        """Programs built from Go modules."""
        return self.cache / "bin"

    @property
    def stamps(self) -> Path:
        """What each thing in the cache was made from."""
        return self.cache / "stamps"

    @property
    def build_logs(self) -> Path:
        return self.cache / "logs"

    @property
    def images(self) -> Path:
        """Layers and manifests of the system images, as OCI lays them out."""
        return self.cache / "oci"

    @property
    def containerd(self) -> Path:
        """containerd's images; they outlive the cluster."""
        return self.cache / "containerd"

    @property
    def run(self) -> Path:
        """Process ids and logs."""
        return self.root / "run"

    @property
    def certificates(self) -> Path:
        return self.root / "certificates"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's; holds its certificates inside, so it can be copied."""
        return self.certificates / "admin.conf"

    @property
    def config(self) -> Path:
        """Files for kubelet, kube-proxy, containerd and CNI."""
        return self.root / "config"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def pod_logs(self) -> Path:
        return self.root / "pod-logs"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def objects(self) -> tuple[Path, ...]:
        """What ends with the cluster."""
        return (self.run, self.certificates, self.config, self.etcd, self.kubelet, self.pod_logs, self.volumes)


@dataclass(frozen=True)
class Wire:
    """The veth pair between this machine and the node."""

    machine: ipaddress.IPv4Interface

    @property
    def node(self) -> ipaddress.IPv4Interface:
        return ipaddress.IPv4Interface((self.machine.ip + 1, WIRE_PREFIX_LENGTH))


def node_layout() -> Layout:
    """Of this checkout's cluster."""
    return Layout(_state() / "node", _cache())


def light_layout() -> Layout:
    """Of this checkout's light tier."""
    return Layout(_state() / "light", _cache())


def _state() -> Path:
    return lab_layout().root / "kubernetes"


def _cache() -> Path:
    return user_cache() / "kubernetes"


def stack_topology() -> Topology:
    """Of the stack beside the cluster."""
    return load_topology(ENVIRONMENT)


def platform(topology: Topology) -> Kubernetes:
    """What the platform calls its namespaces. Raises ConfigurationError when the topology has no cluster."""
    if topology.kubernetes is None:
        raise ConfigurationError(f"topology {topology.environment} has no section kubernetes")
    return topology.kubernetes


def wire(topology: Topology) -> Wire:
    """Raises ConfigurationError when the topology names no wire."""
    if topology.pods is None:
        raise ConfigurationError(f"topology {topology.environment} has no section pods, which names the cluster's wire")
    return Wire(ipaddress.IPv4Interface(f"{topology.pods.host}/{WIRE_PREFIX_LENGTH}"))
