"""Secrets of every service, from the files that a laptop's jobs read: `<state>/<env>/secrets/<service>.env`."""

from __future__ import annotations

from typing import Any

from dotenv import dotenv_values

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import kubernetes_name
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import load_jobs
from data_platform_core.kubernetes import names
from data_platform_core.kubernetes.services import Service, kubernetes_of, services
from data_platform_core.kubernetes.text import manifest
from data_platform_core.topology import Topology


def secrets_text(topology: Topology) -> str:
    """YAML of a Secret per service, and of the authority's certificate where Kafka has one: for `kubectl apply -f -`.

    Raises ConfigurationError naming the first file or key that is missing; no value is part of a message.
    """
    accounts = services(topology, load_matrix(), load_jobs().values()).values()
    objects = [_secret(each, topology) for each in accounts if each.secrets]
    if any(each.trusts_authority for each in accounts):
        objects.append(_authority(topology))
    return manifest(*objects)


def _secret(service: Service, topology: Topology) -> dict[str, Any]:
    path = topology.secrets_path / f"{service.name}.env"
    if not path.is_file():
        raise ConfigurationError(
            f"secrets {path} of service {service.name} do not exist; `make up` writes them for the embedded stack, for "
            "other servers copy them from the vault"
        )
    held = dotenv_values(path, interpolate=False, encoding="utf-8")
    for key in service.secrets:
        if not held.get(key):
            raise ConfigurationError(f"secrets {path} have no {key}, which service {service.name} needs; add it")
    return _object("Secret", kubernetes_name(service.name), topology) | {
        "type": "Opaque",
        "stringData": {key: held[key] for key in service.secrets},
    }


def _authority(topology: Topology) -> dict[str, Any]:
    path = topology.ca_path
    if not path.is_file():
        raise ConfigurationError(f"certificate {path} of the authority does not exist; the playbook site.yml makes it")
    data = {names.AUTHORITY_KEY: path.read_text(encoding="ascii")}
    return _object("ConfigMap", names.AUTHORITY, topology) | {"data": data}


def _object(kind: str, name: str, topology: Topology) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": kubernetes_of(topology).namespace,
            "labels": {**names.PART_OF, names.ENVIRONMENT_LABEL: topology.environment},
        },
    }
