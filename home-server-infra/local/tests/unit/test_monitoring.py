"""Rules, routes and the files rendered from them, checked by Prometheus' and Alertmanager's own tools."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiosmtpd.controller import Controller

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import MONITORING
from data_platform_core.access.object_store import policy
from data_platform_core.paths import REPOSITORY_ROOT
from embedded_stack.credentials import ensure_accounts, new_secret
from embedded_stack.layout import AMTOOL_BINARY, MONITORING_DIR, Layout
from embedded_stack.monitoring import config, programs
from embedded_stack.monitoring.prepare import metrics_token
from embedded_stack.monitoring.sink import FIRING, RESOLVED, Inbox, MailHandler, http_server, read_messages

pytestmark = pytest.mark.unit

RUNBOOK = REPOSITORY_ROOT / "docs" / "ai-context" / "runbooks" / "alerts.md"
TESTS = sorted((MONITORING_DIR / "tests").glob("*.yaml"))
#: What the platform must alert on.
WANTED = {
    *(
        "StreamingDown",
        "StreamingWaiting",
        "LagGrowing",
        "LagHigh",
        "ThroughputLow",
        "LatencyHigh",
        "ErrorRateHigh",
        "BrokerDown",
    ),
    *("UnderReplicatedPartitions", "OfflinePartitions", "HostCpuHigh", "HostMemoryHigh", "HostDiskFull", "TargetDown"),
}


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120)


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in config.rule_files() for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.fixture
def prepared(layout: Layout) -> Layout:
    """A layout with the configuration of Prometheus and Alertmanager on disk, and the accounts."""
    layout.config.mkdir(parents=True)
    accounts = ensure_accounts(layout.secrets)
    for service in programs.monitoring_services(layout):
        service.prepare(accounts)
    return layout


def refresh(layout: Layout, name: str) -> bool:
    """Whether a running program of this name must reload its configuration."""
    return next(service for service in programs.monitoring_services(layout) if service.name == name).refresh()


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_each_alert_fires_on_a_breach_and_is_silent_otherwise(path: Path) -> None:
    done = run(programs.program("promtool"), "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_tests_in_which_it_fires_with_each_severity_and_does_not() -> None:
    cases = [
        case for path in TESTS for test in yaml.safe_load(path.read_text())["tests"] for case in test["alert_rule_test"]
    ]
    fired = {(case["alertname"], found["exp_labels"]["severity"]) for case in cases for found in case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fired == {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    assert silent == {rule["alert"] for rule in alerts()} == WANTED


def test_a_test_whose_alert_does_not_fire_fails(tmp_path: Path) -> None:
    (source,) = (path for path in TESTS if path.stem == "servers")
    text = source.read_text().replace("../rules", str(config.RULES_DIR)).replace("0x20 7x12 0x28", "0x60")
    (tmp_path / "tests.yaml").write_text(text)
    assert run(programs.program("promtool"), "test", "rules", tmp_path / "tests.yaml").returncode != 0


def test_every_alert_has_severity_summary_value_and_runbook() -> None:
    sections = {line.removeprefix("## ") for line in RUNBOOK.read_text().splitlines() if line.startswith("## ")}
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert rule["annotations"]["summary"]
        measured = rule["annotations"]["description"]
        assert "$value" in measured or rule["alert"] == "StreamingDown", "whether it is up is all there is to measure"
        link = f"docs/ai-context/runbooks/alerts.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"] == link
        assert rule["alert"] in sections


def test_prometheus_accepts_its_configuration_and_rules(prepared: Layout) -> None:
    done = run(programs.program("promtool"), "check", "config", prepared.prometheus_config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(config.rule_files())} rule files found" in done.stdout


def test_alertmanager_accepts_its_configuration(prepared: Layout) -> None:
    done = run(AMTOOL_BINARY, "check-config", prepared.alertmanager_config)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receivers"),
    [
        (("severity=warning",), "slack"),
        (("severity=critical",), "slack-and-email"),
        (("severity=warning", "sla=true"), "webhook,slack"),
        (("severity=critical", "sla=true"), "webhook,slack-and-email"),
        (("alertname=SlaViolated", "severity=warning", "sla=true", "channel=slack"), "slack"),
        (("alertname=SlaViolated", "severity=warning", "sla=true", "channel=email"), "email"),
        (("alertname=SlaViolated", "severity=warning", "sla=true", "channel=webhook"), "webhook"),
        (("alertname=SlaViolated", "severity=warning", "sla=true", "channel=all"), "slack,email,webhook"),
        (("alertname=SlaEscalated", "severity=critical", "sla=true", "channel=all"), "slack,email,webhook"),
    ],
)
def test_alerts_are_routed_to_their_receivers(prepared: Layout, labels: tuple[str, ...], receivers: str) -> None:
    done = run(AMTOOL_BINARY, "config", "routes", "test", f"--config.file={prepared.alertmanager_config}", *labels)
    assert done.stdout.strip() == receivers, done.stderr


def test_every_channel_of_a_service_level_has_a_receiver_and_its_alerts_a_runbook(prepared: Layout) -> None:
    from data_platform_core.governance import alerts as posted
    from data_platform_core.governance.definitions import Channel

    route = config.alertmanager_config(prepared)["route"]["routes"][0]
    assert route["matchers"] == [f'alertname=~"{posted.VIOLATED}|{posted.ESCALATED}"']
    single = [channel for channel in Channel if channel is not Channel.ALL]
    assert [child["receiver"] for child in route["routes"]] == [channel.value for channel in single]
    sections = RUNBOOK.read_text().splitlines()
    assert {f"## {posted.VIOLATED}", f"## {posted.ESCALATED}"} <= set(sections)


def test_nothing_leaves_the_machine_until_someone_names_a_receiver(prepared: Layout) -> None:
    rendered = config.alertmanager_config(prepared)
    sink = prepared.topology.monitoring.alert_sink
    hooks = [hook for receiver in rendered["receivers"] for hook in receiver.get("webhook_configs", [])]
    files = [rendered["global"]["slack_api_url_file"], *(hook["url_file"] for hook in hooks)]
    assert [Path(file).read_text().startswith(f"{sink.url}/") for file in files] == [True, True]
    assert rendered["global"]["smtp_smarthost"] == f"{sink.host}:{sink.smtp_port}"


def test_a_configured_receiver_replaces_the_sink_and_is_not_in_the_file(prepared: Layout) -> None:
    for name in ("slack-url", "webhook-url", "webhook-token"):
        (prepared.receivers / name).write_text("https://hooks.example.org/very-secret")
    assert refresh(prepared, programs.ALERTMANAGER), "a running Alertmanager must read it again"
    text = prepared.alertmanager_config.read_text()
    assert "very-secret" not in text
    assert str(prepared.receivers / "slack-url") in text
    assert str(prepared.receivers / "webhook-token") in text
    assert run(AMTOOL_BINARY, "check-config", prepared.alertmanager_config).returncode == 0


def test_configuration_that_is_the_same_is_not_read_again(prepared: Layout) -> None:
    assert not refresh(prepared, programs.PROMETHEUS)
    assert not refresh(prepared, programs.ALERTMANAGER)
    (prepared.rules / "gone.yaml").write_text("groups: []")
    assert refresh(prepared, programs.PROMETHEUS)
    assert not (prepared.rules / "gone.yaml").exists()


def test_a_scale_shortens_waits_and_leaves_conditions_alone() -> None:
    for path in config.rule_files():
        whole, short = (yaml.safe_load(config.rendered_rules(path, scale)) for scale in (1, 0.1))
        for before, after in zip(_rules(whole), _rules(short), strict=True):
            assert before["expr"] == after["expr"]
            if "for" in before:
                assert config.milliseconds(after["for"]) == max(1000, config.milliseconds(before["for"]) // 10)


def _rules(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in content["groups"] for rule in group["rules"]]


def test_a_duration_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'soon' is not a number and a unit"):
        config.milliseconds("soon")


def test_every_place_that_serves_metrics_is_scraped(layout: Layout) -> None:
    topology = layout.topology
    scraped = {
        target
        for job in config.prometheus_config(layout)["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    }
    monitoring = topology.monitoring
    servers = (monitoring.prometheus, monitoring.alertmanager, monitoring.node_exporter, monitoring.postgres_exporter)
    places = (topology.metrics.generator, topology.metrics.streaming, topology.object_store, *servers)
    assert scraped == {place.address for place in (*places, *(broker.metrics for broker in topology.kafka.brokers))}


def test_what_listens_everywhere_is_scraped_at_its_host(layout: Layout) -> None:
    metrics = layout.topology.metrics
    everywhere = metrics.model_copy(update={"streaming": metrics.streaming.model_copy(update={"bind": "0.0.0.0"})})
    bound = Layout(layout.topology.model_copy(update={"metrics": everywhere}))
    text = str(config.prometheus_config(bound))
    assert metrics.streaming.address in text
    assert "0.0.0.0" not in text


def test_the_monitorings_account_reads_figures_and_nothing_else(layout: Layout) -> None:
    access = load_matrix().object_store[MONITORING]
    (statement,) = policy(access, layout.topology.object_store.buckets)["Statement"]
    assert statement["Action"] == ["admin:Prometheus"]


def test_the_object_stores_token_is_signed_by_the_account_and_ends() -> None:
    secret = new_secret()
    head, claims, signature = metrics_token("crm-monitoring", secret, expires=1_800_000_000).split(".")
    assert json.loads(_decoded(head)) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(_decoded(claims)) == {"exp": 1_800_000_000, "sub": "crm-monitoring", "iss": "prometheus"}
    assert _decoded(signature) == hmac.digest(secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(address of a sink, its file)."""
    server = http_server("127.0.0.1", 0, Inbox(tmp_path / "alerts.jsonl"))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "alerts.jsonl"
    server.shutdown()
    server.server_close()


def test_the_sink_keeps_messages_to_slack_and_webhooks(inbox: tuple[str, Path]) -> None:
    url, path = inbox
    title = "[RESOLVED] critical BrokerDown"
    httpx.post(f"{url}/slack", json={"attachments": [{"title": title}]}, trust_env=False).raise_for_status()
    body = {"status": "firing", "alerts": [{"labels": {"alertname": "StreamingDown"}}]}
    httpx.post(f"{url}/webhook", json=body, trust_env=False).raise_for_status()
    told = [(message.via, message.status, message.text) for message in read_messages(path)]
    assert told == [("slack", RESOLVED, title), ("webhook", FIRING, "StreamingDown")]


@pytest.mark.parametrize(("path", "body", "code"), [("/slack", b"{", 400), ("/slack", b"[]", 400), ("/x", b"{}", 404)])
def test_the_sink_refuses_what_is_no_alert(inbox: tuple[str, Path], path: str, body: bytes, code: int) -> None:
    url, file = inbox
    assert httpx.post(url + path, content=body, trust_env=False).status_code == code
    assert read_messages(file) == []


def test_the_sink_keeps_mail(tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mail = Controller(MailHandler(Inbox(path)), hostname="127.0.0.1", port=port)
    mail.start()
    try:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("a@localhost", "b@localhost", "Subject: [FIRING:1] critical BrokerDown\r\n\r\nbroker 3")
    finally:
        mail.stop()
    (message,) = read_messages(path)
    assert (message.via, message.status, message.text) == ("email", FIRING, "[FIRING:1] critical BrokerDown")
