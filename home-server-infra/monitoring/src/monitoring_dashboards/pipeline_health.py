"""Pipeline health: shows at a glance whether anything needs attention."""

from __future__ import annotations

from monitoring_dashboards.alerts import levels
from monitoring_dashboards.board import Board, Section
from monitoring_dashboards.panels import (
    ANY_IS_BAD,
    BYTES,
    COUNT,
    RECORDS,
    RECORDS_PER_SECOND,
    SECONDS,
    SHARE,
    Levels,
    graph,
    listing,
    number,
    up_or_down,
    without,
)
from monitoring_dashboards.queries import (
    COMMITTED_BY_ENTITY,
    CPU,
    DISK,
    DLQ_SHARE_BY_ENTITY,
    ENTITY,
    LAG_BY_ENTITY,
    LAG_SECONDS_BY_ENTITY,
    MEMORY,
    PRODUCED_BY_ENTITY,
    WINDOW,
    now,
    over_time,
)

_KINDS = f"rate(crm_streaming_records_total{{{ENTITY}}}[{WINDOW}])"
_FAILED = f"sum(rate(crm_generator_failed_total{{{ENTITY}}}[{WINDOW}]))"
_ACKED = f"sum(rate(crm_generator_acked_total{{{ENTITY}}}[{WINDOW}]))"


def _share(kind: str) -> str:
    """Share of an entity's committed records; 0 while nothing is committed."""
    part = f'sum by (entity) (rate(crm_streaming_records_total{{{ENTITY},kind="{kind}"}}[{WINDOW}]))'
    return f"{part} / (sum by (entity) ({_KINDS}) > 0) or 0 * sum by (entity) ({_KINDS})"


_VERDICT = Section(
    "Verdict",
    [
        number(
            "Alerts firing",
            "Anything but 0 has been sent to people; the table below names them.",
            COUNT,
            now('count(ALERTS{alertstate="firing"}) or vector(0)'),
            levels=ANY_IS_BAD,
        ),
        number(
            "Targets down",
            "Processes that Prometheus can't scrape. The generator is not counted: it runs only temporarily.",
            COUNT,
            now('count(up{job!="generator"} == 0) or vector(0)'),
            levels=ANY_IS_BAD,
        ),
        number(
            "Largest lag",
            "Waiting records of the entity with the most. Coloured by the alert LagHigh.",
            RECORDS,
            now(f"max({LAG_BY_ENTITY})"),
            levels=levels("LagHigh"),
        ),
        number(
            "Freshness",
            "Age of the oldest waiting record; 0: silver has everything that Kafka has.",
            SECONDS,
            now(f"max({LAG_SECONDS_BY_ENTITY})"),
        ),
        number(
            "Driver restarts, last hour",
            "Each restart follows a crash or a manual restart. More than one: read the driver's log.",
            COUNT,
            now('sum(changes(process_start_time_seconds{job="streaming"}[1h]))'),
            levels=Levels(warning=1, critical=3),
        ),
        number(
            "Throughput",
            "Records per second committed to silver, dead letters, duplicates and late together.",
            RECORDS_PER_SECOND,
            now(f"sum({_KINDS})"),
        ),
    ],
)

_ALERTS = Section(
    "Alerts and targets",
    [
        without(
            listing(
                "Alerts pending and firing",
                "Pending: the condition holds, not yet for long enough. Firing: delivered. Each alert's runbook says "
                "what to do.",
                now('ALERTS{alertname!=""}', table=True),
                none="no alert is pending or firing",
            ),
            "Time",
            "Value",
            "__name__",
        ),
        up_or_down(
            "Up per target",
            "Green while Prometheus can scrape it. A red bar of the length of a restart is a restart; the generator is "
            "red between runs.",
            over_time("up", "{{job}} {{instance}}"),
        ),
    ],
)

_QUALITY = Section(
    "What becomes of the records",
    [
        graph(
            "Throughput by outcome",
            "Silver is the good outcome. Every record that Kafka held is in exactly one of the four.",
            RECORDS_PER_SECOND,
            over_time(f"sum by (kind) ({_KINDS})", "{{kind}}"),
            style="stacked",
        ),
        graph(
            "Records per minute",
            "What the alert ThroughputLow judges: committed under its line while sent is above it, and the pipeline "
            "stands.",
            "suffix: records/min",
            over_time(f"60 * sum({COMMITTED_BY_ENTITY})", "committed"),
            over_time(f"60 * sum({PRODUCED_BY_ENTITY})", "sent"),
            levels=levels("ThroughputLow"),
        ),
        graph(
            "Share of dead letters",
            "Records that could not be read or break the contract. A jump follows a producer's release: read the DLQ's "
            "header dlq-reason. The line is the alert ErrorRateHigh's.",
            SHARE,
            over_time(DLQ_SHARE_BY_ENTITY, "{{entity}}"),
            levels=levels("ErrorRateHigh"),
            width=8,
        ),
        graph(
            "Share of late records",
            "Records later than the contract allows. They are kept, and marts count them; a rise means that a producer "
            "was cut off and catches up.",
            SHARE,
            over_time(_share("late"), "{{entity}}"),
            width=8,
        ),
        graph(
            "Share of duplicates",
            "Records sent again within the window; dropped. A rise means that a producer retries without idempotence.",
            SHARE,
            over_time(_share("duplicates"), "{{entity}}"),
            width=8,
        ),
        graph(
            "Share of failed sends",
            "Records that Kafka refused for certain, of all that were sent.",
            SHARE,
            over_time(f"{_FAILED} / ({_FAILED} + {_ACKED} > 0) or 0 * {_ACKED}", "failed"),
        ),
        graph(
            "Lag per entity",
            "Records waiting, with the alert LagHigh's levels. On its way down: leave it alone.",
            RECORDS,
            over_time(LAG_BY_ENTITY, "{{entity}}"),
            levels=levels("LagHigh"),
        ),
    ],
)

_STATE = Section(
    "State and restarts",
    [
        graph(
            "Keys remembered for deduplication",
            "Keys in the index that finds repeats. Grows to traffic times the window, then stays; growing on "
            "means that old keys are not forgotten.",
            COUNT,
            over_time(f"max by (entity) (crm_streaming_state_keys{{{ENTITY}}})", "{{entity}}"),
            width=8,
        ),
        graph(
            "State size",
            "What that index takes. Near the driver's memory: shorten the window or give the driver more.",
            BYTES,
            over_time(f"max by (entity) (crm_streaming_state_bytes{{{ENTITY}}})", "{{entity}}"),
            width=8,
        ),
        graph(
            "Driver's age",
            "Time since the streaming driver started: a drop to 0 is a restart.",
            SECONDS,
            over_time('time() - process_start_time_seconds{job="streaming"}', "driver"),
            width=8,
        ),
    ],
)

_MACHINES = Section(
    "Machines",
    [
        graph(
            "CPU",
            "Share that is busy; the lines are the alert HostCpuHigh's.",
            SHARE,
            over_time(CPU, "{{instance}}"),
            levels=levels("HostCpuHigh"),
            width=8,
        ),
        graph(
            "Memory",
            "Share that no process can allocate any more. At the red line the kernel will soon kill a process.",
            SHARE,
            over_time(MEMORY, "{{instance}}"),
            levels=levels("HostMemoryHigh"),
            width=8,
        ),
        graph(
            "Disk",
            "Share in use of each file system. Kafka and PostgreSQL stop when theirs is full.",
            SHARE,
            over_time(DISK, "{{instance}} {{mountpoint}}"),
            levels=levels("HostDiskFull"),
            width=8,
        ),
    ],
)

BOARD = Board(
    name="pipeline-health",
    title="Pipeline health",
    about="Whether anything needs attention: read the first row, then the alerts. All green and 0 waiting is healthy.",
    sections=[_VERDICT, _ALERTS, _QUALITY, _STATE, _MACHINES],
    labels=(("entity", "crm_streaming_lag_records"),),
    phases=True,
    runbook="alerts",
    since="now-1h",
)
