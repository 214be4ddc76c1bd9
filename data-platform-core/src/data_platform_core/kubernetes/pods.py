"""Parts of a pod that every one of ours has: volumes, and the security context that Pod Security `restricted` wants."""

from __future__ import annotations

from typing import Any

from data_platform_core.kubernetes import names
from data_platform_core.kubernetes.services import Service

_TOPOLOGY_FOLDER = f"{names.HOME}/home-server-infra/topology"


def container_security() -> dict[str, Any]:
    """Of a container: no root, no capability, nothing written to the image."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": names.USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod_security() -> dict[str, Any]:
    """Of a pod: empty volumes belong to our user's group."""
    return {
        "fsGroup": names.USER_ID,
        "runAsGroup": names.USER_ID,
        "runAsNonRoot": True,
        "runAsUser": names.USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def volumes(service: Service) -> list[dict[str, Any]]:
    """State and scratch space, which end with the pod; topology, and the authority that its settings name."""
    found: list[dict[str, Any]] = [
        {"name": "state", "emptyDir": {}},
        {"name": "scratch", "emptyDir": {}},
        {"name": "topology", "configMap": {"name": names.TOPOLOGY}},
    ]
    if service.trusts_authority:
        found.append({"name": "authority", "configMap": {"name": names.AUTHORITY}})
    return found


def mounts(service: Service) -> list[dict[str, Any]]:
    """Where `volumes` are mounted."""
    found: list[dict[str, Any]] = [
        {"name": "state", "mountPath": names.STATE},
        {"name": "scratch", "mountPath": names.SCRATCH},
        {"name": "topology", "mountPath": _TOPOLOGY_FOLDER, "readOnly": True},
    ]
    if service.trusts_authority:
        found.append({"name": "authority", "mountPath": names.PKI, "readOnly": True})
    return found
