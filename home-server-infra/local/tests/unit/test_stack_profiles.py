"""What `up` starts: the default profiles, and those that are named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from data_platform_core.errors import ConfigurationError
from embedded_stack import cli, services
from embedded_stack.layout import Layout
from embedded_stack.service import DEFAULT_PROFILES, Profile, Service

pytestmark = pytest.mark.unit


def names(found: tuple[Service, ...]) -> set[str]:
    return {service.name for service in found}


@pytest.fixture
def with_a_batch_service(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A stack whose registry belongs to the profile `batch`."""
    every = services.services(layout)
    changed = tuple(replace(each, profile=Profile.BATCH) if each.name == "registry" else each for each in every)
    monkeypatch.setattr(services, "services", lambda _layout: changed)
    return layout


def test_up_starts_core_and_monitoring_and_leaves_what_is_on_demand(layout: Layout) -> None:
    started = services.started_by_up(layout)
    assert {service.profile for service in started} == DEFAULT_PROFILES
    assert {"kafka-1", "kafka-2", "kafka-3", "minio", "postgres", "registry", "prometheus"} <= names(started)
    assert names(services.services(layout)) - names(started) == {
        *("streaming", "spark-master", "spark-worker-1", "spark-worker-2", "spark-worker-3")
    }


def test_a_profile_is_started_when_it_is_named(with_a_batch_service: Layout) -> None:
    plain = services.started_by_up(with_a_batch_service)
    assert names(services.started_by_up(with_a_batch_service, ["batch"])) - names(plain) == {"registry"}
    assert services.started_by_up(with_a_batch_service, ["core"]) == plain


def test_a_service_of_another_profile_is_healthy_until_it_is_started(with_a_batch_service: Layout) -> None:
    optional = {service.name for service in services.services(with_a_batch_service) if service.optional}
    assert "registry" in optional
    assert "minio" not in optional


def test_an_unknown_profile_is_refused_with_those_there_are(layout: Layout) -> None:
    with pytest.raises(ConfigurationError, match=r"^profile 'bach' does not exist; one of: core, monitoring, batch,"):
        services.started_by_up(layout, ["bach"])


def test_a_profile_without_services_is_refused_with_those_that_have_some(layout: Layout) -> None:
    with pytest.raises(ConfigurationError) as refused:
        services.started_by_up(layout, ["serving"])
    expected = "profile serving has no service in stack test; profiles with services: core, monitoring"
    assert str(refused.value) == expected


def test_the_command_passes_the_profiles_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(cli.api, "up", lambda _env, _report, profiles: asked.append(profiles))
    for options in ([], ["--with", "batch, serving"]):
        assert CliRunner().invoke(cli.app, ["up", *options]).exit_code == 0
    assert asked == [[], ["batch", "serving"]]
