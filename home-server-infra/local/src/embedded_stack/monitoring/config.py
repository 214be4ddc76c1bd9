"""Configuration of Prometheus and Alertmanager, rendered from topology and home-server-infra/monitoring.

Rules, routes and inhibitions are plain files there, so that other installations load the same ones. Rendering adds the
environment's values (addresses, files with secrets) and the scale of waits: 1, except in a drill, which must not take
minutes. A scale shortens the time between a breach and its message; conditions and their windows are unchanged.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from data_platform_core.secret_files import write_secret
from data_platform_core.topology import Endpoint, Topology
from embedded_stack.layout import MONITORING_DIR, Layout

RULES_DIR = MONITORING_DIR / "rules"
ALERTMANAGER_SOURCE = MONITORING_DIR / "alertmanager.yaml"

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: Waits between a breach and its message. Not `repeat_interval`, which prevents repeated messages.
_WAITS = ("group_wait", "group_interval")


def write_prometheus(layout: Layout, scale: float = 1) -> bool:
    """prometheus.yml and its rules. Returns whether anything changed."""
    layout.rules.mkdir(mode=0o700, exist_ok=True)
    wanted = {layout.rules / path.name: rendered_rules(path, scale) for path in rule_files()}
    wanted[layout.prometheus_config] = dump(prometheus_config(layout))
    gone = [path for path in layout.rules.iterdir() if path not in wanted]
    for path in gone:
        path.unlink()
    changed = [path for path, text in wanted.items() if _differs(path, text)]
    for path in changed:
        write_secret(path, wanted[path])
    return bool(changed or gone)


def write_alertmanager(layout: Layout, scale: float = 1) -> bool:
    """alertmanager.yml. Returns whether it changed."""
    text = dump(alertmanager_config(layout, scale))
    changed = _differs(layout.alertmanager_config, text)
    write_secret(layout.alertmanager_config, text)
    return changed


def _differs(path: Path, text: str) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != text


def rule_files() -> list[Path]:
    """Recording rules and alerts, the same for every installation."""
    return sorted(RULES_DIR.glob("*.yaml"))


def dump(content: Any) -> str:
    """YAML under a header line."""
    return "# Written by `make up`; changes here are lost.\n" + yaml.safe_dump(content, sort_keys=False, width=200)


def prometheus_config(layout: Layout) -> dict[str, Any]:
    """prometheus.yml: scrape targets, intervals, and the address for alerts."""
    topology = layout.topology
    monitoring = topology.monitoring
    servers = f"{monitoring.scrape.servers_seconds:g}s"
    return {
        "global": {
            "scrape_interval": servers,
            "evaluation_interval": servers,
            "external_labels": {"environment": topology.environment},
        },
        "rule_files": [f"{_literal(layout.rules)}/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [monitoring.alertmanager.address]}]}]},
        "scrape_configs": _scrapes(layout, topology),
    }


def _literal(path: Path) -> str:
    """A path escaped for a file name pattern."""
    return re.sub(r"([\\*?\[])", r"\\\1", str(path))


def _scrapes(layout: Layout, topology: Topology) -> list[dict[str, Any]]:
    monitoring = topology.monitoring
    often = {"scrape_interval": f"{monitoring.scrape.pipeline_seconds:g}s"}
    brokers = [
        {"targets": [broker.metrics.address], "labels": {"broker": str(broker.id)}} for broker in topology.kafka.brokers
    ]
    minio = {
        "metrics_path": "/minio/v2/metrics/cluster",
        "authorization": {"credentials_file": str(layout.secrets / "minio-metrics-token")},
    }
    return [
        _job("generator", topology.metrics.generator) | often,
        _job("streaming", topology.metrics.streaming) | often,
        {"job_name": "kafka", "static_configs": brokers},
        _job("node", monitoring.node_exporter),
        _job("postgres", monitoring.postgres_exporter),
        _job("minio", topology.object_store) | minio,
        _job("prometheus", monitoring.prometheus),
        _job("alertmanager", monitoring.alertmanager),
    ]


def _job(name: str, endpoint: Endpoint) -> dict[str, Any]:
    return {"job_name": name, "static_configs": [{"targets": [endpoint.address]}]}


def rendered_rules(path: Path, scale: float) -> str:
    """A rule file with each `for` times `scale`; expressions and their windows are unchanged."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in content["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = scaled(rule["for"], scale)
    return dump(content)


def scaled(duration: str, scale: float) -> str:
    """`scaled("5m", 0.1)` is `30000ms`; never below a second."""
    return duration if scale == 1 else f"{max(1000, round(milliseconds(duration) * scale))}ms"


def milliseconds(duration: str) -> int:
    """Seconds of a Prometheus duration with one unit: `5m`. Raises ValueError for anything else."""
    match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", duration)
    if match is None:
        raise ValueError(f"duration {duration!r} is not a number and a unit of {', '.join(_UNITS_MS)}")
    return int(match[1]) * _UNITS_MS[match[2]]


def alertmanager_config(layout: Layout, scale: float = 1) -> dict[str, Any]:
    """alertmanager.yml: routes of the source file, receivers of the environment."""
    config: dict[str, Any] = yaml.safe_load(ALERTMANAGER_SOURCE.read_text(encoding="utf-8"))
    _scale_route(config["route"], scale)
    own = layout.receivers
    slack = own / "slack-url"
    config["global"] |= {"slack_api_url_file": str(slack if slack.is_file() else layout.sink_slack_url)}
    config["global"] |= _mail(layout)
    webhook = own / "webhook-url"
    token = own / "webhook-token"
    mail = layout.topology.monitoring.mail
    for receiver in config["receivers"]:
        for hook in receiver.get("webhook_configs", []):
            hook["url_file"] = str(webhook if webhook.is_file() else layout.sink_webhook_url)
            if token.is_file():
                hook["http_config"] = {"authorization": {"credentials_file": str(token)}}
        for letter in receiver.get("email_configs", []):
            letter["to"] = mail.recipient if mail else "sink@localhost"
    return config


def _mail(layout: Layout) -> dict[str, Any]:
    mail, sink = layout.topology.monitoring.mail, layout.topology.monitoring.alert_sink
    if mail is None:
        return {
            "smtp_smarthost": f"{sink.host}:{sink.smtp_port}",
            "smtp_from": "alerts@localhost",
            "smtp_require_tls": False,
        }
    found: dict[str, Any] = {
        "smtp_smarthost": mail.address,
        "smtp_from": mail.sender,
        "smtp_require_tls": mail.tls,
    }
    if mail.user:
        found |= {
            "smtp_auth_username": mail.user,
            "smtp_auth_password_file": str(layout.receivers / "smtp-password"),
        }
    return found


def _scale_route(route: dict[str, Any], scale: float) -> None:
    for wait in _WAITS:
        if wait in route:
            route[wait] = scaled(route[wait], scale)
    for child in route.get("routes", []):
        _scale_route(child, scale)
