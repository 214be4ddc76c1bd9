"""Configuration, accounts and paths as they are written to disk."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
from supervisor.options import ServerOptions

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import role
from data_platform_core.access.object_store import policy
from data_platform_core.errors import ConfigurationError, ServiceError
from data_platform_core.settings import known_variables, load_settings
from data_platform_core.topology import load_topology
from embedded_stack import api
from embedded_stack.credentials import SECRET_KEY, ensure_accounts, read_account
from embedded_stack.kafka_nodes import broker_properties
from embedded_stack.layout import MARKER_VARIABLE, MAX_SOCKET_PATH, Layout, reachable_by_others
from embedded_stack.services import services
from embedded_stack.supervision import end_strays, render_config

pytestmark = pytest.mark.unit


def rendered(layout: Layout) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    parser.read_string(render_config(layout, services(layout)))
    return parser


def test_every_service_is_restarted_when_it_dies(layout: Layout) -> None:
    config = rendered(layout)
    for service in services(layout):
        assert config[f"program:{service.name}"]["autorestart"] == "true"
        assert config[f"program:{service.name}"]["killasgroup"] == "true"


def test_logs_rotate(layout: Layout) -> None:
    config = rendered(layout)
    for service in services(layout):
        assert int(config[f"program:{service.name}"]["stdout_logfile_maxbytes"]) > 0


def test_the_supervisor_is_controlled_by_a_socket_that_only_its_owner_opens(layout: Layout) -> None:
    config = rendered(layout)
    assert config["unix_http_server"]["chmod"] == "0600"
    assert "inet_http_server" not in config


def test_no_secret_is_in_the_supervisors_configuration(layout: Layout) -> None:
    layout.root.mkdir()
    text = render_config(layout, services(layout))
    secrets = [value for account in ensure_accounts(layout.secrets).values() for value in account.values.values()]
    assert [secret for secret in secrets if len(secret) > 20 and secret in text] == []


@pytest.mark.parametrize("name", ["plain", "100%(x)s", "100%", "it's", "gärten über ñ", "semi;hash#", "[a] {b} $HOME"])
def test_supervisord_reads_every_path_as_it_is(
    layout: Layout, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server's own account is made by the first `up`: a machine where nothing ran yet has none.
    monkeypatch.setattr("supervisor.options.name_to_uid", lambda name: os.getuid())
    odd = Layout(layout.topology.model_copy(update={"data_path": tmp_path / name}))
    odd.logs.mkdir(parents=True)
    odd.supervisord_conf.write_text(render_config(odd, services(odd)), encoding="utf-8")
    read = ServerOptions()
    read.realize(["-c", str(odd.supervisord_conf)], doc="")
    programs = {program.name: program for group in read.process_group_configs for program in group.process_configs}
    for service in services(odd):
        program = programs[service.name]
        assert tuple(shlex.split(program.command)) == service.command
        assert program.stdout_logfile == str(odd.logs / f"{service.name}.log")
        assert program.environment == service.environment


def test_a_socket_path_too_long_for_the_kernel_is_replaced_by_a_short_one(layout: Layout, tmp_path: Path) -> None:
    deep = Layout(layout.topology.model_copy(update={"data_path": tmp_path / ("deep/" * 30)}))
    assert len(str(deep.supervisor_socket)) <= MAX_SOCKET_PATH
    assert deep.supervisor_socket != layout.supervisor_socket


def test_brokers_bind_their_own_loopback_address_and_keep_internal_topics_safe(layout: Layout, tmp_path: Path) -> None:
    kafka = layout.topology.kafka
    for broker in kafka.brokers:
        properties = dict(
            line.split("=", 1) for line in broker_properties(kafka, broker, tmp_path).splitlines() if "=" in line
        )
        assert all(f"://{broker.host}:" in listener for listener in properties["listeners"].split(","))
        assert properties["auto.create.topics.enable"] == "false"
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            assert int(properties[f"{topic}.replication.factor"]) == kafka.replication_factor
        assert int(properties["min.insync.replicas"]) == kafka.min_insync_replicas


def test_a_broker_that_listens_everywhere_advertises_its_host(layout: Layout, tmp_path: Path) -> None:
    kafka = layout.topology.kafka
    broker = kafka.brokers[0].model_copy(update={"bind": "0.0.0.0"})
    text = broker_properties(kafka, broker, tmp_path)
    assert f"\nlisteners=PLAINTEXT://0.0.0.0:{broker.port},CONTROLLER://0.0.0.0:{broker.controller_port}\n" in text
    assert f"\nadvertised.listeners=PLAINTEXT://{broker.host}:{broker.port}\n" in text


def test_a_broker_has_one_more_listener_for_pods_with_its_own_advertised_address(tmp_path: Path) -> None:
    topology = load_topology("k8s-lab")
    broker = topology.kafka.brokers[1]
    for_pods = topology.pods_listener(broker)
    assert for_pods is not None
    text = broker_properties(topology.kafka, broker, tmp_path, for_pods)
    assert f",PODS://{broker.host}:{for_pods.port}," in text, "it listens on loopback"
    assert f"\nadvertised.listeners=PLAINTEXT://{broker.address},PODS://{for_pods.address}\n" in text
    assert for_pods.host != broker.host


@pytest.mark.parametrize("name", ["plain", "gärten über ñ", "한국어 𝄞", "back\\slash", " led by a space", "a=b:c#d!e"])
def test_a_path_of_any_letters_reaches_java_as_it_is(layout: Layout, name: str) -> None:
    kafka, folder = layout.topology.kafka, Path("/somewhere") / name
    text = broker_properties(kafka, kafka.brokers[0], folder)
    assert text.isascii(), "Java reads properties files as Latin-1"
    (value,) = re.findall(r"^log\.dirs=(.*)$", text, re.MULTILINE)
    read = re.sub(r"\\u([0-9a-f]{4})", lambda unit: chr(int(unit[1], 16)), value)
    assert read.encode("utf-16", "surrogatepass").decode("utf-16") == str(folder)


def test_secrets_are_readable_by_their_owner_only(layout: Layout) -> None:
    ensure_accounts(layout.secrets)
    assert stat.S_IMODE(layout.secrets.stat().st_mode) == 0o700
    files = list(layout.secrets.iterdir())
    assert files
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_secrets_are_created_once_and_a_lost_file_is_recreated(layout: Layout) -> None:
    first = ensure_accounts(layout.secrets)
    (layout.secrets / "reader.env").unlink()
    second = ensure_accounts(layout.secrets)
    assert second["streaming"].values == first["streaming"].values
    assert second["reader"].values != first["reader"].values


def test_a_file_that_a_playbook_wrote_keeps_what_it_has_and_gets_what_it_lacks(layout: Layout) -> None:
    layout.secrets.mkdir(parents=True)
    (layout.secrets / "streaming.env").write_text("CRM_KAFKA__PASSWORD=by-ansible")
    values = ensure_accounts(layout.secrets)["streaming"].values
    assert values["CRM_KAFKA__PASSWORD"] == "by-ansible"
    assert values["CRM_OBJECT_STORE__SECRET_KEY"]
    assert ensure_accounts(layout.secrets)["streaming"].values == values


def test_a_file_of_secrets_is_read_as_the_settings_read_it(layout: Layout) -> None:
    layout.secrets.mkdir(parents=True)
    written = "# by a person\nexport CRM_KAFKA__PASSWORD='a = b # c $HOME'\nCRM_KAFKA__USERNAME=\n"
    (layout.secrets / "streaming.env").write_text(written)
    values = ensure_accounts(layout.secrets)["streaming"].values
    assert values["CRM_KAFKA__PASSWORD"] == "a = b # c $HOME"
    assert values["CRM_KAFKA__USERNAME"] == ""
    assert (layout.secrets / "streaming.env").read_text().startswith(written)


def test_what_a_topology_puts_on_other_machines_is_not_run_here() -> None:
    names = {service.name for service in services(Layout(load_topology("lab")))}
    assert names == {"postgres", "minio", "streaming", "postgres-exporter"}


def test_a_topology_with_nothing_on_this_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"topology home puts no service on .*site\.yml"):
        services(Layout(load_topology("home")))


def test_each_environment_has_secrets_of_its_own(layout: Layout, tmp_path: Path) -> None:
    here, there = ensure_accounts(layout.secrets), ensure_accounts(tmp_path / "other")
    assert here["batch"].values[SECRET_KEY] != there["batch"].values[SECRET_KEY]


def test_accounts_use_exactly_the_names_that_settings_have(layout: Layout) -> None:
    for account in ensure_accounts(layout.secrets).values():
        assert set(account.values) <= known_variables()
        assert all(account.values.values()), "an empty value is left out"


def test_an_account_never_prints_its_secret(layout: Layout) -> None:
    account = ensure_accounts(layout.secrets)["streaming"]
    assert account.values[SECRET_KEY] not in repr(account)


def test_an_account_that_lacks_a_kind_of_credentials_is_refused(layout: Layout) -> None:
    with pytest.raises(ServiceError, match="generator lack CRM_POSTGRES__USER"):
        _ = ensure_accounts(layout.secrets)["generator"].postgres_login
    with pytest.raises(ServiceError, match="make up"):
        read_account(layout.secrets, "nobody")


def test_settings_read_what_the_stack_wrote(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = ensure_accounts(layout.secrets)
    monkeypatch.setattr("data_platform_core.settings.load_topology", lambda _environment: layout.topology)
    for name, access in load_matrix().services.items():
        settings = load_settings(name, "test")
        if access.object_store:
            assert settings.object_store.secret_key.get_secret_value() == accounts[name].store_login[1]
        if access.postgres:
            assert settings.postgres.user == role(name)


def test_policies_allow_what_a_service_does_and_nothing_else(layout: Layout) -> None:
    buckets = layout.topology.object_store.buckets
    allowed = {name: _pairs(policy(access, buckets)) for name, access in load_matrix().object_store.items()}
    assert ("s3:DeleteObject", buckets.ledger) not in set().union(*allowed.values()), "a ledger is evidence"
    versions = {"s3:DeleteObjectVersion", "s3:PutBucketVersioning"}
    assert versions.isdisjoint({action for actions in allowed.values() for action, _ in actions}), "so are its versions"
    assert {place for _, place in allowed["generator"]} == {buckets.ledger, f"{buckets.lake}/landing"}
    in_lake = {action for action, place in allowed["generator"] if place.startswith(buckets.lake)}
    assert in_lake.isdisjoint({"s3:GetObject", "s3:DeleteObject", "s3:ListBucket"}), "written, never read"
    assert ("s3:PutObject", buckets.lake) in allowed["streaming"]
    assert {action for action, _ in allowed["batch"]}.isdisjoint({"s3:PutObject", "s3:DeleteObject"})
    assert {action for action, _ in allowed["accounting"]}.isdisjoint({"s3:PutObject", "s3:DeleteObject"})


def _pairs(policy: dict[str, list[dict[str, list[str]]]]) -> set[tuple[str, str]]:
    return {
        (action, re.sub(r"/\*$", "", resource.removeprefix("arn:aws:s3:::")))
        for statement in policy["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


def test_a_folder_below_a_closed_one_is_out_of_reach_of_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    inside = closed / "inside"
    inside.mkdir(parents=True)
    closed.chmod(0o700)
    assert not reachable_by_others(inside)


def test_clean_deletes_nothing_outside_the_state_folder(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    layout.root.mkdir()
    monkeypatch.setattr(api, "load_topology", lambda _environment: layout.topology)
    with pytest.raises(ServiceError, match="is not below"):
        api.clean("test")
    assert layout.root.exists()


def test_what_a_killed_supervisor_left_behind_is_found_and_ended(layout: Layout) -> None:
    mark = {MARKER_VARIABLE: layout.marker}
    ours = subprocess.Popen(["sleep", "60"], env=mark)
    theirs = subprocess.Popen(["sleep", "60"], env={MARKER_VARIABLE: f"{layout.marker}-of-another-stack"})
    try:
        assert end_strays(layout) == 1
        assert ours.poll() is not None
        assert theirs.poll() is None
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()
