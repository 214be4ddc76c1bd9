"""Truth 2: where things run, read from `home-server-infra/topology/<environment>.yaml`.

Hosts, ports, brokers, bucket and database names exist only there. Clients connect to `host`; `bind` is the listen
address if it differs. A topology may extend another one (`extends: <other>`). `port_offset: N` adds N to every `*port`,
so that a second stack runs beside the first one. A key set to null removes the other's key. With `hosts`, `host:` may
be the name of one.
"""

from data_platform_core.topology.endpoints import Address, Endpoint, Frozen
from data_platform_core.topology.environment import Topology
from data_platform_core.topology.files import load_topology
from data_platform_core.topology.hosts import Host, Proxmox, Role, with_role
from data_platform_core.topology.monitoring import Mail, Metrics, Monitoring
from data_platform_core.topology.pods import Pods
from data_platform_core.topology.services import Broker, Buckets, Kafka, Postgres, Requires, SparkWorker

__all__ = [
    "Address",
    "Broker",
    "Buckets",
    "Endpoint",
    "Frozen",
    "Host",
    "Kafka",
    "Mail",
    "Metrics",
    "Monitoring",
    "Pods",
    "Postgres",
    "Proxmox",
    "Requires",
    "Role",
    "SparkWorker",
    "Topology",
    "load_topology",
    "with_role",
]
