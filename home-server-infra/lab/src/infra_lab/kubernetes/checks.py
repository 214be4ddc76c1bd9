"""Every manifest of every environment, tried by a real API server that then forgets it; and what it must refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from data_platform_core.errors import ServiceError
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import load_topology
from infra_lab.kubernetes import addons, control_plane, manifests, rights
from infra_lab.kubernetes.build import Progress
from infra_lab.kubernetes.layout import (
    APPLICATIONS,
    CLUSTER_OBJECTS,
    ENVIRONMENT,
    LAB_NAMESPACE,
    PLATFORM_CHART,
    Layout,
    platform,
)

#: Folders with `overlays/<environment>`, as kustomize reads them; namespaces first.
_OVERLAYS = (CLUSTER_OBJECTS, APPLICATIONS)
_FINE = "accepted"


@dataclass(frozen=True)
class Result:
    """One row of the table: what was tried, and whether the API server did what it must."""

    environment: str
    name: str
    objects: int
    verdict: str
    passed: bool


@dataclass(frozen=True)
class Source:
    """Manifests of one environment; `text` renders them as YAML documents.

    `namespace` is that of objects which name none: a chart's get theirs from whoever installs it.
    """

    environment: str
    name: str
    text: Callable[[], str]
    namespace: str | None = None


@dataclass(frozen=True)
class Mistake:
    """A manifest that must be refused, for the reason whose words are in `because`."""

    name: str
    text: str
    because: str


def sources(layout: Layout) -> Iterator[Source]:
    """What there is in this checkout."""
    for name in manifests.names():
        yield Source(ENVIRONMENT, f"lab/{name}", partial(manifests.manifest, layout, name))
    for values in sorted((PLATFORM_CHART / "environments").glob("*.yaml")):
        namespace = platform(load_topology(values.stem)).namespace
        yield Source(values.stem, "chart crm-platform", partial(_rendered, layout, values, namespace), namespace)
        yield Source(values.stem, f"chart {addons.OPERATOR_RELEASE}", partial(_operator, layout, values.stem))
    for folder in _OVERLAYS:
        for overlay in sorted((folder / "overlays").glob("*/kustomization.yaml")):
            yield Source(
                overlay.parent.name,
                str(folder.relative_to(REPOSITORY_ROOT)),
                partial(_kustomized, layout, overlay.parent),
            )


def run(layout: Layout, progress: Progress) -> list[Result]:
    """One result per source and mistake; a source that can't be rendered is a result as well."""
    results = []
    for source in sources(layout):
        progress(f"{source.environment}: {source.name}")
        results.append(_tried(layout, source))
    for mistake in mistakes(layout):
        progress(f"mistake: {mistake.name}")
        results.append(_refused(layout, mistake))
    for overlay in sorted((CLUSTER_OBJECTS / "overlays").iterdir()):
        progress(f"{overlay.name}: rights of each service account")
        results.append(_rights(layout, overlay.name))
    return results


def mistakes(layout: Layout) -> Iterator[Mistake]:
    """Slips of the kind that a YAML reader does not see."""
    application = manifests.manifest(layout, "pi")
    yield Mistake(
        "misspelt field of an application", application.replace("\n  arguments:", "\n  argumets:"),
        'unknown field "spec.argumets"',
    )  # fmt: skip
    yield Mistake(
        "words where a number belongs", application.replace("instances: 1", "instances: one"), "must be of type integer"
    )
    dns = manifests.manifest(layout, "dns")
    yield Mistake(
        "misspelt field of a Deployment", dns.replace("imagePullPolicy:", "imagePullpolicy:"),
        'unknown field "spec.template.spec.containers[0].imagePullpolicy"',
    )  # fmt: skip
    yield Mistake(
        "a pod that may be root, where Pod Security says restricted", _root_pod(LAB_NAMESPACE), "runAsNonRoot != true"
    )


def dry_run(layout: Layout, text: str, namespace: str | None = None) -> int:
    """How many objects the API server accepts. Raises ServiceError with what it refuses, and why.

    Namespaces are made for real: without its namespace no object is tried.
    """
    documents = [document for document in yaml.safe_load_all(text) if document]
    own = [document for document in documents if document["kind"] == "Namespace"]
    if own:
        control_plane.kubectl(layout, "apply", "-f", "-", stdin=yaml.safe_dump_all(own))
    for name in sorted(_namespaces(documents, namespace or "default") - _existing_namespaces(layout)):
        control_plane.kubectl(layout, "create", "namespace", name)
    # Given a namespace, kubectl refuses objects of any other: only a chart's get one.
    inside = [f"--namespace={namespace}"] if namespace else []
    printed = control_plane.kubectl(layout, "apply", *inside, "--dry-run=server", "-f", "-", stdin=text)
    return len(printed.splitlines())


def _tried(layout: Layout, source: Source) -> Result:
    try:
        return Result(source.environment, source.name, dry_run(layout, source.text(), source.namespace), _FINE, True)
    except ServiceError as error:
        return Result(source.environment, source.name, 0, str(error), False)


def _refused(layout: Layout, mistake: Mistake) -> Result:
    try:
        count = dry_run(layout, mistake.text)
    except ServiceError as error:
        passed = mistake.because in str(error)
        return Result("mistake", mistake.name, 0, f"refused: {mistake.because}" if passed else str(error), passed)
    return Result("mistake", mistake.name, count, "was accepted, and must not be", False)


def _rights(layout: Layout, environment: str) -> Result:
    """Whether each service account may do what it is for, and nothing else."""
    topology = load_topology(environment)
    addons.cluster_objects(layout, environment)
    found = rights.answers(layout, topology)
    wrong = [str(answer) for answer in found if answer.allowed != answer.expected]
    accounts = len({answer.account for answer in found})
    verdict = f"{len(found) - len(wrong)} of {len(found)} answers as the matrix says, {accounts} accounts"
    return Result(environment, "rights of service accounts", len(found), "; ".join([verdict, *wrong]), not wrong)


def _kustomized(layout: Layout, folder: Path) -> str:
    return control_plane.kubectl(layout, "kustomize", str(folder))


def _rendered(layout: Layout, values: Path, namespace: str) -> str:
    """The platform's chart. Nobody is asked whether Secrets are there: that is for the cluster of an installation."""
    return addons.helm(
        layout, "template", "--validate", "crm", str(PLATFORM_CHART), f"--namespace={namespace}", f"--values={values}",
        "--set=secrets.check=false",
    )  # fmt: skip


def _operator(layout: Layout, environment: str) -> str:
    """The operator's own chart with the platform's values."""
    chart = str(addons.operator_chart())
    values = [f"--values={file}" for file in addons.operator_values(environment)]
    namespace = platform(load_topology(environment)).operator_namespace
    return addons.helm(
        layout, "template", "--validate", addons.OPERATOR_RELEASE, chart, f"--namespace={namespace}", *values
    )


def _namespaces(documents: list[dict[str, Any]], default: str) -> set[str]:
    return {document["metadata"].get("namespace", default) for document in documents}


def _existing_namespaces(layout: Layout) -> set[str]:
    printed = control_plane.kubectl(layout, "get", "namespaces", "-o", "name")
    return {line.removeprefix("namespace/") for line in printed.split()}


def _root_pod(namespace: str) -> str:
    container = {"name": "any", "image": "localhost/any:1"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root", "namespace": namespace}}
    return yaml.safe_dump({**pod, "spec": {"containers": [container]}})
