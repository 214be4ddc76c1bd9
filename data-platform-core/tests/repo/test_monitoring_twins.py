"""The embedded stack and the role of the machines render monitoring independently, and monitor the same things."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
import pytest
import yaml

from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.topology import load_topology
from embedded_stack.layout import Layout
from embedded_stack.monitoring.config import prometheus_config
from embedded_stack.monitoring.programs import monitoring_services

pytestmark = pytest.mark.unit

ROLE = REPOSITORY_ROOT / "ansible" / "roles" / "monitoring_agents"
#: Monitored on this machine only: the first two are pods where Ansible builds the machines, and the stack signs the
#: object store's token.
ONLY_HERE = {"generator", "streaming", "minio"}


def defaults() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    return found


def rendered(groups: dict[str, list[str]]) -> dict[str, Any]:
    """The role's prometheus.yml for an inventory's machines; a variable stands for its name."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["to_json"] = json.dumps
    text = (ROLE / "templates" / "prometheus.yml.j2").read_text(encoding="utf-8")
    names = {name: name for name in re.findall(r"\b(?:monitoring_agents|platform)_\w+", text)}
    names |= {"ansible_managed": "-", "ansible_host": "watcher", "monitoring_agents_alertmanagers": ["alertmanager:1"]}
    hosts = {name for members in groups.values() for name in members}
    machines = {name: {"ansible_host": name, "kafka_broker_id": number} for number, name in enumerate(sorted(hosts))}
    found: dict[str, Any] = yaml.safe_load(
        environment.from_string(text).render(**names, groups=groups, hostvars=machines)
    )
    return found


def jobs(config: dict[str, Any]) -> dict[str, set[str]]:
    """The labels of each job's targets, by the job's name."""
    return {
        job["job_name"]: {label for targets in job["static_configs"] for label in targets.get("labels", ())}
        for job in config["scrape_configs"]
    }


MACHINES = {"proxmox_vms": ["kafka-1", "postgres-1"], "kafka": ["kafka-1"], "postgres_primary": ["postgres-1"]}


def test_machines_and_stack_have_the_same_scrape_jobs_but_for_those_that_are_only_here() -> None:
    here, there = jobs(prometheus_config(Layout(load_topology("test")))), jobs(rendered(MACHINES))
    assert set(here) - set(there) == ONLY_HERE
    assert set(there) <= set(here)


def test_a_jobs_targets_have_the_same_labels_in_both() -> None:
    here, there = jobs(prometheus_config(Layout(load_topology("test")))), jobs(rendered(MACHINES))
    # Of many machines each is named; with one there is nothing to distinguish.
    assert there.pop("node") == {"host"}
    assert {name: here[name] for name in there} == there


def test_every_machine_is_scraped_and_alerts_go_to_an_alertmanager() -> None:
    config = rendered(MACHINES)
    targets = [
        target for job in config["scrape_configs"] for part in job["static_configs"] for target in part["targets"]
    ]
    assert {"kafka-1:monitoring_agents_node_exporter_port", "postgres-1:monitoring_agents_node_exporter_port"} <= {
        *targets
    }
    assert "watcher:monitoring_agents_prometheus_port" in targets, "where it is reached, not where it listens"
    assert config["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": ["alertmanager:1"]}]}]
    assert defaults()["monitoring_agents_alertmanagers"]


def test_exporters_collect_the_same_here_and_on_the_machines() -> None:
    commands = {service.name: service.command for service in monitoring_services(Layout(load_topology("test")))}
    here = {
        part.removeprefix("--collector.")
        for part in commands["node-exporter"]
        if re.fullmatch(r"--collector\.\w+", part)
    }
    # A supervisor runs the stack's services, systemd those of a machine.
    assert set(defaults()["monitoring_agents_node_exporter_collectors"]) == here | {"systemd"}
    assert set(defaults()["monitoring_agents_postgres_exporter_arguments"]) <= set(commands["postgres-exporter"])
