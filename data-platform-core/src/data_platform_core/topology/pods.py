"""How pods of a cluster on this machine reach the services on its loopback.

In a pod, loopback is the pod itself. So a relay on the machine's end of the cluster's wire passes connections on, each
to the loopback port of the same number. Nothing listens on a network of other machines.
"""

from __future__ import annotations

from pydantic import Field

from data_platform_core.topology.endpoints import Endpoint, Frozen
from data_platform_core.topology.hosts import IPv4
from data_platform_core.topology.services import Broker, Kafka, ObjectStore, Postgres, SchemaRegistry


class Pods(Frozen):
    """`host` is the machine's address on the wire. An address, not a name: network policies know addresses only.

    A broker answers every client with the address to come back to, so brokers have one more listener, for pods: that
    of the first is on `kafka_port`, of the next on the port after it.
    """

    host: IPv4
    kafka_port: int = Field(ge=1, le=65535)

    def listener(self, broker: Broker) -> Endpoint:
        """Where pods reach `broker`, bound to its loopback address."""
        return Endpoint(host=self.host, bind=broker.bind, port=self.kafka_port + broker.id - 1)

    def relayed(
        self, kafka: Kafka, schema_registry: SchemaRegistry, object_store: ObjectStore, postgres: Postgres
    ) -> dict[str, Endpoint]:
        """Service -> where pods reach it (`address`) and what the relay passes that to (`listen`)."""
        brokers = {f"kafka-{broker.id}": self.listener(broker) for broker in kafka.brokers}
        servers = {"registry": schema_registry, "minio": object_store, "postgres": postgres}
        return brokers | {
            name: Endpoint(host=self.host, bind=server.bind, port=server.port) for name, server in servers.items()
        }
