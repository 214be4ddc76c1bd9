"""Service levels on a real server: opened once, notified once, escalated, closed, and never stopped by a wrong row."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from http_answers import Answers, answering
from moments import between, utc
from warehouse_trial import SettingsOf, migrated_database

from data_platform_core.contracts import Contract
from data_platform_core.errors import UnreachableError
from data_platform_core.governance.check import Check, Report
from data_platform_core.governance.definitions import Definition
from data_platform_core.governance.evaluation import Missed
from data_platform_core.governance.repository import repository
from data_platform_core.intervals import Interval, last_hour
from data_platform_core.jobs import program_path
from data_platform_core.topology import Endpoint, Topology
from data_platform_core.waiting import ask_until
from data_platform_core.warehouse.completions import Run, record
from data_platform_core.warehouse.connections import connect
from data_platform_core.warehouse.schema import migrate
from embedded_stack.layout import Layout
from embedded_stack.monitoring.config import write_alertmanager
from embedded_stack.monitoring.programs import ALERTMANAGER
from embedded_stack.monitoring.sink import FIRING, RESOLVED, read_messages
from embedded_stack.supervision import Supervisor

pytestmark = pytest.mark.integration

NINE_TO_TEN = between("2026-03-01 09:00", "2026-03-01 10:00")
#: The seeded deadline of the hourly load for that hour.
DUE = utc("2026-03-01 10:05")
NOBODY = Endpoint(host="127.0.0.1", port=9)
LOAD = "load-warehouse/hourly"


@pytest.fixture
def fresh(stack: Topology, settings: SettingsOf) -> Iterator[SettingsOf]:
    """A migrated database of its own, in which only the hourly load is watched, since a moment before its deadline."""
    with migrated_database(stack, settings, "crm_sla") as found:
        change(
            found,
            "UPDATE ops.sla_definitions SET enabled = pipeline = 'load-warehouse', watched_since = '2026-03-01 10:00Z'",
        )
        yield found


@pytest.fixture
def alertmanager() -> Iterator[Answers]:
    with answering("") as found:
        yield found


def change(settings_of: SettingsOf, statement: str) -> None:
    with connect(settings_of("admin").postgres, "test") as connection:
        connection.execute(statement.encode())


def query(settings_of: SettingsOf, statement: str) -> list[tuple[Any, ...]]:
    with connect(settings_of("reader").postgres, "test") as connection:
        return connection.execute(statement.encode()).fetchall()


def checked(
    settings_of: SettingsOf,
    stack: Topology,
    now: datetime,
    alertmanager: Endpoint = NOBODY,
    prometheus: Endpoint = NOBODY,
) -> Report:
    """A check at `now`, as the account that checks."""
    monitoring = stack.monitoring.model_copy(update={"alertmanager": alertmanager, "prometheus": prometheus})
    with repository(settings_of("sla").postgres) as rows:
        return Check(rows, rows.known_pipelines(), monitoring, "test", now).run()


def complete(settings_of: SettingsOf, at: datetime, interval: Interval = NINE_TO_TEN) -> None:
    run = Run("load-warehouse", interval, started_at=at - timedelta(minutes=1))
    record(settings_of("batch").postgres, run, "succeeded", finished_at=at)


def posted(alertmanager: Answers) -> list[tuple[str, bool]]:
    """(alert, whether it fires) of the last request; an alert that has ended ends in the past."""
    _path, body = alertmanager.received[-1]
    return [(each["labels"]["alertname"], each["endsAt"] > "2026-03-02") for each in body]


def test_a_missed_deadline_is_opened_notified_escalated_and_closed_each_once(
    fresh: SettingsOf, stack: Topology, alertmanager: Answers
) -> None:
    at = alertmanager.endpoint
    assert checked(fresh, stack, DUE, at).changes == []
    assert alertmanager.received == []

    opened = checked(fresh, stack, DUE + timedelta(minutes=1), at)
    assert opened.changes == [f"opened     {LOAD}: promised 5 min after each hour, due 2026-03-01 10:05 UTC"]
    assert (opened.open, opened.problems) == (1, [])
    assert posted(alertmanager) == [("SlaViolated", True)]
    assert checked(fresh, stack, DUE + timedelta(minutes=5), at).changes == []

    escalated = checked(fresh, stack, DUE + timedelta(minutes=60), at)
    assert escalated.changes[-1] == f"escalated  {LOAD}: open for 60 min"
    assert ("SlaEscalated", True) in posted(alertmanager)

    complete(fresh, utc("2026-03-01 11:06"), between("2026-03-01 10:00", "2026-03-01 11:00"))
    closed = checked(fresh, stack, utc("2026-03-01 11:10"), at)
    assert f"closed     {LOAD}: completed" in closed.changes
    assert closed.open == 0
    assert posted(alertmanager) == [("SlaViolated", False), ("SlaEscalated", False)]

    sent = len(alertmanager.received)
    assert checked(fresh, stack, utc("2026-03-01 11:15"), at).changes == []
    assert len(alertmanager.received) == sent, "what has ended was notified again"
    rows = query(fresh, "SELECT closed_because, notified_at < resolution_notified_at FROM ops.sla_violations")
    assert rows.count(("completed", True)) == 1


def test_two_checks_at_a_time_open_one_violation(fresh: SettingsOf, stack: Topology) -> None:
    now = DUE + timedelta(minutes=1)
    with repository(fresh("sla").postgres) as one, repository(fresh("sla").postgres) as other:
        (load,) = [each for each in one.definitions() if each.name == LOAD]
        missed = Missed(NINE_TO_TEN, DUE)
        assert [one.open(load, missed, now), other.open(load, missed, now)] == [True, False]
        (orders,) = [each for each in one.definitions() if each.name == "raw_crm.orders/realtime"]
        age = Missed(None, DUE)
        assert [one.open(orders, age, now), other.open(orders, age, now)] == [True, False]


def test_a_day_without_checks_is_caught_up_and_what_is_over_is_not_notified(
    fresh: SettingsOf, stack: Topology, alertmanager: Answers
) -> None:
    complete(fresh, utc("2026-03-01 10:04"))
    complete(fresh, utc("2026-03-01 12:30"), between("2026-03-01 11:00", "2026-03-01 12:00"))
    found = checked(fresh, stack, utc("2026-03-01 12:40"), alertmanager.endpoint)
    assert [line.partition(":")[0] for line in found.changes] == [f"was late   {LOAD}"] * 2
    assert alertmanager.received == []
    assert query(fresh, "SELECT count(*) FROM ops.sla_violations WHERE completed_at > due_at") == [(2,)]


def test_a_wrong_row_is_one_line_and_the_others_are_checked(
    fresh: SettingsOf, stack: Topology, alertmanager: Answers
) -> None:
    change(
        fresh,
        "INSERT INTO ops.sla_definitions (pipeline, kind, deadline_minutes, owner, time_zone) VALUES "
        "('lod-warehouse', 'hourly', 5, 'me', 'UTC'), ('reconcile', 'daily', 99999, 'me', 'UTC'), "
        "('topics', 'daily', 540, 'me', 'Europe/Berln')",
    )
    found = checked(fresh, stack, DUE + timedelta(minutes=1), alertmanager.endpoint)
    assert [str(error).partition(";")[0] for error in found.problems] == [
        "SLA lod-warehouse/hourly: pipeline 'lod-warehouse' is unknown",
        "SLA reconcile/daily: deadline 99999 min after midnight is impossible",
        "SLA topics/daily: time zone 'Europe/Berln' is unknown",
    ]
    assert (found.checked, found.open) == (1, 1)


def test_a_new_row_is_watched_at_the_next_check(fresh: SettingsOf, stack: Topology, alertmanager: Answers) -> None:
    checked(fresh, stack, DUE, alertmanager.endpoint)
    change(
        fresh,
        "INSERT INTO ops.sla_definitions (pipeline, kind, deadline_minutes, owner, watched_since) "
        "VALUES ('load-warehouse', 'realtime', 30, 'me', '2026-03-01 09:00Z')",
    )
    found = checked(fresh, stack, DUE, alertmanager.endpoint)
    assert [line.partition(":")[0] for line in found.changes] == ["opened     load-warehouse/realtime"]


def test_a_disabled_row_closes_its_violations(fresh: SettingsOf, stack: Topology, alertmanager: Answers) -> None:
    checked(fresh, stack, DUE + timedelta(minutes=1), alertmanager.endpoint)
    change(fresh, "UPDATE ops.sla_definitions SET enabled = false")
    found = checked(fresh, stack, DUE + timedelta(minutes=2), alertmanager.endpoint)
    assert found.changes == [f"closed     {LOAD}: disabled"]
    assert posted(alertmanager) == [("SlaViolated", False)]


def test_a_silent_alertmanager_loses_no_notification_and_no_end(
    fresh: SettingsOf, stack: Topology, alertmanager: Answers
) -> None:
    lost = checked(fresh, stack, DUE + timedelta(minutes=1))
    assert [type(error) for error in lost.problems] == [UnreachableError]
    assert lost.open == 1
    checked(fresh, stack, DUE + timedelta(minutes=2), alertmanager.endpoint)
    assert posted(alertmanager) == [("SlaViolated", True)]

    complete(fresh, DUE + timedelta(minutes=3))
    assert len(checked(fresh, stack, DUE + timedelta(minutes=4)).problems) == 1
    assert checked(fresh, stack, DUE + timedelta(minutes=5), alertmanager.endpoint).problems == []
    assert posted(alertmanager) == [("SlaViolated", False)]


def test_a_silent_prometheus_leaves_lag_unchecked_and_nothing_else(
    fresh: SettingsOf, stack: Topology, alertmanager: Answers
) -> None:
    change(fresh, "UPDATE ops.sla_definitions SET enabled = true WHERE pipeline LIKE 'ingest_%'")
    found = checked(fresh, stack, DUE + timedelta(minutes=1), alertmanager.endpoint)
    assert [str(error) for error in found.problems] == [
        "Prometheus at 127.0.0.1:9 does not answer (ConnectError); `make status` shows it"
    ]
    assert [line.partition(":")[0] for line in found.changes] == [f"opened     {LOAD}"]


def test_lag_is_a_violation_while_the_stream_is_too_far_behind(
    fresh: SettingsOf, stack: Topology, alertmanager: Answers
) -> None:
    change(fresh, "UPDATE ops.sla_definitions SET enabled = pipeline = 'ingest_orders'")
    behind = '{"data": {"result": [{"metric": {"entity": "orders"}, "value": [0, "1772359200"]}]}}'  # 10:00
    with answering(behind) as prometheus:
        early = checked(fresh, stack, utc("2026-03-01 10:05"), alertmanager.endpoint, prometheus.endpoint)
        late = checked(fresh, stack, utc("2026-03-01 10:06"), alertmanager.endpoint, prometheus.endpoint)
    assert early.changes == []
    assert late.changes[0].startswith("opened     ingest_orders/realtime: promised never older than 5 min, due ")


def test_freshness_is_the_newest_load_with_rows(fresh: SettingsOf, stack: Topology, alertmanager: Answers) -> None:
    change(fresh, "UPDATE ops.sla_definitions SET enabled = pipeline = 'raw_crm.orders'")
    columns = "entity, load_run, mode, delta_table_id, from_version, delta_version, rows, rows_known, started_at"
    for version, rows, moment in ((1, 5, "2026-03-01 10:00Z"), (2, 0, "2026-03-01 10:30Z")):
        change(
            fresh,
            f"INSERT INTO platform.loads ({columns}, loaded_at) VALUES "
            f"('orders', 'r', 'incremental', 't', {version - 1}, {version}, {rows}, 0, '{moment}', '{moment}')",
        )
    assert checked(fresh, stack, utc("2026-03-01 11:00"), alertmanager.endpoint).changes == []
    late = checked(fresh, stack, utc("2026-03-01 11:01"), alertmanager.endpoint)
    assert [line.partition(":")[0] for line in late.changes] == ["opened     raw_crm.orders/realtime"]


def test_migrations_follow_the_contract_and_leave_a_persons_changes_alone(
    fresh: SettingsOf, contracts: dict[str, Contract]
) -> None:
    change(fresh, "UPDATE ops.sla_definitions SET deadline_minutes = 30 WHERE pipeline = 'load-warehouse'")
    change(
        fresh,
        "UPDATE ops.sla_definitions SET origin = 'person', deadline_minutes = 7 WHERE pipeline = 'raw_crm.events'",
    )
    orders = contracts["orders"]
    slower = orders.model_copy(update={"freshness": orders.freshness.model_copy(update={"error_after_minutes": 99})})
    migrate(fresh("admin"), contracts | {"orders": slower})
    rows = query(fresh, "SELECT pipeline, deadline_minutes, enabled FROM ops.sla_definitions")
    assert {("load-warehouse", 30, True), ("raw_crm.orders", 99, False), ("raw_crm.events", 7, False)} <= set(rows)


def crm(settings_of: SettingsOf, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `crm sla`, in the test's own database."""
    database = settings_of("sla").postgres.database
    done = subprocess.run(
        [program_path("crm"), "--env", "test", "sla", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"CRM_POSTGRES__DATABASE": database},
    )
    return done.returncode, done.stdout, done.stderr


def test_a_person_adds_lists_disables_and_enables_a_service_level(fresh: SettingsOf) -> None:
    new = ("add", "reconcile", "daily", "--deadline-minutes", "540", "--owner", "me", "--time-zone", "Europe/Berlin")
    assert crm(fresh, *new) == (0, "added reconcile/daily: by 09:00 Europe/Berlin\n", "")
    code, _out, err = crm(fresh, *new)
    assert (code, err) == (2, "error: SLA reconcile/daily exists already; give --replace to change it\n")
    assert crm(fresh, *new, "--replace")[0] == 0
    listed = crm(fresh, "list")[1]
    assert "by 09:00 Europe/Berlin" in next(line for line in listed.splitlines() if "reconcile/daily" in line)
    assert crm(fresh, "disable", "reconcile/daily") == (0, "disabled reconcile/daily\n", "")
    assert "disabled" in next(line for line in crm(fresh, "list")[1].splitlines() if "reconcile/daily" in line)
    assert crm(fresh, "enable", "reconcile/daily")[0] == 0
    code, _out, err = crm(fresh, "disable", "nothing/daily")
    assert code == 2
    assert err.startswith("error: SLA 'nothing/daily' does not exist; known: build-marts/daily, ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ("add", "reconcile", "daily", "--deadline-minutes", "1441", "--owner", "me"),
            "deadline 1441 min after midnight",
        ),
        (("add", "lod", "daily", "--deadline-minutes", "5", "--owner", "me"), "pipeline 'lod' is unknown; known: acls"),
        (("add", "reconcile", "weekly", "--deadline-minutes", "5", "--owner", "me"), "'weekly' is not one of"),
        (
            ("add", "reconcile", "daily", "--deadline-minutes", "5", "--owner", "me", "--since", "soon"),
            "--since 'soon' is no moment of the last 7 days",
        ),
        (
            ("add", "reconcile", "daily", "--deadline-minutes", "5", "--owner", "me", "--since", "9999-01-01T00:00Z"),
            "--since '9999-01-01T00:00Z' is no moment of the last 7 days",
        ),
        (("add", "reconcile", "daily", "--deadline-minutes", "5", "--owner", ""), "owner is empty"),
    ],
)
def test_a_mistake_of_a_person_is_one_line(fresh: SettingsOf, options: tuple[str, ...], said: str) -> None:
    code, out, err = crm(fresh, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_a_check_with_a_wrong_row_says_so_by_its_exit_code(fresh: SettingsOf, stack: Topology) -> None:
    change(fresh, "UPDATE ops.sla_definitions SET enabled = false")
    assert crm(fresh, "check") == (0, "service levels checked: 0, violations open: 0\n", "")
    change(
        fresh,
        "INSERT INTO ops.sla_definitions (pipeline, kind, deadline_minutes, owner) VALUES ('lod', 'hourly', 5, 'me')",
    )
    code, out, err = crm(fresh, "check")
    assert (code, out) == (2, "service levels checked: 0, violations open: 0\n")
    assert err.startswith("error: SLA lod/hourly: pipeline 'lod' is unknown; known: acls, ")
    assert err.endswith("correct the row, or `crm sla disable lod/hourly`\n")
    assert "can't be checked" in next(line for line in crm(fresh, "list")[1].splitlines() if "lod/hourly" in line)


def test_a_definition_is_read_as_it_was_added(fresh: SettingsOf) -> None:
    with repository(fresh("admin").postgres) as rows:
        (load,) = [each for each in rows.definitions() if each.name == LOAD]
        wanted: Definition = replace(load, pipeline="reconcile", deadline_minutes=7, escalate_after_minutes=9)
        assert rows.add(wanted, replace=False)
        (found,) = [each for each in rows.definitions() if each.name == wanted.name]
    assert replace(found, definition_id=load.definition_id) == wanted


@contextmanager
def short_waits(layout: Layout) -> Iterator[None]:
    """A tenth of Alertmanager's waits; its routes and repetitions stay."""
    supervisor = Supervisor(layout)
    try:
        write_alertmanager(layout, 0.1)
        supervisor.reload(ALERTMANAGER)
        yield
    finally:
        write_alertmanager(layout)
        supervisor.reload(ALERTMANAGER)


def test_a_missed_deadline_is_one_message_by_each_channel_and_its_end_another_one(
    fresh: SettingsOf, stack: Topology
) -> None:
    layout, real = Layout(stack), stack.monitoring.alertmanager
    before = len(read_messages(layout.alerts))

    def messages() -> Counter[tuple[str, str]]:
        new = read_messages(layout.alerts)[before:]
        return Counter((each.via, each.status) for each in new if "SlaViolated" in each.text)

    def wait_for(status: str) -> None:
        wanted = {(via, status) for via in ("slack", "email", "webhook")}
        ask_until(lambda found: wanted <= found.keys(), messages, within_s=60, every_s=0.5)

    change(fresh, "UPDATE ops.sla_definitions SET watched_since = now() - interval '3 hours'")
    with short_waits(layout):
        assert checked(fresh, stack, datetime.now(UTC), real).open >= 2
        wait_for(FIRING)
        for _ in range(3):  # longer than the interval in which a group's changes are notified
            assert checked(fresh, stack, datetime.now(UTC), real).problems == []
            time.sleep(3)
        complete(fresh, datetime.now(UTC), last_hour(datetime.now(UTC)))
        assert checked(fresh, stack, datetime.now(UTC), real).open == 0
        wait_for(RESOLVED)
        time.sleep(7)
    assert messages() == {(via, each): 1 for via in ("slack", "email", "webhook") for each in (FIRING, RESOLVED)}
