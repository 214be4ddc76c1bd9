"""Spike and lag: rate in, rate out, waiting records, and causes."""

from __future__ import annotations

from monitoring_dashboards.alerts import levels
from monitoring_dashboards.board import Board, Section
from monitoring_dashboards.panels import (
    CORES,
    COUNT,
    RECORDS,
    RECORDS_PER_SECOND,
    SECONDS,
    SHARE,
    TEXT,
    Levels,
    graph,
    number,
    spread,
)
from monitoring_dashboards.queries import (
    CPU,
    ENTITY,
    LAG_BY_ENTITY,
    LAG_SECONDS_BY_ENTITY,
    LATENCY_BY_ENTITY,
    WINDOW,
    now,
    over_time,
)

_IN = f"rate(crm_generator_acked_total{{{ENTITY}}}[{WINDOW}])"
_OUT = f"rate(crm_streaming_records_total{{{ENTITY}}}[{WINDOW}])"
_LAG = f"crm_streaming_lag_records{{{ENTITY}}}"
_LAG_SECONDS = f"crm_streaming_lag_seconds{{{ENTITY}}}"
_BUCKETS = f"rate(crm_streaming_latency_seconds_bucket{{{ENTITY}}}[{WINDOW}])"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) ({_BUCKETS}))"


_NOW = Section(
    "Now",
    [
        number(
            "Scenario and phase",
            "What the generator is doing. Empty: no generator runs, so a rate in of 0 is no fault.",
            TEXT,
            now("crm_generator_phase == 1", "{{scenario}}: {{phase}}"),
            none="no generator",
        ),
        number(
            "Wanted rate",
            "Records/s that the scenario schedules now. Compare with the rate in: less means that the generator or the "
            "brokers don't keep up, not the stream.",
            RECORDS_PER_SECOND,
            now("sum(crm_generator_target_rate)"),
            none="no generator",
        ),
        number(
            "Largest lag",
            "Records in Kafka that no batch has committed, of the entity with the most. Coloured by the alert LagHigh.",
            RECORDS,
            now(f"max({LAG_BY_ENTITY})"),
            levels=levels("LagHigh"),
        ),
        number(
            "Oldest wait",
            "Age of the oldest waiting record of all partitions. This is the delay that users of silver see.",
            SECONDS,
            now(f"max({LAG_SECONDS_BY_ENTITY})"),
        ),
        number(
            "Latency p95",
            "95% of the records were in silver within this time since they were produced, of the slowest entity over 5 "
            "minutes. Coloured: over the promise, the alert LatencyHigh.",
            SECONDS,
            now(f"max({LATENCY_BY_ENTITY})"),
            levels=levels("LatencyHigh"),
        ),
        number(
            "Task slots",
            "Tasks that can run at once in all executors. Lag that grows while all are busy needs more of these.",
            COUNT,
            now("sum(crm_streaming_task_slots)"),
        ),
    ],
)

_RATES = Section(
    "Rates",
    [
        graph(
            "In and out",
            "Acknowledged by Kafka against committed to the lake. While in is above out, lag grows by the gap between "
            "the lines; out above in is a backlog being drained.",
            RECORDS_PER_SECOND,
            over_time("sum(crm_generator_target_rate)", "wanted"),
            over_time(f"sum({_IN})", "in"),
            over_time(f"sum({_OUT})", "out"),
        ),
        graph(
            "Generator behind schedule",
            "Age of the oldest record that was due and is not sent. Above a second the load that was measured is not "
            "the load that was asked for: the machine, not the stream, is the limit.",
            SECONDS,
            over_time("max(crm_generator_behind_schedule_seconds)", "behind schedule"),
            levels=Levels(warning=1),
        ),
        graph(
            "Rate in per entity",
            "Which entity's traffic jumped.",
            RECORDS_PER_SECOND,
            over_time(f"sum by (entity) ({_IN})", "{{entity}}"),
            style="stacked",
        ),
        graph(
            "Rate out per entity",
            "What each query commits. A step-like line is normal: a batch commits all its records at once.",
            RECORDS_PER_SECOND,
            over_time(f"sum by (entity) ({_OUT})", "{{entity}}"),
            style="stacked",
        ),
        graph(
            "Waiting for an acknowledgement",
            "Records in the producer's buffer. A rise with a steady rate in means that the brokers slow down.",
            RECORDS,
            over_time("sum(crm_generator_buffered_records)", "buffered"),
        ),
        graph(
            "Not delivered",
            "Records that failed for certain, and whose fate is unknown. Both are in the run's ledger; the "
            "reconciliation accounts for both.",
            RECORDS_PER_SECOND,
            over_time(f"sum by (entity) (rate(crm_generator_failed_total{{{ENTITY}}}[{WINDOW}]))", "failed {{entity}}"),
            over_time(
                f"sum by (entity) (rate(crm_generator_unknown_total{{{ENTITY}}}[{WINDOW}]))", "unknown {{entity}}"
            ),
        ),
    ],
)

_LAGS = Section(
    "Lag",
    [
        graph(
            "Lag in records per entity",
            "A hill that comes back down is a spike absorbed; a line that keeps rising needs a remedy: more task "
            "slots, a split of the backlog, or more partitions. The dashed lines are the alert LagHigh's.",
            RECORDS,
            over_time(LAG_BY_ENTITY, "{{entity}}"),
            levels=levels("LagHigh"),
        ),
        graph(
            "Lag in seconds per entity",
            "The slowest partition of each entity. Falls later than the records do: the oldest ones wait longest.",
            SECONDS,
            over_time(LAG_SECONDS_BY_ENTITY, "{{entity}}"),
        ),
        graph(
            "Growth of lag",
            "Records/s by which the backlog grows (above 0) or is drained (below). The backlog divided by the speed of "
            "draining is the time until the spike is over.",
            RECORDS_PER_SECOND,
            over_time(f"sum by (entity) (deriv({_LAG}[1m]))", "{{entity}}"),
            signed=True,
        ),
        graph(
            "Batch duration",
            "Length of the last batch. Steady and long with growing lag: the batch is full (maxOffsetsPerTrigger) or "
            "short of task slots. Long with little lag: fixed costs, look at the object store.",
            SECONDS,
            over_time(f"max by (entity) (crm_streaming_batch_seconds{{{ENTITY}}})", "{{entity}}"),
        ),
        graph(
            "Lag in records per partition",
            "Choose one entity above. One partition far above the others is a hot key, which more task slots don't "
            "cure; all of them equal is a lack of capacity.",
            RECORDS,
            over_time(f"max by (entity, partition) ({_LAG})", "{{entity}}-{{partition}}"),
        ),
        graph(
            "Lag in seconds per partition",
            "Choose one entity above. Which partition the slowest record waits in.",
            SECONDS,
            over_time(f"max by (entity, partition) ({_LAG_SECONDS})", "{{entity}}-{{partition}}"),
        ),
    ],
)

_CAPACITY = Section(
    "Capacity",
    [
        graph(
            "Executors and task slots",
            "What the stream may use. A step up during the hold is dynamic allocation (or a person) at work; look "
            "whether the rate out follows it.",
            COUNT,
            over_time("sum(crm_streaming_executors)", "executors"),
            over_time("sum(crm_streaming_task_slots)", "task slots"),
            width=8,
        ),
        graph(
            "Partitions per topic",
            "Partitions that the running query reads: with no minimum set, the number of tasks that can read at "
            "once. A step up shows when new partitions were found.",
            COUNT,
            over_time(f"max by (entity) (crm_streaming_partitions{{{ENTITY}}})", "{{entity}}"),
            width=8,
        ),
        graph(
            "Input and processed rate",
            "Spark's own view of the last batch. Processed above input: there is room. Equal to each other for long "
            "while lag stands: the limit is reached.",
            RECORDS_PER_SECOND,
            over_time(f"sum(crm_streaming_input_records_per_second{{{ENTITY}}})", "input"),
            over_time(f"sum(crm_streaming_processed_records_per_second{{{ENTITY}}})", "processed"),
            width=8,
        ),
        graph(
            "Time by phase of a batch",
            "Seconds per second that go into each phase, all chosen entities. The batch itself should be the most of "
            "it; much in logs and planning means batches that are too small.",
            "suffix: s/s",
            over_time(
                f"sum by (phase) (rate(crm_streaming_batch_phase_seconds_sum{{{ENTITY}}}[{WINDOW}]))", "{{phase}}"
            ),
            style="stacked",
            width=24,
        ),
    ],
)

_LATENCY = Section(
    "Latency, from producing to silver",
    [
        graph(
            "Latency quantiles",
            "Time from a record's production to its commit in silver. p99 far above p95 is a few slow batches or one "
            "slow partition; all three rising together is lag.",
            SECONDS,
            over_time(_quantile(0.5), "p50"),
            over_time(_quantile(0.95), "p95"),
            over_time(_quantile(0.99), "p99"),
            levels=levels("LatencyHigh"),
        ),
        graph(
            "Latency p95 per entity",
            "Which entity breaks the promise, over 5 minutes: what the alert LatencyHigh judges.",
            SECONDS,
            over_time(LATENCY_BY_ENTITY, "{{entity}}"),
            levels=levels("LatencyHigh"),
        ),
        spread(
            "Latency heatmap",
            "All records by their latency. One narrow band is healthy; a band that climbs is a backlog, and two bands "
            "at once are two kinds of partition or entity.",
            SECONDS,
            over_time(
                f"sum by (le) (increase(crm_streaming_latency_seconds_bucket{{{ENTITY}}}[{WINDOW}]))",
                "{{le}}",
                buckets=True,
            ),
            width=24,
        ),
    ],
)

_MACHINE = Section(
    "Machine",
    [
        graph(
            "CPU busy",
            "Share of all cores that is not idle. At the red line more executors on this machine bring nothing.",
            SHARE,
            over_time(CPU, "{{instance}}"),
            levels=levels("HostCpuHigh"),
        ),
        graph(
            "CPU of the scraped processes",
            "Cores that the brokers, the driver's Python and the monitoring use. Spark's JVM and the generator are "
            "not in here: they are what CPU busy has left.",
            CORES,
            over_time(f"sum by (job) (rate(process_cpu_seconds_total[{WINDOW}]))", "{{job}}"),
        ),
    ],
)

BOARD = Board(
    name="spike-and-lag",
    title="Spike and lag",
    about="Traffic jumps, lag grows, a remedy is applied: which one worked, and by how much. Begin with In and out and "
    "Lag in records per entity; Capacity and Machine show why.",
    sections=[_NOW, _RATES, _LAGS, _CAPACITY, _LATENCY, _MACHINE],
    labels=(("entity", "crm_streaming_lag_records"),),
    phases=True,
    runbook="streaming",
    refresh="5s",
)
