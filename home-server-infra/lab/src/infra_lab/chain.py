"""`crm-lab test`: from bare templates to a running cluster, everything that may go wrong, and back; with timings.

Steps stand in their order: each needs those before it. The first that is not as it must be ends the chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from data_platform_core.errors import ServiceError
from infra_lab import producer
from infra_lab.kafka_archive import LINES
from infra_lab.lab import Lab, answers
from infra_lab.playbooks import PlaybookRun, run_playbook
from infra_lab.private_files import AUDITOR_USER, read_vault, token_secret, write_private

LOAD_TOPIC = "lab.acks"
_PARTITIONS = 6
_RATE = 200.0
#: Seconds of load before and after a disturbance.
_CALM_SECONDS = 5.0
_PORT_SECONDS = 120.0
_FOREIGN_ID = 9
#: Parts of site.yml that the lab's hosts are for.
_TAGS = ("--tags", "proxmox,common,kafka")
#: The last line of Kafka that knows ZooKeeper, and its quorum.
_ON_ZOOKEEPER = ("-e", "kafka_broker_quorum=zookeeper", "-e", f"kafka_broker_version={LINES[-1].version}")
#: The modules wait for the end of a failed task as long as for a running one.
_IMPATIENT = ("-e", "proxmox_vm_clone_timeout=15", "-e", "proxmox_vm_task_timeout=15")
#: Told the seconds and what was seen.
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class Step:
    """`action` returns what is worth telling, and raises a UserError when something is not as it must be."""

    name: str
    action: Callable[[Lab], str]


def steps(zookeeper: bool = False) -> list[Step]:
    """The chain; with `zookeeper`, a shorter one that forms the cluster on a ZooKeeper quorum."""
    if zookeeper:
        return [
            Step("site.yml on ZooKeeper", lambda lab: _told(_site(lab, "site-zookeeper", *_ON_ZOOKEEPER))),
            Step("topics are replicated there", _replicated),
            Step("site.yml on ZooKeeper again: changed=0", _again_on_zookeeper),
            Step("acks=all across a killed node on ZooKeeper", _killed_node),
            Step("teardown.yml", _teardown),
        ]
    return [
        Step("wrong token is refused", _wrong_token),
        Step("token that may only read is refused", _auditor_token),
        Step("missing storage is refused", _missing_storage),
        Step("a clone that fails stops the run", _failing_clone),
        Step("a boot that fails stops the run", _failing_start),
        Step("proxmox.yml goes on where it was", lambda lab: _told(run_playbook(lab, "proxmox"))),
        Step("site.yml", lambda lab: _told(_site(lab, "site"))),
        Step("topics.yml", lambda lab: _told(run_playbook(lab, "topics"))),
        Step("validate.yml", lambda lab: _told(run_playbook(lab, "validate"))),
        Step("site.yml again: changed=0", _again),
        Step("site.yml --check: changed=0", _check_mode),
        Step("topics.yml again: changed=0", _topics_again),
        Step("unauthorised principal is refused", _unauthorised),
        Step("wrong password is refused", _wrong_password),
        Step("acks=all across rolling_restart.yml", _rolling_restart),
        Step("acks=all across a killed node", _killed_node),
        Step("the killed node comes back", _comes_back),
        Step("changed broker id is refused", _changed_broker_id),
        Step("teardown.yml without a limit is refused", _teardown_unlimited),
        Step("teardown.yml", _teardown),
    ]


def run(lab: Lab, report: Report, first: str | None = None, zookeeper: bool = False) -> None:
    """Every step, or those from the one whose name begins with `first`. Raises what the first failing step raises."""
    chain = steps(zookeeper)
    if first is not None:
        starts = [number for number, step in enumerate(chain) if step.name.startswith(first)]
        if not starts:
            raise ServiceError(f"no step begins with {first!r}; steps: {', '.join(step.name for step in chain)}")
        chain = chain[starts[0] :]
    for step in chain:
        began = time.monotonic()
        seen = step.action(lab)
        report(step.name, time.monotonic() - began, seen)


def _told(done: PlaybookRun) -> str:
    done.require_success()
    hosts = ", ".join(f"{host} ok={counts[0]} changed={counts[1]}" for host, counts in done.recap.items())
    return f"{done.seconds:.0f} s: {hosts}"


def _site(lab: Lab, log: str, *options: str) -> PlaybookRun:
    return run_playbook(lab, "site", *_TAGS, *options, log=log)


def _again(lab: Lab) -> str:
    return _told(_site(lab, "site-again").require_unchanged())


def _again_on_zookeeper(lab: Lab) -> str:
    return _told(_site(lab, "site-zookeeper-again", *_ON_ZOOKEEPER).require_unchanged())


def _topics_again(lab: Lab) -> str:
    return _told(run_playbook(lab, "topics", log="topics-again").require_unchanged())


def _replicated(lab: Lab) -> str:
    """Every partition of a new topic has all its replicas in sync."""
    admin = _client(lab, "admin")
    _fresh_topic(lab, admin)
    time.sleep(_CALM_SECONDS)
    behind = producer.out_of_sync(admin, LOAD_TOPIC, lab.topology.kafka.replication_factor)
    if behind:
        raise ServiceError(f"partitions {behind} of {LOAD_TOPIC} have fewer replicas in sync than they should")
    return f"{_PARTITIONS} partitions with {lab.topology.kafka.replication_factor} replicas in sync"


def _check_mode(lab: Lab) -> str:
    return _told(_site(lab, "site-check", "--check", "--diff").require_unchanged())


def _refused(done: PlaybookRun, *words: str) -> str:
    done.require_refusal(*words)
    return f"refused in {done.seconds:.0f} s, naming {', '.join(words)}"


def _wrong_token(lab: Lab) -> str:
    wrong = "-e", "vault_proxmox_api_token_secret=00000000-0000-0000-0000-000000000000"
    return _refused(run_playbook(lab, "proxmox", *wrong, log="wrong-token"), "401", "vault_proxmox_api_token_secret")


def _auditor_token(lab: Lab) -> str:
    """The API's own words have to reach the reader: the playbook can't know which privileges a token has.

    The secret is passed by a file of this lab's folder, never on a command line, where every user could read it.
    """
    path = lab.layout.root / "auditor-vars.yml"
    secret = token_secret(lab.layout, AUDITOR_USER)
    write_private(path, f"proxmox_vm_api_user: {AUDITOR_USER}\nvault_proxmox_api_token_secret: {secret}\n")
    try:
        return _refused(run_playbook(lab, "proxmox", "-e", f"@{path}", log="auditor-token"), "403", "VM.Clone")
    finally:
        path.unlink()


def _missing_storage(lab: Lab) -> str:
    done = run_playbook(lab, "proxmox", "-e", "proxmox_vm_storage=nowhere", log="missing-storage")
    return _refused(done, "proxmox_vm_storage", "nowhere")


def _failing_clone(lab: Lab) -> str:
    lab.faults.order("clone", 1)
    return _refused(run_playbook(lab, "proxmox", *_IMPATIENT, log="failing-clone"), "no space left on device")


def _failing_start(lab: Lab) -> str:
    lab.faults.order("start", 1)
    return _refused(run_playbook(lab, "proxmox", *_IMPATIENT, log="failing-start"), "got timeout")


def _client(lab: Lab, principal: str) -> dict[str, Any]:
    """How a principal speaks to the brokers, by librdkafka's names."""
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
    said = producer.refused(_client(lab, "accounting"), LOAD_TOPIC)
    if said != "TOPIC_AUTHORIZATION_FAILED":
        raise ServiceError(f"accounting was refused with {said}, not by the authorizer")
    return said


def _wrong_password(lab: Lab) -> str:
    said = producer.refused({**_client(lab, "accounting"), "sasl.password": "wrong"}, LOAD_TOPIC)
    return f"refused: {said}"


def _fresh_topic(lab: Lab, admin: dict[str, Any]) -> None:
    """Left by a chain that ended early, it would hold numbers of another load."""
    try:
        producer.delete_topic(admin, LOAD_TOPIC)
        time.sleep(_CALM_SECONDS)  # deletion goes on after the brokers have agreed to it
    except ServiceError as error:
        if "UNKNOWN_TOPIC" not in str(error):
            raise
    producer.make_topic(admin, LOAD_TOPIC, _PARTITIONS, lab.topology.kafka.replication_factor)


def _under_load(lab: Lab, disturb: Callable[[], str]) -> str:
    """`disturb` while records go through; afterwards none may be lost."""
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
    return _under_load(lab, lambda: _told(run_playbook(lab, "rolling_restart")))


def _killed_node(lab: Lab) -> str:
    """The last host of the topology's brokers: no shutdown, no flush, gone."""

    def kill() -> str:
        name = _last_broker(lab)
        lab.hosts.kill(lab.test_host(name))
        time.sleep(4 * _CALM_SECONDS)  # long enough for the cluster to notice and to go on without it
        return f"{name} killed"

    return _under_load(lab, kill)


def _comes_back(lab: Lab) -> str:
    """Proxmox starts it again, Kafka starts by itself, and catches up."""
    name = _last_broker(lab)
    done = run_playbook(lab, "proxmox", "--limit", name, log="proxmox-again").require_success()
    host, port = lab.topology.hosts[name].address, lab.topology.kafka.brokers[-1].port
    end = time.monotonic() + _PORT_SECONDS
    while not answers(host, port):
        if time.monotonic() > end:
            raise ServiceError(f"{name}: no broker at {host}:{port} after {_PORT_SECONDS:g} s; see its journal")
        time.sleep(1)
    checked = run_playbook(lab, "validate", log="validate-again").require_success()
    return f"up again in {done.seconds:.0f} s, cluster valid after {checked.seconds:.0f} s more"


def _last_broker(lab: Lab) -> str:
    address = lab.topology.kafka.brokers[-1].host
    return next(name for name, host in lab.topology.hosts.items() if host.address == address)


def _changed_broker_id(lab: Lab) -> str:
    """A broker's log dirs belong to its id; the role has to refuse before it writes anything."""
    name = _last_broker(lab)
    was = lab.topology.kafka.brokers[-1].id
    # A second inventory, as somebody's edit of the first would be: `-e` would change every broker's id.
    inventory = lab.layout.root / "changed-broker-id.yml"
    inventory.write_text(f"kafka: {{hosts: {{{name}: {{kafka_broker_id: {_FOREIGN_ID}}}}}}}\n", encoding="utf-8")
    try:
        done = run_playbook(lab, "kafka", "-i", str(inventory), "--limit", name, log="changed-broker-id")
    finally:
        inventory.unlink()
    seen = _refused(done, name, f"node.id={was}", f"kafka_broker_id={_FOREIGN_ID}")
    run_playbook(lab, "validate", log="validate-after-broker-id").require_success()
    return f"{seen}; the cluster is as it was"


def _teardown_unlimited(lab: Lab) -> str:
    done = run_playbook(lab, "teardown", "-e", "teardown_environment=lab", log="teardown-unlimited")
    return _refused(done, "--limit", "Nothing was deleted")


def _teardown(lab: Lab) -> str:
    done = run_playbook(lab, "teardown", "--limit", "proxmox_vms", "-e", "teardown_environment=lab").require_success()
    if left := [name for name in lab.hosts.names() if lab.hosts.running(name)]:
        raise ServiceError(f"teardown.yml went through, and {', '.join(left)} still run")
    return f"{len(done.recap)} machines deleted in {done.seconds:.0f} s"
