"""The dashboards' files, as Grafana would read them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as model
from pydantic import SecretStr

from data_platform_core.errors import ConfigurationError, GeneratedFileError, ServiceError
from data_platform_core.paths import REPOSITORY_ROOT
from data_platform_core.settings import load_settings
from data_platform_core.topology import load_topology
from monitoring_dashboards import alerts, cli, generate, provisioning
from monitoring_dashboards.panels import Levels, panel_id
from monitoring_dashboards.reading import asked

pytestmark = pytest.mark.unit

FILES = sorted(generate.DASHBOARDS_DIR.glob("*.json"))
PROVISIONING = REPOSITORY_ROOT / "home-server-infra" / "monitoring" / "grafana" / "provisioning"
NO_QUERY = ("row", "text")

#: What comes with Prometheus, its client library and the exporters. The end-to-end test of the dashboards finds every
#: one of them on the real Prometheus.
FOREIGN = {
    "prometheus": {"ALERTS", "up"},
    "client library": {"process_cpu_seconds_total", "process_start_time_seconds"},
    "postgres": {"pg_up"},
    "kafka": {
        "kafka_controller_kafkacontroller_activecontrollercount",
        "kafka_controller_kafkacontroller_offlinepartitionscount",
        "kafka_log_log_logendoffset",
        "kafka_log_log_size",
        "kafka_network_requestmetrics_requests_total",
        "kafka_network_requestmetrics_totaltimems",
        "kafka_server_brokertopicmetrics_bytesin_total",
        "kafka_server_brokertopicmetrics_bytesout_total",
        "kafka_server_brokertopicmetrics_failedproducerequests_total",
        "kafka_server_brokertopicmetrics_messagesin_total",
        "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
        "kafka_server_replicamanager_isrexpands_total",
        "kafka_server_replicamanager_isrshrinks_total",
        "kafka_server_replicamanager_leadercount",
        "kafka_server_replicamanager_partitioncount",
        "kafka_server_replicamanager_underminisrpartitioncount",
        "kafka_server_replicamanager_underreplicatedpartitions",
    },
}
POSTGRES_QUERIES = REPOSITORY_ROOT / "home-server-infra" / "monitoring" / "postgres-queries.yaml"
OUR_SOURCES = ("data-platform-core/src/data_platform_core/streaming", "data-generator/src/data_generator")
SAMPLE_SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")
_GROUPING = ("by", "without", "on", "ignoring", "group_left", "group_right")
_WORDS = {*_GROUPING, "or", "and", "unless", "offset", "bool"}


def our_metrics() -> set[str]:
    """Names in the code of generator and streaming driver, and in the PostgreSQL exporter's queries, as stored."""
    sources = [path.read_text() for folder in OUR_SOURCES for path in (REPOSITORY_ROOT / folder).rglob("*.py")]
    names = {name for text in sources for name in re.findall(r'"(crm_(?:generator|streaming)_[a-z0-9_]+)"', text)}
    ours = alerts.recorded() | {name + suffix for name in names for suffix in SAMPLE_SUFFIXES}
    for prefix, asked_for in yaml.safe_load(POSTGRES_QUERIES.read_text()).items():
        ours |= {f"{prefix}_{column}" for metric in asked_for["metrics"] for column in metric}
    return ours


def metrics_in(promql: str) -> set[str]:
    """Metric names of an expression: what is neither a function, a label, a number, a string nor a word of PromQL."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", promql)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(rf"\b(?:{'|'.join(_GROUPING)})\s*\([^)]*\)", "", bare)
    names = re.findall(r"[A-Za-z_:][\w:]*\b(?!\s*\()", bare)
    return set(names) - _WORDS


def unknown_metrics(promql: str, known: set[str]) -> set[str]:
    return metrics_in(promql) - known


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(request.param.read_text())
    return read


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def test_the_files_are_what_the_code_writes() -> None:
    generate.check()


def test_a_file_edited_by_hand_is_named_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    page = FILES[0]
    monkeypatch.setattr(generate, "generated_files", lambda: {page: "{}"})
    with pytest.raises(GeneratedFileError, match=rf"{page.name} is not what .*run `make generate`"):
        generate.check()


def test_a_file_that_no_dashboard_writes_is_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "generated_files", dict)
    assert generate.drifted() == FILES


def test_writing_twice_gives_the_same_text() -> None:
    assert generate.generated_files() == generate.generated_files()


def test_uids_are_unique_and_follow_the_files_names() -> None:
    uids = {path.stem: json.loads(path.read_text())["uid"] for path in FILES}
    assert uids == {name: f"crm-{name}" for name in uids}


def test_grafanas_own_model_reads_a_file_and_writes_the_same(board: dict[str, Any]) -> None:
    register_default_plugins()
    again = json.loads(json.dumps(model.Dashboard.from_json(board), cls=JSONEncoder))
    for line in (*again["links"], *again["annotations"].get("list", [])):
        del line["placement"]  # we leave it out, see board.py
    assert again == board


def test_panel_ids_are_unique_positive_and_given_by_the_title(board: dict[str, Any]) -> None:
    ids = Counter(panel["id"] for panel in panels(board))
    assert [each for each, count in ids.items() if count > 1] == []
    assert all(0 < each < 2**31 for each in ids)
    shown = [panel for panel in panels(board) if panel["type"] != "row"]
    assert [panel["title"] for panel in shown if panel["id"] != panel_id(panel["title"])] == []


def test_every_panel_has_a_description_and_a_unit(board: dict[str, Any]) -> None:
    for panel in panels(board):
        if panel["type"] in NO_QUERY:
            continue
        assert len(panel["description"]) > 25, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


def test_panels_lie_in_the_grid_and_cover_nothing(board: dict[str, Any]) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for cell in [
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]:
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]


def test_data_sources_are_variables_and_no_address_is_in_a_file() -> None:
    for path in FILES:
        text = path.read_text()
        if path.stem != "runbooks":  # text for people, the same as in docs/
            assert not re.search(r"https?://|localhost|\b\d{1,3}(\.\d{1,3}){3}\b|:\d{4,5}\b", text), path.name
        sources = set(re.findall(r'"uid": "([^"]+)"', text)) - {f"crm-{path.stem}"}
        assert sources <= {"${prometheus}", "${warehouse}"}, path.name


def test_links_lead_to_the_other_dashboards_and_to_a_runbook_that_exists(board: dict[str, Any]) -> None:
    books = {panel["id"] for panel in json.loads((generate.DASHBOARDS_DIR / "runbooks.json").read_text())["panels"]}
    assert [link["tags"] for link in board["links"] if link["type"] == "dashboards"] == [["crm"]]
    for link in board["links"]:
        if link["type"] == "link":
            where = re.fullmatch(r"/d/crm-runbooks\?viewPanel=panel-(\d+)", link["url"])
            assert where, link["url"]
            assert int(where[1]) in books, link["title"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_metric_in_a_query_is_exported_by_somebody(path: Path) -> None:
    known = our_metrics().union(*FOREIGN.values())
    unknown = {
        each.where: missing
        for each in asked(path)
        if each.language == "promql" and (missing := unknown_metrics(each.text, known))
    }
    assert unknown == {}


def test_a_misspelt_metric_is_noticed() -> None:
    known = our_metrics()
    assert unknown_metrics('sum by (entity) (rate(crm_streaming_record_total{kind="dlq"}[1m])) > 0 or vector(0)', known)
    assert not unknown_metrics("sum by (entity) (crm_streaming_lag_records)", known)


def test_no_metric_is_listed_that_no_dashboard_queries() -> None:
    asked_for = {
        name for path in FILES for each in asked(path) if each.language == "promql" for name in metrics_in(each.text)
    }
    assert set().union(*FOREIGN.values()) - asked_for == set()


def test_levels_are_those_of_the_alert_rules(tmp_path: Path) -> None:
    rules = [
        {"alert": "Slow", "expr": "speed:rate1m < 1000 and wanted > 5", "labels": {"severity": "critical"}},
        {"alert": "Full", "expr": "disk:ratio > 0.85", "labels": {"severity": "warning"}},
        {"alert": "Full", "expr": "disk:ratio > 0.95", "labels": {"severity": "critical"}},
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "trial", "rules": rules}]}))
    assert alerts.levels("Slow", tmp_path) == Levels(critical=1000, below=True)
    assert alerts.levels("Full", tmp_path) == Levels(warning=0.85, critical=0.95)


def test_a_panel_that_names_no_alert_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no rule below .* is named Gone"):
        alerts.levels("Gone", tmp_path)


def test_levels_turn_red_upwards_and_where_small_is_bad_downwards() -> None:
    up = [(step.value, step.color) for step in Levels(5, 9).build().build().steps]
    down = [(step.value, step.color) for step in Levels(1000, 100, below=True).build().build().steps]
    assert up == [(None, "green"), (5, "orange"), (9, "red")]
    assert down == [(None, "red"), (100, "orange"), (1000, "green")]


def test_the_command_writes_a_file_only_its_owner_reads_and_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topology = load_topology("test").model_copy(update={"data_path": tmp_path})
    topology.secrets_path.mkdir()
    reader = load_settings("reader", "test").postgres.model_copy(
        update={"user": "crm_reader", "password": SecretStr("do-not-print-me")}
    )
    settings = load_settings("reader", "test").model_copy(update={"postgres": reader})
    monkeypatch.setattr(provisioning, "load_topology", lambda _environment: topology)
    monkeypatch.setattr(provisioning, "load_settings", lambda _service, _environment: settings)
    cli.grafana_env("test")
    written = tmp_path / "secrets" / "grafana.env"
    shown = capsys.readouterr()
    assert shown.out == f"{written}\n"
    assert written.stat().st_mode & 0o777 == 0o600
    assert "WAREHOUSE_PASSWORD=do-not-print-me\n" in written.read_text()
    assert [line.partition("=")[0] for line in written.read_text().splitlines()] == list(provisioning.VARIABLES)


def test_without_a_reader_the_command_says_how_to_create_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    topology = load_topology("test").model_copy(update={"data_path": tmp_path})
    monkeypatch.setattr("data_platform_core.settings.load_topology", lambda _environment: topology)
    monkeypatch.setattr(provisioning, "load_topology", lambda _environment: topology)
    with pytest.raises(ServiceError, match=r"no reader\.env .*`make up ENV=test` writes it"):
        provisioning.write_environment("test")
    assert not topology.secrets_path.exists()


def test_provisioning_expects_what_the_command_writes() -> None:
    """Each `$NAME` of the files is in grafana.env, and no secret or address is in the files."""
    texts = [path.read_text() for path in sorted(PROVISIONING.rglob("*.yaml"))]
    wanted = {name for text in texts for name in re.findall(r"\$([A-Z][A-Z_]+)", text)}
    assert wanted == set(provisioning.VARIABLES)
    source = yaml.safe_load((PROVISIONING / "datasources" / "crm.yaml").read_text())["datasources"]
    assert {each["type"] for each in source} == {"prometheus", "grafana-postgresql-datasource"}
    assert all(each["url"].startswith("$") for each in source)
