"""The cluster as functions: from an empty machine to a node with DNS, volumes and the Spark operator, and back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import yaml

from data_platform_core.errors import ServiceError
from data_platform_core.topology import Topology
from data_platform_core.waiting import ask_until
from infra_lab.background import Background
from infra_lab.kubernetes import addons, control_plane, images, needs
from infra_lab.kubernetes.build import NODE_PROGRAMS, RELAY, Progress, ensure_programs
from infra_lab.kubernetes.certificates import COMPONENTS, ensure_certificates
from infra_lab.kubernetes.layout import API_PORT, LAB_NAMESPACE, Layout, Wire, node_layout, stack_topology, wire
from infra_lab.kubernetes.manifests import manifest
from infra_lab.kubernetes.node import Node
from infra_lab.kubernetes.node_files import write_node_files

_APPLICATION_SECONDS = 600.0
_POLL_SECONDS = 1.0
_ENDED = ("COMPLETED", "FAILED")


@dataclass
class Cluster:
    """The cluster of this checkout, and how long each step of its start took."""

    layout: Layout
    topology: Topology
    wire: Wire
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        return Node(self.layout, self.wire)

    @property
    def relay(self) -> Background:
        return Background(self.layout.run, "relay")

    def timed(self, step: str, progress: Progress, do: Callable[[], object]) -> None:
        """Tell the step, then do it."""
        progress(step)
        began = time.monotonic()
        do()
        self.seconds[step] = time.monotonic() - began


def this_cluster() -> Cluster:
    """That of this checkout."""
    topology = stack_topology()
    return Cluster(node_layout(), topology, wire(topology))


def up(cluster: Cluster, progress: Progress) -> None:
    """Everything that is not there yet. A node that is up keeps what runs on it, and gets its add-ons again."""
    layout, node = cluster.layout, cluster.node
    cluster.timed("packages", progress, lambda: needs.require(layout, progress))
    cluster.timed("programs", progress, lambda: ensure_programs(layout, NODE_PROGRAMS, progress))
    cluster.timed("images", progress, lambda: images.ensure_images(layout, progress))
    if not node.is_up():
        _start_node(cluster, progress)
    cluster.timed("images into containerd", progress, node.import_images)
    cluster.timed("relay", progress, lambda: start_relay(cluster))
    cluster.timed("DNS", progress, lambda: addons.dns(layout))
    cluster.timed("volumes", progress, lambda: addons.volumes(layout))
    cluster.timed("kinds of the Prometheus operator", progress, lambda: addons.monitors(layout))
    cluster.timed("Spark operator", progress, lambda: addons.operator(layout))


def _start_node(cluster: Cluster, progress: Progress) -> None:
    layout, node = cluster.layout, cluster.node
    cluster.timed("node: namespaces, wire, control groups", progress, node.create)
    try:
        server = f"https://{cluster.wire.node.ip}:{API_PORT}"
        ensure_certificates(layout, server, (cluster.wire.node.ip,), COMPONENTS)
        write_node_files(layout, cluster.wire)
        cluster.timed("containerd", progress, node.start_containerd)
        cluster.timed("API server", progress, node.start_control_plane)
        cluster.timed("kubelet: node Ready", progress, node.start_kubelet)
    except ServiceError as error:
        # Half a node would be taken for a whole one; its logs are kept out of its way.
        kept = _keep_logs(layout)
        node.destroy()
        raise ServiceError(f"{error} (the node was taken down, its logs are in {kept})") from None


def _keep_logs(layout: Layout) -> str:
    kept = layout.root / "logs-of-the-failed-start"
    kept.mkdir(parents=True, exist_ok=True)
    for log in layout.run.glob("*.log"):
        (kept / log.name).write_bytes(log.read_bytes())
    return str(kept)


def down(cluster: Cluster) -> None:
    """End the node and forget its objects; programs and images stay. Repeatable."""
    cluster.relay.stop()
    cluster.node.destroy()


def start_relay(cluster: Cluster) -> None:
    """Pods reach each service of the stack at the machine's end of the wire, whether the stack is up yet or not."""
    pairs = [f"{endpoint.address}={endpoint.listen}" for endpoint in cluster.topology.relayed.values()]
    relay = cluster.relay
    relay.start([str(cluster.layout.bin / RELAY.name), *pairs])
    ended = ask_until(bool, lambda: relay.process() is None, within_s=0.5, every_s=0.1)
    if ended:
        raise ServiceError(f"the relay ended: {relay.last_words()}")


def run_pi(cluster: Cluster, progress: Progress) -> str:
    """A SparkApplication with one executor; returns the line that it prints. Raises ServiceError when it fails."""
    layout = cluster.layout
    application = manifest(layout, "pi")
    name = yaml.safe_load(application)["metadata"]["name"]
    in_namespace = ("-n", LAB_NAMESPACE)
    control_plane.kubectl(layout, *in_namespace, "delete", "sparkapplication", name, "--ignore-not-found")
    control_plane.kubectl(layout, "apply", "-f", "-", stdin=application)
    seen: list[str] = []

    def state() -> str:
        path = "-o=jsonpath={.status.applicationState.state}"
        now = control_plane.kubectl(layout, *in_namespace, "get", "sparkapplication", name, path)
        if now and now not in seen:
            seen.append(now)
            progress(f"application {name}: {now}")
        return now

    last = ask_until(_ENDED.__contains__, state, within_s=_APPLICATION_SECONDS, every_s=_POLL_SECONDS)
    if last != _ENDED[0]:
        why = control_plane.kubectl(
            layout, *in_namespace, "get", "sparkapplication", name,
            "-o=jsonpath={.status.applicationState.errorMessage}",
        )  # fmt: skip
        raise ServiceError(f"application {name} is {last or 'not submitted'}: {why or 'no reason given'}")
    log = control_plane.kubectl(layout, *in_namespace, "logs", f"{name}-driver")
    return next(line for line in log.splitlines() if line.startswith("pi is"))


def memory(cluster: Cluster) -> dict[str, float]:
    """RSS in MB of each of the node's processes, and of the relay; the largest first."""
    sums: Counter[str] = Counter()
    for name, megabytes in cluster.node.memory_mb():
        sums[name] += megabytes  # type: ignore[assignment]
    if (process := cluster.relay.process()) is not None:
        sums["relay"] += process.memory_info().rss / 2**20  # type: ignore[assignment]
    return dict(sums.most_common())
