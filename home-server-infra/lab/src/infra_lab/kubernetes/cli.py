"""`crm-lab k8s`: a single-node Kubernetes on this machine, and its light tier for checking manifests."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from data_platform_core.errors import ConfigurationError, ServiceError
from infra_lab.clock import Clock, console
from infra_lab.kubernetes import checks, cluster, control_plane, light
from infra_lab.kubernetes.addons import shell_programs
from infra_lab.kubernetes.layout import Layout, light_layout, node_layout
from infra_lab.kubernetes.platform_images import ensure_platform_images

app = typer.Typer(no_args_is_help=True, help=__doc__)
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command()
def up() -> None:
    """From an empty machine to a node with DNS, volumes and the Spark operator. What is there already stays."""
    this, clock = cluster.this_cluster(), Clock()
    cluster.up(this, clock)
    table = Table(title=f"the cluster is up after {clock.seconds:.0f} s")
    table.add_column("step")
    table.add_column("s", justify="right")
    for step, seconds in this.seconds.items():
        table.add_row(step, f"{seconds:.1f}")
    console.print(table)
    console.print('use it in this shell: eval "$(crm-lab k8s env)"', highlight=False)


@app.command("env")
def environment() -> None:
    """Print lines for a shell's `eval`: kubectl and helm on PATH, and the cluster's KUBECONFIG."""
    layout = _whichever_is_up()
    print(f"export PATH={shlex.quote(str(shell_programs(layout)))}:$PATH")
    print(f"export KUBECONFIG={shlex.quote(str(layout.kubeconfig))}")


@app.command()
def down() -> None:
    """End the node and forget its objects; programs and images stay, so that the next start is warm."""
    clock = Clock()
    cluster.down(cluster.this_cluster())
    clock("the cluster is down")


@app.command()
def restart(
    part: Annotated[str, typer.Argument(help="A process of the node, as kubelet, kube-scheduler or containerd.")],
) -> None:
    """End a process of the node and start it again with the same flags; pods stay."""
    node, clock = cluster.this_cluster().node, Clock()
    node.restart_part(part)
    node.wait_until_ready()
    clock(f"{part} is up again and the node ready")


@app.command()
def status() -> None:
    """Nodes, pods, and the memory of the node's own processes."""
    this = cluster.this_cluster()
    if not this.node.is_up():
        raise ServiceError("the cluster is down; start it: `make k8s-up`")
    console.print(
        control_plane.kubectl(this.layout, "get", "nodes,pods", "--all-namespaces"), highlight=False, markup=False
    )
    used = cluster.memory(this)
    table = Table(title="processes of the node, without those in pods")
    table.add_column("process")
    table.add_column("RSS, MB", justify="right")
    for name, megabytes in used.items():
        table.add_row(name, f"{megabytes:.0f}")
    table.add_row("all", f"{sum(used.values()):.0f}", style="bold")
    console.print(table)


@app.command()
def pi() -> None:
    """Run the smallest Spark application on the cluster, and wait for its result."""
    clock = Clock()
    clock(cluster.run_pi(cluster.this_cluster(), clock))


@app.command("images")
def platform_images() -> None:
    """Build the platform's images from their Dockerfiles and give them to the node; what has not changed stays."""
    this, clock = cluster.this_cluster(), Clock()
    ensure_platform_images(this.layout, this.node, clock)
    clock("the node has the platform's images")


@app.command("import")
def import_image(
    archive: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An OCI archive, as buildah writes it.")],
) -> None:
    """Give the node an image, under the name that its archive has."""
    clock = Clock()
    cluster.this_cluster().node.import_archive(archive.absolute())
    clock(f"{archive.name} is imported")


@app.command("light-up")
def light_up() -> None:
    """Store, API server and the operator's kinds on loopback; no root, nothing runs on it."""
    layout, clock = light_layout(), Clock()
    light.up(layout, clock)
    clock(f"the light tier is up: export KUBECONFIG={layout.kubeconfig}")


@app.command("light-down")
def light_down() -> None:
    """End the light tier and forget its objects."""
    light.down(light_layout())


@app.command("check")
def check(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the light tier up at the end.")] = False,
) -> None:
    """Every manifest of every environment, tried by a real API server; and mistakes that it must refuse."""
    layout, clock = light_layout(), Clock()
    began_here = not light.is_up(layout)
    try:
        light.up(layout, clock)
        results = checks.run(layout, clock)
    finally:
        if began_here and not keep:
            light.down(layout)
    table = Table(title="manifests, tried by the API server")
    for column in ("environment", "manifests", "objects", "verdict"):
        table.add_column(column, justify="right" if column == "objects" else "left", overflow="fold")
    for result in results:
        table.add_row(result.environment, result.name, str(result.objects), result.verdict)
    console.print(table)
    if wrong := [result for result in results if not result.passed]:
        raise ConfigurationError(f"{len(wrong)} of {len(results)} were not as they must be; the table says why")


@app.command("kubectl", context_settings=_PASSED_ON)
def kubectl(context: typer.Context) -> None:
    """kubectl as the cluster's administrator; where no cluster is up, the light tier's."""
    layout = _whichever_is_up()
    command = control_plane.kubectl_command(layout, *context.args)
    os.execv(command[0], command)


def _whichever_is_up() -> Layout:
    for layout in (node_layout(), light_layout()):
        if control_plane.api_server_ready(layout):
            return layout
    raise ServiceError("no API server answers; start one: `make k8s-up`, or `crm-lab k8s light-up`")
