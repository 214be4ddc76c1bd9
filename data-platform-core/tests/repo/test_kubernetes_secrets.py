"""Secrets are what pods reference by name, read from the environment's files; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes_schemas import documents, problems

from data_platform_core.access.matrix import load_matrix
from data_platform_core.errors import ConfigurationError
from data_platform_core.jobs import load_jobs
from data_platform_core.kubernetes.secrets import secrets_text
from data_platform_core.kubernetes.services import services
from data_platform_core.topology import Topology, load_topology

pytestmark = pytest.mark.unit

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nof the test\n-----END CERTIFICATE-----\n"


@pytest.fixture
def home(tmp_path: Path) -> Topology:
    """home, with a file for each service that holds every key."""
    topology = load_topology("home").model_copy(update={"data_path": tmp_path})
    topology.secrets_path.mkdir()
    for name, service in services(topology, load_matrix(), load_jobs().values()).items():
        lines = "".join(f"{key}=secret-of-{name}\n" for key in (*service.secrets, "CRM_OBJECT_STORE__ACCESS_KEY"))
        (topology.secrets_path / f"{name}.env").write_text(lines, encoding="utf-8")
    topology.ca_path.parent.mkdir()
    topology.ca_path.write_text(CERTIFICATE, encoding="ascii")
    return topology


def test_every_key_that_a_pod_references_is_in_its_secret(home: Topology) -> None:
    objects = {(each["kind"], each["metadata"]["name"]): each for each in documents(secrets_text(home))}
    assert problems(objects.values()) == []
    for name, service in services(home, load_matrix(), load_jobs().values()).items():
        held = objects["Secret", f"crm-{name}"]["stringData"]
        assert held == dict.fromkeys(service.secrets, f"secret-of-{name}")
    assert objects["ConfigMap", "crm-authority"]["data"] == {"ca.crt": CERTIFICATE}


def test_a_key_that_is_missing_is_named_and_no_value(home: Topology) -> None:
    (home.secrets_path / "batch.env").write_text("CRM_OBJECT_STORE__SECRET_KEY=hidden\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"batch\.env have no CRM_POSTGRES__PASSWORD") as refused:
        secrets_text(home)
    assert "hidden" not in str(refused.value)


def test_a_service_without_a_file_is_named(home: Topology) -> None:
    (home.secrets_path / "dbt.env").unlink()
    with pytest.raises(ConfigurationError, match=r"dbt\.env of service dbt do not exist"):
        secrets_text(home)


def test_an_authority_that_is_not_there_is_named(home: Topology) -> None:
    home.ca_path.unlink()
    with pytest.raises(ConfigurationError, match=r"ca\.crt of the authority does not exist"):
        secrets_text(home)
