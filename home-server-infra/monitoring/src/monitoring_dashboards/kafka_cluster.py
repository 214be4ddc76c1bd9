"""Kafka cluster: brokers, replicas, traffic, requests and logs, from the brokers' JMX exporters."""

from __future__ import annotations

from monitoring_dashboards.board import Board, Section
from monitoring_dashboards.panels import (
    ANY_IS_BAD,
    BYTES,
    BYTES_PER_SECOND,
    COUNT,
    MILLISECONDS,
    RECORDS,
    RECORDS_PER_SECOND,
    SHARE,
    Levels,
    graph,
    number,
    up_or_down,
)
from monitoring_dashboards.queries import WINDOW, now, over_time

_JOB = 'job="kafka"'
_TOPIC = 'topic=~"$topic"'
#: Each counter comes per topic, and once without a topic: the sum over all, internal topics too.
_ALL_TOPICS = 'topic=""'
_BROKER_TOPIC = "kafka_server_brokertopicmetrics"
_REPLICAS = "kafka_server_replicamanager"
_CONTROLLER = "kafka_controller_kafkacontroller"

_VERDICT = Section(
    "Verdict",
    [
        number(
            "Brokers up",
            "Share of the brokers that Prometheus reaches. One of three down: traffic continues, min ISR 2. Two down: "
            "acks=all fails and the generator counts failures.",
            SHARE,
            now(f"avg(up{{{_JOB}}})"),
            levels=Levels(critical=1, below=True),
        ),
        number(
            "Under-replicated partitions",
            "Partitions with a replica out of sync. More than 0 for long: a broker is down or can't keep up.",
            COUNT,
            now(f"sum({_REPLICAS}_underreplicatedpartitions)"),
            levels=ANY_IS_BAD,
        ),
        number(
            "Offline partitions",
            "Partitions without a leader: they can't be read or written. Start the brokers that have them.",
            COUNT,
            now(f"max({_CONTROLLER}_offlinepartitionscount)"),
            levels=ANY_IS_BAD,
        ),
        number(
            "Under min ISR",
            "Partitions that refuse acks=all right now.",
            COUNT,
            now(f"sum({_REPLICAS}_underminisrpartitioncount)"),
            levels=ANY_IS_BAD,
        ),
        number(
            "Active controllers",
            "Must be 1. 0: no quorum, no leader can be elected. 2 for a moment is a change of controller.",
            COUNT,
            now(f"sum({_CONTROLLER}_activecontrollercount)"),
            levels=Levels(critical=1, below=True),
        ),
        number(
            "ISR shrinks, last hour",
            "How often a replica fell out of sync. A few with a restart are normal; a steady trickle is a slow disk or "
            "long pauses of a broker.",
            COUNT,
            now(f"sum(increase({_REPLICAS}_isrshrinks_total[1h]))"),
            levels=Levels(warning=1),
        ),
    ],
)

_BROKERS = Section(
    "Brokers and replicas",
    [
        up_or_down(
            "Brokers over time",
            "Green while the broker serves its metrics. A red bar in all three at once is a restart of the stack.",
            over_time(f"up{{{_JOB}}}", "broker {{broker}}"),
            width=8,
        ),
        graph(
            "Under-replicated per broker",
            "The broker that shows them leads the partitions; the broker missing in the graph is the faulty one.",
            COUNT,
            over_time(f"sum by (broker) ({_REPLICAS}_underreplicatedpartitions)", "broker {{broker}}"),
            levels=ANY_IS_BAD,
            width=8,
        ),
        graph(
            "ISR shrinks and expansions",
            "Each shrink should be followed by an expansion: the replica came back.",
            "suffix: changes/s",
            over_time(f"sum(rate({_REPLICAS}_isrshrinks_total[{WINDOW}]))", "shrinks"),
            over_time(f"sum(rate({_REPLICAS}_isrexpands_total[{WINDOW}]))", "expansions"),
            width=8,
        ),
        graph(
            "Leaders per broker",
            "Even is good. After a restart a broker leads nothing until leadership is balanced; its load is elsewhere.",
            COUNT,
            over_time(f"sum by (broker) ({_REPLICAS}_leadercount)", "broker {{broker}}"),
            width=8,
        ),
        graph(
            "Partitions per broker",
            "Replicas that the broker holds. A step up by the same number on all is a topic that gained partitions.",
            COUNT,
            over_time(f"sum by (broker) ({_REPLICAS}_partitioncount)", "broker {{broker}}"),
            width=8,
        ),
        graph(
            "Controller",
            "1 for the broker that is the active controller; a crossing of lines is a change of controller.",
            COUNT,
            over_time(f"sum by (broker) ({_CONTROLLER}_activecontrollercount)", "broker {{broker}}"),
            width=8,
        ),
    ],
)

_TRAFFIC = Section(
    "Traffic",
    [
        graph(
            "Messages in per topic",
            "What producers write, dead letters too. One that stops while the generator runs lost its producer.",
            RECORDS_PER_SECOND,
            over_time(
                f"sum by (topic) (rate({_BROKER_TOPIC}_messagesin_total{{{_TOPIC}}}[{WINDOW}]))",
                "{{topic}}",
            ),
            style="stacked",
        ),
        graph(
            "Bytes in per broker",
            "From producers, without replication. Uneven: keys or leaders are.",
            BYTES_PER_SECOND,
            over_time(
                f"sum by (broker) (rate({_BROKER_TOPIC}_bytesin_total{{{_ALL_TOPICS}}}[{WINDOW}]))",
                "broker {{broker}}",
            ),
        ),
        graph(
            "Bytes out per broker",
            "To consumers. Far above bytes in: a backlog is being read, or several consumers read.",
            BYTES_PER_SECOND,
            over_time(
                f"sum by (broker) (rate({_BROKER_TOPIC}_bytesout_total{{{_ALL_TOPICS}}}[{WINDOW}]))",
                "broker {{broker}}",
            ),
        ),
        graph(
            "Failed produce requests",
            "Requests that a broker refused: min ISR not met, or a record too large.",
            "suffix: requests/s",
            over_time(f"sum by (broker) (rate({_BROKER_TOPIC}_failedproducerequests_total[{WINDOW}]))", "{{broker}}"),
        ),
    ],
)

_REQUESTS = Section(
    "Requests",
    [
        graph(
            "Request time p99",
            "Slowest of the brokers. Produce waits for all replicas; FetchConsumer and FetchFollower wait for data "
            "when there is none, up to half a second: that is no fault.",
            MILLISECONDS,
            over_time('max by (request) (kafka_network_requestmetrics_totaltimems{quantile="0.99"})', "{{request}}"),
            width=8,
        ),
        graph(
            "Requests",
            "Many small requests cost CPU: let producers linger, let the stream read more at a time.",
            "suffix: requests/s",
            over_time(f"sum by (request) (rate(kafka_network_requestmetrics_requests_total[{WINDOW}]))", "{{request}}"),
            width=8,
        ),
        graph(
            "Idle request handlers",
            "Share of time in which a broker's handlers have nothing to do. Under 30% the broker is the bottleneck.",
            SHARE,
            over_time("kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent", "broker {{broker}}"),
            levels=Levels(warning=0.3, critical=0.1, below=True),
            width=8,
        ),
    ],
)

_LOGS = Section(
    "Logs",
    [
        graph(
            "Log size per topic",
            "All replicas together. It stops growing where retention begins; the disk must hold that.",
            BYTES,
            over_time(f"sum by (topic) (kafka_log_log_size{{{_TOPIC}}})", "{{topic}}"),
            style="stacked",
        ),
        graph(
            "End offset per topic",
            "Records ever written, all partitions. Lag is the distance between this and what the stream has committed.",
            RECORDS,
            over_time(
                f"sum by (topic) (max by (topic, partition) (kafka_log_log_logendoffset{{{_TOPIC}}}))", "{{topic}}"
            ),
        ),
        graph(
            "Partitions per topic",
            "A step is partitions added; the stream shows when it found them, on Spike and lag.",
            COUNT,
            over_time(
                f"count by (topic) (max by (topic, partition) (kafka_log_log_logendoffset{{{_TOPIC}}}))", "{{topic}}"
            ),
        ),
        graph(
            "Growth per partition",
            "Writes per partition of the chosen topics. One far above the others is a hot key.",
            RECORDS_PER_SECOND,
            over_time(
                f"max by (topic, partition) (rate(kafka_log_log_logendoffset{{{_TOPIC}}}[{WINDOW}]))",
                "{{topic}}-{{partition}}",
            ),
        ),
    ],
)

BOARD = Board(
    name="kafka-cluster",
    title="Kafka cluster",
    about="Whether the brokers are well, and where load and data lie. Begin with Verdict: all zero and one controller.",
    sections=[_VERDICT, _BROKERS, _TRAFFIC, _REQUESTS, _LOGS],
    labels=(("topic", "kafka_log_log_size"),),
    phases=True,
    runbook="alerts",
    since="now-1h",
)
