"""Names of accounts in each system, derived from the service's name."""

from __future__ import annotations

from typing import Final

#: The account that exporters and Prometheus use.
MONITORING: Final = "monitoring"
#: The streaming driver: its account, and the service that runs it.
STREAMING: Final = "streaming"

#: Internal accounts of the servers, which no service of the platform uses: inter-broker, PostgreSQL's replication, and
#: the embedded stack's (superuser of PostgreSQL, root of the object store).
BROKER: Final = "broker"
REPLICATOR: Final = "replicator"
STACK: Final = "stack"
RESERVED: Final = frozenset({BROKER, REPLICATOR, STACK})


def access_key(service: str) -> str:
    """Access key in the object store; also the name of the service's policy there."""
    return f"crm-{service}"


def role(service: str) -> str:
    """Role in PostgreSQL."""
    return f"crm_{service}"


def kubernetes_name(service: str) -> str:
    """Its ServiceAccount, Secret and ConfigMap on Kubernetes."""
    return f"crm-{service}"
