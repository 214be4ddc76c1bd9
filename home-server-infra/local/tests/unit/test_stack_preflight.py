"""What prevents the stack from starting is reported before anything starts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from data_platform_core.topology import Endpoint, Requires, load_topology
from embedded_stack import api, preflight
from embedded_stack.layout import Layout
from embedded_stack.service import Profile, Service
from embedded_stack.services import services, started_by_up

pytestmark = pytest.mark.unit


def service_at(*endpoints: Endpoint, name: str = "registry", memory_mb: int = 1) -> Service:
    return Service(
        name=name,
        profile=Profile.CORE,
        command=("true",),
        endpoints=endpoints,
        healthy=lambda: None,
        memory_mb=memory_mb,
        stop_seconds=1,
    )


def test_a_taken_port_is_named_with_the_service_and_the_process_that_has_it(taken: Endpoint) -> None:
    (problem,) = preflight.taken_ports((service_at(taken),))
    assert taken.address in problem
    assert "registry" in problem
    assert f"pid {os.getpid()}" in problem


def test_a_port_taken_on_another_address_is_no_problem(taken: Endpoint) -> None:
    elsewhere = Endpoint(host="127.0.0.9", port=taken.port)
    assert preflight.taken_ports((service_at(elsewhere),)) == []


def test_too_little_memory_is_named_with_the_sum_and_the_largest_of_what_is_to_start() -> None:
    wanted = [service_at(name=f"s{number}", memory_mb=number * 10**9) for number in (3, 1, 4, 2)]
    (problem,) = preflight.short_of_memory(wanted)
    assert "10000000000 MB needed by 4 services (most by s4 4000000000, s3 3000000000, s2 2000000000)" in problem


def test_only_what_is_to_start_requires_memory(layout: Layout) -> None:
    up = sum(service.memory_mb for service in started_by_up(layout))
    every = sum(service.memory_mb for service in services(layout))
    (driver,) = (service for service in services(layout) if service.name == "streaming")
    assert up + driver.memory_mb < every, "the workers of a spike count when they start"


@pytest.mark.parametrize("environment", ["local", "lab"])
def test_every_service_declares_its_memory(environment: str) -> None:
    assert [service.name for service in services(Layout(load_topology(environment))) if service.memory_mb < 16] == []


def test_a_full_disk_is_named_with_the_folder_even_before_the_data_folder_exists(tmp_path: Path) -> None:
    (problem,) = preflight.short_of_disk(Requires(disk_mb=10**12), tmp_path / "not" / "yet")
    assert str(tmp_path) in problem
    assert "requires.disk_mb" in problem


def test_enough_memory_and_disk_is_no_problem(tmp_path: Path) -> None:
    assert preflight.short_of_memory([service_at()]) + preflight.short_of_disk(Requires(disk_mb=1), tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "co:lon",
        "eq=ual",
        "com,ma",
        'quo"te',
        "semi ;colon",
        "hash #tag",
        "line\nend",
        "$HOME",
        "a\\b",
        "{1...4}",
        "[a]",
        "hi!",
    ],
)
def test_a_path_that_a_program_would_read_as_more_is_refused_with_who_would(name: str) -> None:
    (problem,) = preflight.unusable_paths(Path("/work") / name, Path("/work") / name)
    assert repr(next(part for part in preflight._NOT_IN_PATHS if part in name)) in problem
    assert problem.endswith("move the checkout to a path without it")


def test_a_path_that_is_no_utf8_is_refused() -> None:
    (problem,) = preflight.unusable_paths(Path(os.fsdecode(b"/work/g\xe4rten")))
    assert "is no UTF-8" in problem
    assert problem.isascii()


def test_spaces_percent_signs_and_letters_of_any_language_are_no_problem() -> None:
    assert preflight.unusable_paths(Path("/work/it's 100%(x)s (a) & b;#1 ~^+@/gärten/한국어")) == []


def test_a_missing_tool_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    problems = preflight.missing_tools()
    assert any("java" in problem and "make setup" in problem for problem in problems)


def test_a_java_that_is_too_old_is_named_with_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n", encoding="utf-8")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert any("Java 11" in problem and str(java) in problem for problem in preflight.missing_tools())


@pytest.mark.parametrize(
    ("written", "program", "readable"),
    [
        ({"postgres": "16.4.0"}, {"postgres": "17.5.0"}, False),
        ({"postgres": "17.2.0"}, {"postgres": "17.5.0"}, True),
        ({"kafka": "4.4.0"}, {"kafka": "4.3.1"}, False),
        ({"kafka": "4.3.1"}, {"kafka": "4.4.0"}, True),
    ],
)
def test_data_of_another_version_is_refused_where_it_can_not_be_read(
    layout: Layout, written: dict[str, str], program: dict[str, str], readable: bool
) -> None:
    layout.root.mkdir()
    layout.versions.write_text(json.dumps(written), encoding="utf-8")
    problems = preflight.foreign_data(layout, program)
    assert (problems == []) is readable
    assert all("make clean ENV=test" in problem for problem in problems)


def test_data_whose_passwords_are_missing_is_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedded_stack.layout.needs_postgres_user", lambda: False)  # data in the temporary folder
    data = layout.postgres_data
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17", encoding="utf-8")
    (problem,) = preflight.foreign_data(layout, preflight.pinned_versions())
    assert "lost its passwords" in problem


def test_all_problems_are_reported_at_once(
    layout: Layout, taken: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    greedy = layout.topology.model_copy(update={"requires": Requires(disk_mb=10**12)})
    monkeypatch.setenv("PATH", str(tmp_path))
    error = api.PreflightError(preflight.problems(Layout(greedy), (service_at(taken, memory_mb=10**9),)))
    assert error.exit_code == 3
    for word in ("memory", "disk", "java", taken.address):
        assert any(word in problem for problem in error.problems)


def test_two_services_never_use_the_same_address(layout: Layout) -> None:
    addresses = [endpoint.address for service in services(layout) for endpoint in service.endpoints]
    assert len(addresses) == len(set(addresses))


@pytest.mark.parametrize("environment", ["local", "test", "bench", "spike"])
def test_a_laptops_topology_puts_every_endpoint_on_loopback(environment: str) -> None:
    """Read from the topology itself: `services` leaves out what is not on loopback."""
    found = dict(endpoints("", load_topology(environment)))
    assert len(found) > 10
    assert {key: endpoint.host for key, endpoint in found.items() if not endpoint.is_loopback} == {}


def endpoints(key: str, node: object) -> Iterator[tuple[str, Endpoint]]:
    """Every endpoint of a topology, by its key."""
    if isinstance(node, Endpoint):
        yield key, node
    if isinstance(node, BaseModel):
        for name in type(node).model_fields:
            yield from endpoints(f"{key}.{name}", getattr(node, name))
    elif isinstance(node, tuple):
        for number, item in enumerate(node):
            yield from endpoints(f"{key}.{number}", item)
