"""The lab's own manifests: templates in manifests/, filled with the names and addresses that code knows already."""

from __future__ import annotations

from pathlib import Path

import jinja2

from infra_lab.kubernetes import images
from infra_lab.kubernetes.build import operator_version
from infra_lab.kubernetes.layout import DNS_ADDRESS, LAB_NAMESPACE, MANIFESTS, Layout, platform, stack_topology

#: Volumes that claims may bind to, at 5 GiB each; the disk is not set aside for them.
_VOLUMES = 4


def volume_folders(layout: Layout) -> list[Path]:
    """The folders behind the persistent volumes."""
    return [layout.volumes / str(number) for number in range(1, _VOLUMES + 1)]


def names() -> list[str]:
    """Of the manifests that are objects, in the order in which they are applied; the chart's values are none."""
    return ["dns", "volumes", "namespace", "pi"]


def manifest(layout: Layout, name: str) -> str:
    """The text of manifests/`name`.yaml. A name without a value ends in jinja2.UndefinedError: a mistake of ours."""
    registry, _, repository = images.OPERATOR.name.partition("/")
    template = (MANIFESTS / f"{name}.yaml.j2").read_text(encoding="utf-8")
    filled: str = jinja2.Template(template, undefined=jinja2.StrictUndefined, trim_blocks=True).render(
        dns_address=DNS_ADDRESS,
        volumes=volume_folders(layout),
        lab_namespace=LAB_NAMESPACE,
        platform_namespace=platform(stack_topology()).namespace,
        spark_user=images.SPARK_USER,
        spark_version=images.spark_version(),
        spark_image=images.SPARK.reference,
        pi_program=images.PI_PROGRAM,
        coredns_image=images.COREDNS.reference,
        operator_registry=registry,
        operator_repository=repository,
        operator_tag=operator_version(),
    )
    return filled
