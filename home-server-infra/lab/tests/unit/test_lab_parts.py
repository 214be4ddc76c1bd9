"""The lab's parts that need no root: seeds, the apt cache, Kafka's archive, recaps, the account of a load."""

from __future__ import annotations

import http.client
import os
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from data_platform_core.errors import AccountingError, ConfigurationError, ServiceError
from infra_lab import chain, cli
from infra_lab.apt_cache import INDEX_SECONDS, PackageCache, server
from infra_lab.background import Background
from infra_lab.kafka_archive import LINES, write_archive
from infra_lab.network import LabNetwork
from infra_lab.playbooks import PlaybookRun, changed_tasks, first_error
from infra_lab.private_files import filled
from infra_lab.producer import account
from infra_lab.seed import render_seed

pytestmark = pytest.mark.unit

CONFIG = {
    "name": "kafka-1", "net0": "virtio=BC:24:11:AA:BB:CC,bridge=vmbr0", "ciuser": "platform",
    "ipconfig0": "ip=10.77.0.11/24,gw=10.77.0.1", "sshkeys": "ssh-ed25519%20AAAA%20me%0A", "nameserver": "10.77.0.1",
}  # fmt: skip
OUTPUT = """
TASK [kafka_broker : Write server.properties] ***
changed: [kafka-1]
TASK [kafka_broker : Check the id] ***
fatal: [kafka-2]: FAILED! => {"msg": "kafka-2: kafka_broker_id is 9"}
PLAY RECAP ***
kafka-1                    : ok=10   changed=1    unreachable=0    failed=0    skipped=2
kafka-2                    : ok=3    changed=0    unreachable=0    failed=1    skipped=0
"""


def test_a_seed_is_what_proxmox_renders() -> None:
    seed = render_seed(CONFIG, "debian")
    assert (seed.address, seed.prefix_length, seed.mac) == ("10.77.0.11", 24, "bc:24:11:aa:bb:cc")
    assert "user: platform\nssh_authorized_keys:\n  - ssh-ed25519 AAAA me\n" in seed.files["user-data"]
    assert "netmask: '255.255.255.0'\n        gateway: '10.77.0.1'\n" in seed.files["network-config"]
    assert "local-hostname: kafka-1" in seed.files["meta-data"]


def test_a_changed_configuration_is_a_new_instance() -> None:
    first, second = render_seed(CONFIG, "debian"), render_seed({**CONFIG, "ciuser": "other"}, "debian")
    assert first.files["meta-data"] != second.files["meta-data"]
    assert first.files["meta-data"] == render_seed(CONFIG, "debian").files["meta-data"]


@pytest.mark.parametrize("broken", [{"ipconfig0": "ip=dhcp"}, {"ipconfig0": ""}, {"net0": "virtio,bridge=vmbr0"}])
def test_a_seed_needs_an_address_and_a_card(broken: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="kafka-1"):
        render_seed({**CONFIG, **broken}, "debian")


def test_names_of_interfaces_are_short() -> None:
    with pytest.raises(ServiceError, match="at most 13"):
        LabNetwork("10.77.0.1", 24)._port("a-name-that-is-too-long")


class Mirror:
    """Counts what is fetched; `has` is what it holds."""

    def __init__(self, **has: str) -> None:
        self.has = {f"mirror:/{path}": text for path, text in has.items()}
        self.asked: list[str] = []

    def fetch(self, url: str, target: Path) -> bool:
        self.asked.append(url)
        time.sleep(0.01)
        if url in self.has:
            target.write_text(self.has[url])
        return url in self.has


def test_a_package_is_fetched_once(tmp_path: Path) -> None:
    mirror = Mirror(**{"pool/a.deb": "package"})
    cache = PackageCache(tmp_path, {"debian": "mirror:"}, mirror.fetch)
    threads = [threading.Thread(target=cache.file, args=("/debian/pool/a.deb",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = cache.file("/debian/pool/a.deb")
    assert found is not None
    assert found.read_text() == "package"
    assert mirror.asked == ["mirror:/pool/a.deb"]


def test_an_old_index_is_fetched_again_and_kept_when_the_mirror_is_gone(tmp_path: Path) -> None:
    mirror = Mirror(**{"dists/x/InRelease": "first"})
    cache = PackageCache(tmp_path, {"debian": "mirror:"}, mirror.fetch)
    index = cache.file("/debian/dists/x/InRelease")
    assert index is not None
    old = time.time() - INDEX_SECONDS - 1
    os.utime(index, (old, old))
    mirror.has.clear()
    again = cache.file("/debian/dists/x/InRelease")
    assert again is not None
    assert again.read_text() == "first"
    assert len(mirror.asked) == 2


@pytest.mark.parametrize(
    "path", ["/debian/../etc/passwd", "/other/pool/a.deb", "/debian/pool/absent.deb", "/", "/debian"]
)
def test_the_cache_serves_nothing_else(tmp_path: Path, path: str) -> None:
    assert PackageCache(tmp_path, {"debian": "mirror:"}, Mirror().fetch).file(path) is None


def test_the_cache_speaks_http(tmp_path: Path) -> None:
    mirror = Mirror(**{"pool/a.deb": "package"})
    with server("127.0.0.1", 0, PackageCache(tmp_path, {"debian": "mirror:"}, mirror.fetch)) as proxy:
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        client = http.client.HTTPConnection("127.0.0.1", proxy.server_address[1], timeout=5)
        client.request("GET", "/debian/pool/a.deb")
        assert client.getresponse().read() == b"package"
        client.request("GET", "/debian/pool/b.deb")
        answer = client.getresponse()
        answer.read()
        assert answer.status == 404
        proxy.shutdown()


def jar_with(path: Path, classes: list[str]) -> Path:
    with zipfile.ZipFile(path, "w") as jar:
        for name in classes:
            jar.writestr(f"{name.replace('.', '/')}.class", b"")
    return path


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_kafka_s_archive_is_the_same_each_time(tmp_path: Path, line) -> None:  # type: ignore[no-untyped-def]
    mains = [main.split()[-1] for main in line.tools().values()] + [main for main, _ in line.servers().values()]
    jar = jar_with(tmp_path / "kafka.jar", mains)
    archives = [tmp_path / "one.tgz", tmp_path / "two.tgz"]
    for archive in archives:
        write_archive(archive, line, [jar])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert archives[0].with_name("one.tgz.sha512").read_text().endswith("  one.tgz\n")
    with tarfile.open(archives[0]) as tar:
        names = tar.getnames()
        start = tar.extractfile(f"{line.name}/bin/kafka-server-start.sh")
        assert start is not None
        assert b"kafka.Kafka" in start.read()
    assert f"{line.name}/libs/kafka.jar" in names
    assert (f"{line.name}/bin/zookeeper-server-start.sh" in names) is line.zookeeper


def test_a_script_without_its_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="kafka-acls"):
        write_archive(tmp_path / "a.tgz", LINES[0], [jar_with(tmp_path / "kafka.jar", ["kafka.Kafka"])])


def playbook(code: int) -> PlaybookRun:
    return PlaybookRun(code, OUTPUT, 1.0, Path("site.log"))


def test_a_recap_is_read() -> None:
    assert playbook(2).recap == {"kafka-1": (10, 1, 0, 0), "kafka-2": (3, 0, 0, 1)}
    assert playbook(2).changed == 1
    assert changed_tasks(OUTPUT) == "kafka_broker : Write server.properties"
    assert first_error(OUTPUT).startswith("kafka_broker : Check the id: fatal: [kafka-2]")


def test_a_failed_host_is_a_failed_run() -> None:
    with pytest.raises(ServiceError, match="Check the id"):
        playbook(0).require_success()


def test_a_refusal_has_to_name_what_is_wrong() -> None:
    playbook(2).require_refusal("kafka-2", "kafka_broker_id")
    with pytest.raises(ServiceError, match="without naming proxmox_vm_storage"):
        playbook(2).require_refusal("proxmox_vm_storage")
    with pytest.raises(ServiceError, match="went through"):
        playbook(0).require_refusal("kafka_broker_id")


def test_nothing_is_lost() -> None:
    result = account(3, {0: (0, 0), 1: (1, 0)}, 1, {(0, 0): 0, (1, 0): 1, (0, 1): 2}, [1.0, 1.5, 4.0])
    assert (result.lost, result.duplicates, result.longest_gap_s) == (0, 0, 2.5)
    result.require_nothing_lost()


@pytest.mark.parametrize(
    "found",
    [{}, {(0, 0): 0}, {(0, 0): 0, (1, 0): 7}, {(0, 0): 0, (1, 1): 1}],
    ids=["all gone", "one gone", "another record at its offset", "at another offset"],
)
def test_a_lost_record_is_found_out(found: dict[tuple[int, int], int]) -> None:
    result = account(2, {0: (0, 0), 1: (1, 0)}, 0, found, [])
    with pytest.raises(AccountingError, match="are lost"):
        result.require_nothing_lost()


def test_no_acknowledgement_proves_nothing() -> None:
    with pytest.raises(AccountingError):
        account(5, {}, 5, {}, []).require_nothing_lost()


def test_a_doubled_record_is_counted() -> None:
    assert account(1, {0: (0, 0)}, 0, {(0, 0): 0, (0, 1): 0}, []).duplicates == 1


def test_a_background_process_is_ended_and_a_foreign_one_never(tmp_path: Path) -> None:
    background = Background(tmp_path, "sleeper")
    background.start(["sleep", "60"])
    process = background.process()
    assert process is not None
    background.stop()
    assert background.process() is None
    # The pid is still in the file, but belongs to another process.
    (tmp_path / "sleeper.pid").write_text(f"{os.getpid()} 1.0\n")
    assert background.process() is None
    background.stop()


def test_the_vault_has_a_secret_for_every_placeholder() -> None:
    example = {"vault_a": "CHANGE_ME", "vault_users": {"broker": "CHANGE_ME", "admin": "CHANGE_ME"}, "vault_b": "kept"}
    vault = filled(example)
    assert vault["vault_b"] == "kept"
    assert len({vault["vault_a"], *vault["vault_users"].values(), "CHANGE_ME"}) == 4


@pytest.mark.parametrize("name", chain.CHAINS)
def test_steps_have_names_of_their_own(name: str) -> None:
    names = [step.name for step in chain.CHAINS[name]()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--chain", "typo"), "error: chain typo is unknown; one of: kafka, zookeeper, stores\n"),
        (("--from", "typo"), "error: no step begins with 'typo'; steps: "),
    ],
)
def test_a_chain_or_step_that_does_not_exist_is_refused_before_the_lab_is_touched(
    options: tuple[str, str], expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touched: list[str] = []
    for name in ("down", "up"):
        monkeypatch.setattr(cli.labs, name, lambda *_arguments, name=name, **_options: touched.append(name))
    monkeypatch.setattr(cli.needs, "require", lambda *_arguments: None)
    monkeypatch.setattr(sys, "argv", ["crm-lab", "test", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, touched) == (2, [])
    assert capsys.readouterr().err.startswith(expected)


def test_a_chain_can_begin_at_a_later_step() -> None:
    names = [step.name for step in chain.steps("kafka", "teardown.yml")]
    assert names == [step.name for step in chain.steps("kafka")][-len(names) :]
    assert names[0].startswith("teardown.yml")
