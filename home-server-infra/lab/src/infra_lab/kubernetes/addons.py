"""What runs on the cluster before anything of ours: DNS, volumes, the Spark operator."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from data_platform_core.commands import call
from infra_lab.kubernetes import control_plane, images
from infra_lab.kubernetes.build import HELM, monitoring_kinds, operator_source
from infra_lab.kubernetes.layout import (
    CHART_VALUES,
    CLUSTER_OBJECTS,
    ENVIRONMENT,
    Layout,
    platform,
    stack_topology,
)
from infra_lab.kubernetes.manifests import manifest, volume_folders

#: Also the name of the chart, and of its files of values.
OPERATOR_RELEASE = "spark-operator"
_HELM_SECONDS = 300


def dns(layout: Layout) -> None:
    """Returns when it answers."""
    control_plane.kubectl(layout, "apply", "-f", "-", stdin=manifest(layout, "dns"))
    timeout = f"--timeout={control_plane.PATIENCE_SECONDS:g}s"
    control_plane.kubectl(layout, "-n", "kube-system", "rollout", "status", "deployment/coredns", timeout)


def volumes(layout: Layout) -> None:
    """Folders that belong to Spark's user: a host path ignores a pod's fsGroup."""
    for folder in volume_folders(layout):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o770)
        os.chown(folder, images.SPARK_USER, images.SPARK_USER)
    control_plane.kubectl(layout, "apply", "-f", "-", stdin=manifest(layout, "volumes"))


def cluster_objects(layout: Layout, environment: str) -> None:
    """The platform's namespaces, limits, roles and bindings of an environment."""
    control_plane.kubectl(layout, "apply", "-k", str(CLUSTER_OBJECTS / "overlays" / environment))


def operator(layout: Layout) -> None:
    """By its own chart, which comes inside its module; returns when it runs.

    Before it come the platform's namespaces, rights and priorities, which its values and the applications name.
    """
    cluster_objects(layout, ENVIRONMENT)
    control_plane.kubectl(layout, "apply", "-f", "-", stdin=manifest(layout, "namespace"))
    values = layout.config / "operator-values.yaml"
    values.write_text(manifest(layout, "operator-values"), encoding="utf-8")
    helm(
        layout, "upgrade", "--install", OPERATOR_RELEASE, str(operator_chart()),
        f"--namespace={platform(stack_topology()).operator_namespace}", "--wait", f"--timeout={_HELM_SECONDS}s",
        *(f"--values={file}" for file in (*operator_values(ENVIRONMENT), values)),
    )  # fmt: skip


def monitors(layout: Layout) -> None:
    """The Prometheus operator's kinds, so that the platform's monitors and rules are objects here too."""
    control_plane.kubectl(layout, "apply", "--server-side", "-f", str(monitoring_kinds()))


def operator_chart() -> Path:
    """The operator's own chart, inside its module."""
    return operator_source("charts/spark-operator-chart")


def operator_values(environment: str) -> list[Path]:
    """The platform's values for the operator's chart, of every environment and of this one."""
    file = f"{OPERATOR_RELEASE}.yaml"
    return [CHART_VALUES / file, CHART_VALUES / environment / file]


def shell_programs(layout: Layout) -> Path:
    """A folder with `kubectl` and `helm` for a person's PATH: here both are parts of other programs."""
    folder = layout.root / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in {"kubectl": [str(control_plane.program(layout)), "kubectl"],
                          "helm": [str(layout.bin / HELM.name)]}.items():  # fmt: skip
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return folder


def helm(layout: Layout, *arguments: str) -> str:
    """What helm prints, as the administrator; its own files stay in the cache."""
    own = {f"HELM_{kind}_HOME": str(layout.cache / "helm" / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    environment = {**os.environ, **own, "KUBECONFIG": str(layout.kubeconfig)}
    return call([str(layout.bin / HELM.name), *arguments], environment=environment)
