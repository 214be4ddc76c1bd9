"""Broker configuration and storage format: combined KRaft nodes, each broker and controller in one process."""

from __future__ import annotations

import subprocess
from pathlib import Path

from data_platform_core.errors import ServiceError
from data_platform_core.topology import Broker, Endpoint, Kafka
from embedded_stack.layout import LOGGING_CONFIG, Layout, java, kafka_jars

#: Internal topics: enough to spread over three brokers, few enough to start fast (defaults are 50).
INTERNAL_PARTITIONS = 3
FORMAT_TIMEOUT_SECONDS = 60


def kafka_name(broker: Broker) -> str:
    """`kafka-1` for the broker with id 1."""
    return f"kafka-{broker.id}"


def broker_properties(kafka: Kafka, broker: Broker, log_dir: Path, for_pods: Endpoint | None = None) -> str:
    """server.properties of one node; `for_pods` is one more listener, whose clients are told an address of their own.

    Brokers speak to each other by the first, whose security `inter.broker.listener.name` takes over by default.
    """
    listeners = {"PLAINTEXT": broker, "PODS": for_pods} if for_pods else {"PLAINTEXT": broker}
    voters = ",".join(f"{node.id}@{node.controller.address}" for node in kafka.brokers)
    properties = {
        "process.roles": "broker,controller",
        "node.id": broker.id,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join(
            f"{name}://{at.listen}" for name, at in {**listeners, "CONTROLLER": broker.controller}.items()
        ),
        "advertised.listeners": ",".join(f"{name}://{at.address}" for name, at in listeners.items()),
        "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in (*listeners, "CONTROLLER")),
        "log.dirs": log_dir,
        "default.replication.factor": kafka.replication_factor,
        "min.insync.replicas": kafka.min_insync_replicas,
        # Topics come from the contracts; a misspelt one is an error, not a new topic.
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": kafka.replication_factor,
        "offsets.topic.num.partitions": INTERNAL_PARTITIONS,
        "transaction.state.log.replication.factor": kafka.replication_factor,
        "transaction.state.log.min.isr": kafka.min_insync_replicas,
        "transaction.state.log.num.partitions": INTERNAL_PARTITIONS,
        "share.coordinator.state.topic.replication.factor": kafka.replication_factor,
        "share.coordinator.state.topic.min.isr": kafka.min_insync_replicas,
        "share.coordinator.state.topic.num.partitions": INTERNAL_PARTITIONS,
        # One consumer per group: nothing to wait for.
        "group.initial.rebalance.delay.ms": 0,
        # Fewer idle threads: three brokers on two cores.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        # All brokers stop together: transferring leadership needs a quorum that the last one no longer has, and it
        # would wait for it until it is killed. Without it the whole cluster stops cleanly in 8 s (measured: 28 s).
        "controlled.shutdown.enable": "false",
        # A dead broker's partitions move within seconds (default 9 s).
        "broker.session.timeout.ms": 6000,
    }
    return "".join(f"{key}={java_property(str(value))}\n" for key, value in properties.items())


def java_property(value: str) -> str:
    """A value for a properties file, which Java reads as Latin-1: everything except ASCII is escaped."""
    utf16 = value.encode("utf-16-be")
    units = [int.from_bytes(utf16[at : at + 2]) for at in range(0, len(utf16), 2)]
    return "".join(chr(unit) if 0x20 < unit < 0x7F and unit != ord("\\") else f"\\u{unit:04x}" for unit in units)


def prepare_broker(layout: Layout, broker: Broker) -> None:
    """Write the configuration, and format a new log directory."""
    kafka = layout.topology.kafka
    log_dir = layout.kafka_data(broker.id)
    config = layout.config / f"{kafka_name(broker)}.properties"
    config.write_text(
        broker_properties(kafka, broker, log_dir, layout.topology.pods_listener(broker)), encoding="ascii"
    )
    if (log_dir / "meta.properties").is_file():
        return
    command = [java(), "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    command += [f"-Dlog4j2.configurationFile={LOGGING_CONFIG}", "-cp", f"{kafka_jars()}/*", "kafka.tools.StorageTool"]
    command += ["format", "--cluster-id", kafka.cluster_id, "--config", str(config), "--ignore-formatted"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_SECONDS, check=False)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise ServiceError(f"formatting {log_dir} for {kafka_name(broker)} failed: {last[0]}")
