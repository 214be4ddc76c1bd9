"""The registry's client: connects directly, ignores the shell's proxy, and reports a refusal in one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.kafka.registry import RegistryClient
from data_platform_core.settings import RegistrySettings, load_settings

pytestmark = pytest.mark.unit


class Answers(BaseHTTPRequestHandler):
    """Answers every request with `status` and a body that is not JSON, as another server on that address may."""

    status = 404

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<html>\nno such page\n</html>")

    do_POST = do_PUT = do_GET

    def log_message(self, *_words: object) -> None:
        """Log nothing."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[RegistrySettings]:
    """A server that answers, and a proxy in the environment that does not."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    settings = load_settings("generator", "test").registry
    yield settings.model_copy(update={"url": f"http://127.0.0.1:{server.server_address[1]}"})
    server.shutdown()
    server.server_close()


def test_a_proxy_of_the_shell_is_not_used(registry: RegistrySettings, contracts: dict[str, Contract]) -> None:
    with pytest.raises(ServiceError, match="has no schema; register it with `crm registry apply`") as refused:
        RegistryClient(registry).schema_id(contracts["orders"])
    assert not isinstance(refused.value, UnreachableError)


@pytest.mark.parametrize(("status", "kind"), [(418, ServiceError), (503, UnreachableError)])
def test_an_invalid_answer_of_the_registry_is_reported_in_one_line(
    registry: RegistrySettings,
    contracts: dict[str, Contract],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    kind: type[ServiceError],
) -> None:
    monkeypatch.setattr(Answers, "status", status)
    with pytest.raises(kind, match=f"HTTP {status}") as refused:
        RegistryClient(registry).writer_schemas(contracts["orders"])
    assert "\n" not in str(refused.value)
