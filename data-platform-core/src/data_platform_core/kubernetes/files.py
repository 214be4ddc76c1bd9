"""Every file that Kubernetes' tools read and that is written from jobs, accounts and topology."""

from __future__ import annotations

from pathlib import Path

from data_platform_core.access.matrix import Matrix
from data_platform_core.jobs import load_jobs
from data_platform_core.kubernetes.applications import applications
from data_platform_core.kubernetes.chart import chart_files
from data_platform_core.kubernetes.objects import cluster_objects
from data_platform_core.paths import TOPOLOGY_DIR
from data_platform_core.topology import Topology, load_topology


def topologies(folder: Path = TOPOLOGY_DIR) -> list[Topology]:
    """Those with a cluster, with the addresses that its pods connect to."""
    every = (load_topology(path.stem, folder).seen_by_pods() for path in sorted(folder.glob("*.yaml")))
    return [topology for topology in every if topology.kubernetes is not None]


def kubernetes_files(matrix: Matrix) -> dict[Path, str]:
    """The text of each of these files. Raises ConfigurationError naming the topology and the key that is wrong."""
    jobs, places = load_jobs(matrix=matrix).values(), topologies()
    return {
        **applications(places, matrix, jobs),
        **cluster_objects(places, matrix, jobs),
        **chart_files(places, matrix, jobs),
    }
