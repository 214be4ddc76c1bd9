"""`crm-lab test`: from bare templates to a running cluster, injected faults, and teardown; with timings.

Steps run in order: each needs those before it. The first failure ends the chain.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.waiting import ask_until
from infra_lab import producer, refusals, stores
from infra_lab.kafka_archive import LINES
from infra_lab.lab import Lab, answers
from infra_lab.layout import CORE_BIN, ENVIRONMENT
from infra_lab.playbooks import PlaybookRun, run_playbook
from infra_lab.private_files import read_vault
from infra_lab.refusals import BROKERS

LOAD_TOPIC = "lab.acks"
_PARTITIONS = 6
_RATE = 200.0
#: Seconds of load before and after a disturbance.
_CALM_SECONDS = 5.0
_PORT_SECONDS = 120.0
_POLL_SECONDS = 0.2
#: The task at which a host loses its power: Java is installed, the broker's programs are not.
_DIES_AT = "kafka_broker : Make folders of the broker"
_TASK_SECONDS = 900.0
#: Seconds of the generator's traffic.
_RUN_SECONDS = 30
_VERDICT = re.compile(r"A\d (PASS|FAIL)")
#: Machines and tags of site.yml for each chain.
_KAFKA = (*BROKERS, "--tags", "proxmox,common,kafka,schema_registry")
_OTHERS = ("--limit", "proxmox_vms:!kafka", "--tags", "proxmox,common,postgresql,minio,redis,monitoring")
#: The last release line of Kafka with ZooKeeper, and its quorum.
_ON_ZOOKEEPER = (*_KAFKA, "-e", "kafka_broker_quorum=zookeeper", "-e", f"kafka_broker_version={LINES[-1].version}")
#: Called with the seconds and the result.
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Step:
    """`action` returns a result line, and raises a UserError on a failure."""

    name: str
    action: Callable[[Lab], str]


def _kafka_steps() -> list[Step]:
    return [
        Step("wrong token is refused", refusals.wrong_token),
        Step("token that may only read is refused", refusals.auditor_token),
        Step("missing storage is refused", refusals.missing_storage),
        Step("address in use is refused", refusals.address_in_use),
        Step("a clone that fails stops the run", refusals.failing_clone),
        Step("a boot that fails stops the run", refusals.failing_start),
        Step("proxmox.yml resumes", lambda lab: _recap(run_playbook(lab, "proxmox", *BROKERS))),
        Step("more replicas than brokers is refused", refusals.too_few_brokers),
        Step("a host that dies in the middle of site.yml", _dies_midway),
        Step("site.yml resumes", lambda lab: _site(lab, *_KAFKA)),
        Step("topics.yml", lambda lab: _recap(run_playbook(lab, "topics"))),
        Step("validate.yml", lambda lab: _recap(run_playbook(lab, "validate"))),
        Step("site.yml again: changed=0", lambda lab: _site_again(lab, *_KAFKA)),
        Step("site.yml --check: changed=0", lambda lab: _site_check(lab, *_KAFKA)),
        Step("topics.yml again: changed=0", _topics_again),
        Step("unauthorised principal is refused", _unauthorised),
        Step("wrong password is refused", _wrong_password),
        Step("a normal run, accounted for", _normal_run),
        Step("acks=all across rolling_restart.yml", _rolling_restart),
        Step("acks=all across a killed node", _killed_node),
        Step("the killed node comes back", _comes_back),
        Step("changed broker id is refused", refusals.changed_broker_id),
        Step("teardown.yml without a limit is refused", refusals.teardown_unlimited),
        Step("teardown.yml", _teardown),
    ]


def _zookeeper_steps() -> list[Step]:
    return [
        Step("site.yml", lambda lab: _site(lab, *_ON_ZOOKEEPER)),
        Step("topics are replicated", _replicated),
        Step("site.yml again: changed=0", lambda lab: _site_again(lab, *_ON_ZOOKEEPER)),
        Step("acks=all across a killed node", _killed_node),
        Step("teardown.yml", _teardown),
    ]


def _stores_steps() -> list[Step]:
    return [
        Step("site.yml", lambda lab: _site(lab, *_OTHERS)),
        Step("site.yml again: changed=0", lambda lab: _site_again(lab, *_OTHERS)),
        Step("site.yml --check: changed=0", lambda lab: _site_check(lab, *_OTHERS)),
        Step("PostgreSQL's replica follows", stores.replica_follows),
        Step("the object store keeps to its policies", stores.store_keeps_to_its_policies),
        Step("Redis is one cluster", stores.redis_is_one_cluster),
        Step("Prometheus sees all", stores.prometheus_sees_all),
        Step("teardown.yml", _teardown),
    ]


#: Chains of `crm-lab test --chain`: KRaft cluster with injected faults; the same roles on ZooKeeper; the machines
#: besides Kafka.
CHAINS: Mapping[str, Callable[[], list[Step]]] = {
    "kafka": _kafka_steps,
    "zookeeper": _zookeeper_steps,
    "stores": _stores_steps,
}


def steps(name: str, first: str | None = None) -> list[Step]:
    """The steps of a chain, from the one whose name begins with `first` if given. Raises ConfigurationError."""
    if name not in CHAINS:
        raise ConfigurationError(f"chain {name} is unknown; one of: {', '.join(CHAINS)}")
    chain = CHAINS[name]()
    if first is None:
        return chain
    starts = [number for number, step in enumerate(chain) if step.name.startswith(first)]
    if not starts:
        raise ConfigurationError(f"no step begins with {first!r}; steps: {', '.join(step.name for step in chain)}")
    return chain[starts[0] :]


def run(lab: Lab, report: Report, chain: Sequence[Step]) -> None:
    """Run every step of `chain`, in order. Raises the first failing step's error."""
    for step in chain:
        began = time.monotonic()
        seen = step.action(lab)
        report(step.name, time.monotonic() - began, seen)


def _recap(done: PlaybookRun) -> str:
    done.require_success()
    hosts = ", ".join(f"{host} ok={counts[0]} changed={counts[1]}" for host, counts in done.recap.items())
    return f"{done.seconds:.0f} s: {hosts}"


def _run_site(lab: Lab, log: str, *options: str) -> PlaybookRun:
    return run_playbook(lab, "site", *options, log=log)


def _site(lab: Lab, *options: str) -> str:
    return _recap(_run_site(lab, "site", *options))


def _site_again(lab: Lab, *options: str) -> str:
    return _recap(_run_site(lab, "site-again", *options).require_unchanged())


def _site_check(lab: Lab, *options: str) -> str:
    return _recap(_run_site(lab, "site-check", *options, "--check", "--diff").require_unchanged())


def _dies_midway(lab: Lab) -> str:
    """A host loses its power while the roles run on it: the run fails with its name, the other hosts complete."""
    name, log = refusals.last_broker(lab), lab.layout.logs / "site-host-dies.log"
    log.unlink(missing_ok=True)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(_run_site, lab, log.stem, *_KAFKA)
        _wait_for_task(log, _DIES_AT)
        lab.hosts.kill(lab.test_host(name))
        done = running.result()
    seen = done.require_refusal(name, "UNREACHABLE")
    if any(counts[2] or counts[3] for host, counts in seen.recap.items() if host != name):
        raise ServiceError(f"{name} died, and others failed with it; see {seen.log}")
    return f"{name} killed at '{_DIES_AT}', named in {seen.seconds:.0f} s"


def _wait_for_task(log: Path, task: str) -> None:
    """Wait until a running playbook has started `task`."""
    _until(
        lambda: log.is_file() and task in log.read_text(encoding="utf-8"),
        _TASK_SECONDS,
        f"no task '{task}' within {_TASK_SECONDS:g} s; see {log}",
    )


def _until(ready: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Wait for a condition. Raises ServiceError(`otherwise`) after the timeout."""
    if not ask_until(bool, ready, within_s=seconds, every_s=_POLL_SECONDS):
        raise ServiceError(otherwise)


def _normal_run(lab: Lab) -> str:
    """Run the generator's traffic through the lab's brokers and this machine's stores, up to the marts."""
    log = lab.layout.logs / "normal-run.log"
    command = [str(CORE_BIN / "crm-experiment"), "demo", "--env", ENVIRONMENT, "--seconds", str(_RUN_SECONDS)]
    began = time.monotonic()
    try:
        with log.open("w", encoding="utf-8") as file:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False)
        lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines()]
        verdicts = [found[0] for line in lines if (found := _VERDICT.match(line))]
        if done.returncode != 0 or "PASS" not in lines:
            raise ServiceError(f"the run is not accounted for: {verdicts or lines[-1:]}; see {log}")
    finally:
        subprocess.run([str(CORE_BIN / "crm-stack"), "down", "--env", ENVIRONMENT], check=False, capture_output=True)
    return f"{', '.join(verdicts)} in {time.monotonic() - began:.0f} s"


def _topics_again(lab: Lab) -> str:
    return _recap(run_playbook(lab, "topics", log="topics-again").require_unchanged())


def _replicated(lab: Lab) -> str:
    """Every partition of a new topic has all its replicas in sync."""
    admin = _client(lab, "admin")
    _fresh_topic(lab, admin)
    time.sleep(_CALM_SECONDS)
    behind = producer.out_of_sync(admin, LOAD_TOPIC, lab.topology.kafka.replication_factor)
    if behind:
        raise ServiceError(f"partitions {behind} of {LOAD_TOPIC} have fewer replicas in sync than they should")
    return f"{_PARTITIONS} partitions with {lab.topology.kafka.replication_factor} replicas in sync"


def _client(lab: Lab, principal: str) -> dict[str, Any]:
    """librdkafka's configuration of a principal."""
    password = read_vault(lab.layout)["vault_kafka_passwords"][principal]
    return {
        "bootstrap.servers": ",".join(f"{broker.host}:{broker.port}" for broker in lab.topology.kafka.brokers),
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": principal,
        "sasl.password": password,
        "ssl.ca.location": str(lab.layout.authority),
        "log_level": 0,
    }


def _unauthorised(lab: Lab) -> str:
    """`accounting` reads every topic and writes none."""
    admin = _client(lab, "admin")
    _fresh_topic(lab, admin)
    refusal = producer.refused(_client(lab, "accounting"), LOAD_TOPIC)
    if refusal != "TOPIC_AUTHORIZATION_FAILED":
        raise ServiceError(f"accounting was refused with {refusal}, not by the authorizer")
    return refusal


def _wrong_password(lab: Lab) -> str:
    refusal = producer.refused({**_client(lab, "accounting"), "sasl.password": "wrong"}, LOAD_TOPIC)
    return f"refused: {refusal}"


def _fresh_topic(lab: Lab, admin: dict[str, Any]) -> None:
    """Delete a topic left by an aborted chain, which would have numbers of another load."""
    try:
        producer.delete_topic(admin, LOAD_TOPIC)
        time.sleep(_CALM_SECONDS)  # deletion continues after the brokers have accepted it
    except ServiceError as error:
        if "UNKNOWN_TOPIC" not in str(error):
            raise
    producer.make_topic(admin, LOAD_TOPIC, _PARTITIONS, lab.topology.kafka.replication_factor)


def _under_load(lab: Lab, disturb: Callable[[], str]) -> str:
    """Run `disturb` while records are sent; afterwards none may be lost."""
    admin = _client(lab, "admin")
    _fresh_topic(lab, admin)
    load = producer.Load(admin, LOAD_TOPIC, _RATE)
    load.start()
    try:
        time.sleep(_CALM_SECONDS)
        seen = disturb()
        time.sleep(_CALM_SECONDS)
    finally:
        result = load.finish()
    result.require_nothing_lost()
    return (
        f"{seen}; {result.acknowledged} of {result.sent} acknowledged, {result.failed} failed, {result.lost} lost, "
        f"{result.duplicates} doubled, longest gap {result.longest_gap_s:.1f} s"
    )


def _rolling_restart(lab: Lab) -> str:
    return _under_load(lab, lambda: _recap(run_playbook(lab, "rolling_restart")))


def _killed_node(lab: Lab) -> str:
    """Kill the last host of the topology's brokers, without shutdown or flush."""

    def kill() -> str:
        name = refusals.last_broker(lab)
        lab.hosts.kill(lab.test_host(name))
        time.sleep(4 * _CALM_SECONDS)  # long enough for the cluster to detect it and continue without it
        return f"{name} killed"

    return _under_load(lab, kill)


def _comes_back(lab: Lab) -> str:
    """Proxmox restarts the host; Kafka starts automatically and catches up."""
    name = refusals.last_broker(lab)
    done = run_playbook(lab, "proxmox", "--limit", name, log="proxmox-again").require_success()
    host, port = lab.topology.hosts[name].address, lab.topology.kafka.brokers[-1].port
    _until(
        lambda: answers(host, port),
        _PORT_SECONDS,
        f"{name}: no broker at {host}:{port} after {_PORT_SECONDS:g} s; see its journal",
    )
    checked = run_playbook(lab, "validate", log="validate-again").require_success()
    return f"up again in {done.seconds:.0f} s, cluster valid after {checked.seconds:.0f} s more"


def _teardown(lab: Lab) -> str:
    done = run_playbook(lab, "teardown", "--limit", "proxmox_vms", "-e", "teardown_environment=lab").require_success()
    if left := [name for name in lab.hosts.names() if lab.hosts.running(name)]:
        raise ServiceError(f"teardown.yml went through, and {', '.join(left)} still run")
    return f"{len(done.recap)} machines deleted in {done.seconds:.0f} s"
