"""An impossible scenario is refused in one line naming file, key and value."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from data_generator.backfill.plan import BackfillScenario
from data_generator.cli import app
from data_generator.scenario import MAX_BYTES, Scenario, load_model, load_scenario, scenario_path
from data_generator.seed.plan import SeedScenario
from data_platform_core.errors import ConfigurationError
from data_platform_core.paths import SCENARIOS_DIR
from data_platform_core.wire.ledger import check_run_id

pytestmark = pytest.mark.unit


def refusal(**overrides: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_scenario(scenario_path("normal"), overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert str(scenario_path("normal")) in message
    return message


#: Files of another kind; the others are scenarios.
KINDS: dict[str, Any] = {"backfill": BackfillScenario, "seed": SeedScenario}


@pytest.mark.parametrize("path", sorted(SCENARIOS_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_scenarios_that_come_with_the_generator_are_valid_and_named_as_their_file(path: Path) -> None:
    assert load_model(KINDS.get(path.stem, Scenario), path).name == path.stem


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"speed": 3}, "unknown key speed (value 3)"),
        ({"rate.peak": 3}, "unknown key rate.peak (value 3)"),
        ({"rate.low": -5}, "rate.low is -5: input should be greater than 0"),
        ({"rate.high": float("nan")}, "rate.high"),
        ({"rate.low": 500}, "rate: low (500) must not be above high (100)"),
        ({"duration_s": -1}, "duration_s is -1"),
        ({"seed": "tomorrow"}, "seed is 'tomorrow'"),
        ({"mix.visits": 0.5}, "mix: the shares of mix sum to 0.53, make them sum to 1"),
        ({"mix.visits": 1.2}, "mix: the share of visits is 1.2"),
        ({"mix.reviews": 0.1}, "mix: 'reviews' is not known"),
        ({"mix": {}}, "mix: empty"),
        ({"inject.late": 2}, "inject.late is 2"),
        ({"inject.poison": 0.6, "inject.late": 0.6}, "inject: duplicates + late + poison is 1.21"),
        ({"inject.by_entity": {"events": 0.5}}, "inject: the shares of by_entity sum to 0.5"),
        ({"inject.by_entity": {"reviews": 1.0}}, "inject: 'reviews' is not known"),
        ({"inject.by_entity": {}}, "say by_entity"),
        ({"population.products": 0}, "population.products is 0"),
        ({"funnel.ctr": [0.1, 1.5]}, "funnel.ctr: position 1 is clicked with probability 1.5"),
        ({"curve.hours": [0.5] * 23}, "curve.hours"),
        ({"curve.hours": [0.5] * 23 + [7]}, "curve.hours: the weight of hour 23 is 7"),
        ({"curve.zone": "Mars/Olympus"}, "curve.zone is 'Mars/Olympus': no such time zone"),
        ({"name": "a/b"}, "name is 'a/b'"),
    ],
)
def test_the_impossible_is_refused_by_key_and_value(overrides: dict[str, Any], expected: str) -> None:
    assert expected in refusal(**overrides)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    raw = yaml.safe_load(scenario_path("normal").read_text())
    del raw["rate"]
    path = tmp_path / "half.yaml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigurationError, match=r"half\.yaml: key rate is missing"):
        load_scenario(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("rate: [1", "is not YAML"), ("just words", "must be a mapping"), ("", "must be a mapping")],
)
def test_a_file_that_is_no_scenario_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=expected):
        load_scenario(path)


def test_a_file_that_is_not_there_is_refused_and_the_known_ones_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml does not exist; .*normal\.yaml"):
        load_scenario(tmp_path / "absent.yaml")


@pytest.mark.parametrize("path", [Path("/dev/zero"), Path("/")], ids=["device", "folder"])
def test_what_is_no_regular_file_is_refused_unread(path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"^scenario {path} is not a regular file; give a YAML file$"):
        load_scenario(path)


def test_a_pipe_is_refused_unread(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        load_scenario(pipe)


def test_a_file_far_larger_than_a_scenario_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigurationError, match=r"huge\.yaml has 1,048,577 bytes, a scenario has at most 1,048,576"):
        load_scenario(path)


@pytest.mark.parametrize("run_id", ["", "a/b", "a b", "é", "a\n", "x" * 101, ".."])
def test_a_run_id_that_cannot_be_a_key_is_refused(run_id: str) -> None:
    with pytest.raises(ConfigurationError, match="run id"):
        check_run_id(run_id)


def test_the_command_line_overrides_the_file_before_it_is_checked() -> None:
    result = CliRunner().invoke(app, ["normal", "--duration", "-3"])
    assert isinstance(result.exception, ConfigurationError)
    assert "duration_s is -3" in str(result.exception)


def test_a_negative_rate_on_the_command_line_is_refused() -> None:
    result = CliRunner().invoke(app, ["normal", "--rate", "-3"])
    assert isinstance(result.exception, ConfigurationError)
    assert "--rate is -3" in str(result.exception)
