"""The folder `home-server-infra/kubernetes/overlays`: namespaces, limits, and who may do what there.

What a cluster has once is in `base`, written by people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from data_platform_core.access.matrix import Matrix
from data_platform_core.access.names import kubernetes_name
from data_platform_core.jobs import Job
from data_platform_core.kubernetes import names
from data_platform_core.kubernetes.services import kubernetes_of, services
from data_platform_core.kubernetes.text import generated
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import Topology
from data_platform_core.topology.cluster import Quota

OBJECTS_DIR: Final[Path] = REPOSITORY_ROOT / "home-server-infra" / "kubernetes"

#: Roles that base defines.
_DRIVER_ROLE: Final = "crm-spark-driver"
_WORKFLOWS_ROLE: Final = "crm-workflows"
#: Airflow's account, for when it runs here.
WORKFLOWS_ACCOUNT: Final = "crm-airflow"
#: What a container gets that says nothing, and the most that one may ask for, MB.
_DEFAULT_MB: Final = 256
_RBAC: Final = "rbac.authorization.k8s.io"
_RESTRICTED: Final = {
    f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")
}  # fmt: skip


def cluster_objects(topologies: Iterable[Topology], matrix: Matrix, jobs: Iterable[Job]) -> dict[Path, str]:
    """The overlay of each cluster."""
    jobs, files = tuple(jobs), {}
    for topology in topologies:
        folder, kubernetes = OBJECTS_DIR / "overlays" / topology.environment, kubernetes_of(topology)
        drivers = [name for name, each in services(topology, matrix, jobs).items() if each.drives_spark]
        parts = {
            "namespaces": [
                _namespace(kubernetes.namespace, {names.ENVIRONMENT_LABEL: topology.environment, **_RESTRICTED}),
                _namespace(kubernetes.operator_namespace, _RESTRICTED),
                # The node exporter there looks at the node itself, which no level of Pod Security but the last allows.
                _namespace(kubernetes.monitoring_namespace, {}),
            ],
            "limits": _limits(kubernetes.namespace, kubernetes.quota),
            "rights": _rights(kubernetes.namespace, drivers),
        }
        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../../base", *(f"{part}.yaml" for part in parts)],
        }
        files[folder / "kustomization.yaml"] = generated(kustomization)
        files |= {folder / f"{part}.yaml": generated(*objects) for part, objects in parts.items()}
    return files


def _namespace(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**names.PART_OF, **labels}}}


def _limits(namespace: str, quota: Quota) -> list[dict[str, Any]]:
    """The whole namespace, and one container. CPU has no limit: what nobody asked for is for whoever can use it."""
    memory = f"{quota.memory_mb}Mi"
    return [
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "crm", "namespace": namespace},
            "spec": {
                "hard": {
                    "requests.cpu": str(quota.cpu),
                    "requests.memory": memory,
                    "pods": str(quota.pods),
                    # Nothing of ours is reached from outside, or keeps data in the cluster.
                    "services.loadbalancers": "0",
                    "services.nodeports": "0",
                    "persistentvolumeclaims": "0",
                }
            },
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "crm", "namespace": namespace},
            "spec": {
                "limits": [
                    {
                        "type": "Container",
                        "default": {"memory": f"{_DEFAULT_MB}Mi"},
                        "defaultRequest": {"cpu": "50m", "memory": f"{_DEFAULT_MB}Mi"},
                        "max": {"memory": memory},
                    }
                ]
            },
        },
    ]


def _rights(namespace: str, drivers: list[str]) -> list[dict[str, Any]]:
    """Executors and Airflow have accounts here; those of services are the chart's, which knows their settings."""
    return [
        _account(namespace, names.EXECUTOR_ACCOUNT),
        _account(namespace, WORKFLOWS_ACCOUNT),
        _bound(namespace, _DRIVER_ROLE, [kubernetes_name(service) for service in drivers]),
        _bound(namespace, _WORKFLOWS_ROLE, [WORKFLOWS_ACCOUNT]),
    ]


def _account(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace},
        "automountServiceAccountToken": False,
    }


def _bound(namespace: str, role: str, accounts: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace} for account in accounts],
    }
