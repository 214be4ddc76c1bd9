"""Settings of a run reach a supervised process; its secrets are unchanged."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from data_platform_core.errors import ConfigurationError
from embedded_stack import api, run_settings
from embedded_stack.layout import Layout
from embedded_stack.service import Service
from embedded_stack.services import STREAMING, services

pytestmark = pytest.mark.unit

TRIGGER = "CRM_INGEST__TRIGGER_MS"


@pytest.fixture
def driver(layout: Layout) -> Service:
    layout.config.mkdir(parents=True)
    return next(service for service in services(layout) if service.name == STREAMING)


def environment_of(file: Path) -> dict[str, str]:
    """What a process started under the file's settings has in its environment."""
    show = (sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))")
    done = subprocess.run(run_settings.under(file, show), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_process_has_the_runs_settings_in_its_environment(tmp_path: Path) -> None:
    settings = {TRIGGER: "500", "CRM_SPARK__CONF": '{"a": "b=c d"}'}
    assert run_settings.keep(tmp_path / "run.json", settings)
    found = environment_of(tmp_path / "run.json")
    assert {name: found[name] for name in settings} == settings


def test_without_a_run_nothing_is_added(tmp_path: Path) -> None:
    assert TRIGGER not in environment_of(tmp_path / "never.json")


def test_the_process_that_is_supervised_is_the_service_itself(tmp_path: Path) -> None:
    command = run_settings.under(tmp_path / "run.json", (sys.executable, "-c", "import os; print(os.getpid())"))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert int(process.communicate()[0]) == process.pid, "signals reach it, not a parent of it"


def test_the_next_plain_start_is_without_them(driver: Service) -> None:
    file = driver.run_settings
    assert file is not None
    assert api._put_in_force(driver, {TRIGGER: "500"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not api._put_in_force(driver, {TRIGGER: "500"}), "the same settings need no new start"
    assert api._put_in_force(driver, {TRIGGER: "1000"})
    assert run_settings.read(file) == {TRIGGER: "1000"}
    assert api._put_in_force(driver, {})
    assert not file.exists()
    assert not api._put_in_force(driver, {})


def test_a_setting_that_does_not_exist_is_refused_before_anything_changes(driver: Service) -> None:
    with pytest.raises(ConfigurationError, match=r"^setting CRM_INGEST__TRIGER_MS of the run is not a setting"):
        api._put_in_force(driver, {"CRM_INGEST__TRIGER_MS": "500"})
    assert driver.run_settings is not None
    assert not driver.run_settings.exists()


def test_a_service_without_settings_of_a_run_refuses_them(layout: Layout) -> None:
    (minio,) = (service for service in services(layout) if service.name == "minio")
    with pytest.raises(ConfigurationError, match=r"^service minio takes no settings of a run"):
        api._put_in_force(minio, {TRIGGER: "500"})
    assert not api._put_in_force(minio, {}), "a plain start of any service"


def test_every_service_with_settings_of_a_run_starts_under_its_file(layout: Layout) -> None:
    with_settings = [service for service in services(layout) if service.run_settings is not None]
    assert with_settings
    for service in with_settings:
        assert service.command[: len(run_settings.under(Path(), ()))] == run_settings.under(service.run_settings, ())  # type: ignore[arg-type]
