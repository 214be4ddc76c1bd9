"""Truth 2: where things run, read from `home-server-infra/topology/<environment>.yaml`.

Hosts, ports, brokers, bucket and database names exist only there. `host` is what clients connect to, `bind` what a
service listens on where that is another address. A topology may say `extends: <other>` and
`port_offset: N`, which moves every `*port` by N, so that a second stack runs beside the first one; a key that it sets
to null is as if the other had never named it. Where there are `hosts`, `host:` may be the name of one.
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
