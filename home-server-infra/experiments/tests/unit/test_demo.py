"""The demo's steps are jobs of the catalogue, in the order of the data flow."""

from __future__ import annotations

import pytest

from data_platform_core.jobs import BATCH, job
from platform_experiments.demo import steps
from platform_experiments.embedded import EmbeddedRuntime

pytestmark = pytest.mark.unit


def test_a_run_is_sent_drained_carried_to_the_marts_and_accounted_for() -> None:
    first, drain, load, build, proof = steps("test", "r", 20)
    assert first.command == job("generate-normal").in_environment("test", "--duration", "20", run_id="r")
    assert drain.command[: len(("crm", "--env", "test", "stream", "drain"))] == job("drain").in_environment("test")
    carried = [
        step.command[: len(job(name).in_environment("test"))] for step, name in zip((load, build), BATCH, strict=True)
    ]
    assert carried == [job(name).in_environment("test") for name in BATCH]
    assert proof.command == job("reconcile").in_environment("test", run_id="r")


def test_only_a_step_that_prints_nothing_shows_that_it_works() -> None:
    assert [step.quiet for step in steps("test", "r", 20)] == [
        "--quiet" in step.command for step in steps("test", "r", 20)
    ]


@pytest.mark.parametrize(
    ("environment", "command"),
    [("local", "make logs SERVICE=streaming"), ("test", "make logs SERVICE=streaming ENV=test")],
)
def test_what_a_person_is_advised_to_type_names_the_environment(environment: str, command: str) -> None:
    assert EmbeddedRuntime(environment).command("logs", SERVICE="streaming") == command
