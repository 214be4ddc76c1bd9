"""Cases that must be refused with a clear message: wrong tokens, missing storages, taken addresses, foreign ids.

Each function is a step of `crm-lab test`. It returns a result line, and raises a UserError when a playbook succeeds, or
fails without the message that says what to do.
"""

from __future__ import annotations

from data_platform_core.secret_files import write_secret
from infra_lab.lab import Lab
from infra_lab.playbooks import PlaybookRun, run_playbook
from infra_lab.private_files import AUDITOR_USER, token_secret

#: The machines of Kafka; the lab has others too.
BROKERS = ("--limit", "kafka")
_FOREIGN_ID = 9
#: The modules wait for the end of a failed task as long as for a running one.
_IMPATIENT = ("-e", "proxmox_vm_clone_timeout=15", "-e", "proxmox_vm_task_timeout=15")


def _refused(done: PlaybookRun, *words: str) -> str:
    done.require_refusal(*words)
    return f"refused in {done.seconds:.0f} s, naming {', '.join(words)}"


def wrong_token(lab: Lab) -> str:
    """An unknown token secret."""
    wrong = "-e", "vault_proxmox_api_token_secret=00000000-0000-0000-0000-000000000000"
    return _refused(
        run_playbook(lab, "proxmox", *BROKERS, *wrong, log="wrong-token"), "401", "vault_proxmox_api_token_secret"
    )


def auditor_token(lab: Lab) -> str:
    """The API's own message must be shown: the playbook can't determine a token's privileges.

    The secret is passed in a file of this lab's folder, never on a command line, where every user could read it.
    """
    path = lab.layout.root / "auditor-vars.yml"
    secret = token_secret(lab.layout, AUDITOR_USER)
    write_secret(path, f"proxmox_vm_api_user: {AUDITOR_USER}\nvault_proxmox_api_token_secret: {secret}\n")
    try:
        return _refused(
            run_playbook(lab, "proxmox", *BROKERS, "-e", f"@{path}", log="auditor-token"), "403", "VM.Clone"
        )
    finally:
        path.unlink()


def missing_storage(lab: Lab) -> str:
    """A storage that exists on no node."""
    done = run_playbook(lab, "proxmox", *BROKERS, "-e", "proxmox_vm_storage=nowhere", log="missing-storage")
    return _refused(done, "proxmox_vm_storage", "nowhere")


def address_in_use(lab: Lab) -> str:
    """Another machine has the address of a machine that does not exist yet."""
    name, host = next(iter(lab.topology.hosts.items()))
    with lab.network.occupied(host.address, lab.proxmox.prefix_length):
        done = run_playbook(lab, "proxmox", *BROKERS, log="address-in-use")
    return _refused(done, name, host.address, f"hosts.{name}.address")


def too_few_brokers(lab: Lab) -> str:
    """More replicas than the inventory has brokers; refused before anything is installed."""
    replicas = len(lab.topology.kafka.brokers) + 1
    done = run_playbook(
        lab, "kafka", "--tags", "kafka", "-e", f"kafka_broker_replication_factor={replicas}", log="too-few-brokers"
    )
    return _refused(done, f"kafka_broker_replication_factor {replicas}", "kafka.replication_factor")


def failing_clone(lab: Lab) -> str:
    """The first clone fails with a storage error; the other machines are created."""
    lab.faults.order("clone", 1)
    return _refused(run_playbook(lab, "proxmox", *BROKERS, *_IMPATIENT, log="failing-clone"), "no space left on device")


def failing_start(lab: Lab) -> str:
    """A machine that does not boot in time."""
    lab.faults.order("start", 1)
    return _refused(run_playbook(lab, "proxmox", *BROKERS, *_IMPATIENT, log="failing-start"), "got timeout")


def changed_broker_id(lab: Lab) -> str:
    """A broker's log dirs belong to its id; the role has to refuse before it writes anything."""
    name = last_broker(lab)
    was = lab.topology.kafka.brokers[-1].id
    # A second inventory, like an edit of the first: `-e` would change every broker's id.
    inventory = lab.layout.root / "changed-broker-id.yml"
    inventory.write_text(f"kafka: {{hosts: {{{name}: {{kafka_broker_id: {_FOREIGN_ID}}}}}}}\n", encoding="utf-8")
    try:
        done = run_playbook(lab, "kafka", "-i", str(inventory), "--limit", name, log="changed-broker-id")
    finally:
        inventory.unlink()
    seen = _refused(done, name, f"node.id={was}", f"kafka_broker_id={_FOREIGN_ID}")
    run_playbook(lab, "validate", log="validate-after-broker-id").require_success()
    return f"{seen}; the cluster is as it was"


def teardown_unlimited(lab: Lab) -> str:
    """Omitting an option must not delete everything."""
    done = run_playbook(lab, "teardown", "-e", "teardown_environment=lab", log="teardown-unlimited")
    return _refused(done, "--limit", "Nothing was deleted")


def last_broker(lab: Lab) -> str:
    """The host of the topology's last broker."""
    address = lab.topology.kafka.brokers[-1].host
    return next(name for name, host in lab.topology.hosts.items() if host.address == address)
