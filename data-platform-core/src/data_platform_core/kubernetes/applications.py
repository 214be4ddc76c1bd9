"""The folder `data-platform-core/spark-applications`: a kustomize base, and an overlay for each cluster. GENERATED."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from data_platform_core.access.matrix import Matrix
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import Job, Kind
from data_platform_core.kubernetes import names, spark
from data_platform_core.kubernetes.services import kubernetes_of, services
from data_platform_core.kubernetes.text import generated
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import Topology

APPLICATIONS_DIR: Final[Path] = REPOSITORY_ROOT / "data-platform-core" / "spark-applications"
_KUSTOMIZATION: Final = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def applications(topologies: Iterable[Topology], matrix: Matrix, jobs: Iterable[Job]) -> dict[Path, str]:
    """Every file of the folder. Raises ConfigurationError when a topology schedules what it can't."""
    jobs = tuple(jobs)
    standing = [job for job in jobs if job.kind is Kind.SPARK and job.runs_by_itself]
    base = APPLICATIONS_DIR / "base"
    files = {base / "kustomization.yaml": _kustomization(resources=[f"{job.name}.yaml" for job in standing])}
    for job in standing:
        shown = spark.application(job) if job.name == spark.STREAM else spark.scheduled(job)
        files[base / f"{job.name}.yaml"] = generated(shown)
    for topology in topologies:
        files |= _overlay(topology, matrix, jobs, standing)
    return files


def _overlay(topology: Topology, matrix: Matrix, jobs: tuple[Job, ...], standing: list[Job]) -> dict[Path, str]:
    folder, kubernetes = APPLICATIONS_DIR / "overlays" / topology.environment, kubernetes_of(topology)
    _refuse_unknown(topology, jobs)
    accounts = services(topology, matrix, jobs)
    files = {
        folder / "kustomization.yaml": _kustomization(
            namespace=kubernetes.namespace,
            labels=[{"pairs": {names.ENVIRONMENT_LABEL: topology.environment}}],
            resources=["../../base"],
            patches=[{"path": f"{job.name}.yaml"} for job in standing],
        )
    }
    for job in standing:
        if job.name == spark.STREAM:
            found = spark.patch(job, topology, accounts[job.service])
        else:
            found = spark.scheduled_patch(job, topology, accounts[job.service])
        files[folder / f"{job.name}.yaml"] = generated(found)
    return files


def _refuse_unknown(topology: Topology, jobs: tuple[Job, ...]) -> None:
    kubernetes = kubernetes_of(topology)
    sized = {job.name for job in jobs if job.kind is Kind.SPARK}
    timed = {job.name for job in jobs if job.runs_by_itself and job.name != spark.STREAM}
    for key, named, known in (("spark", kubernetes.spark, sized), ("schedules", kubernetes.schedules, timed)):
        if unknown := sorted(set(named) - known):
            raise ConfigurationError(
                f"topology {topology.environment}: kubernetes.{key}.{unknown[0]} is none of the jobs that it can be "
                f"about: {', '.join(sorted(known))}"
            )


def _kustomization(**keys: Any) -> str:
    return generated({**_KUSTOMIZATION, **keys})
