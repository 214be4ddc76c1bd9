"""A server of tests that gives one answer to everything and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from data_platform_core.topology import Endpoint


@dataclass
class Answers:
    """`endpoint`: where it listens; `received`: (path, JSON body or None) of each request."""

    endpoint: Endpoint
    received: list[tuple[str, Any]] = field(default_factory=list)


@contextmanager
def answering(body: str, status: int = 200) -> Iterator[Answers]:
    """Answers `body` with `status` to every request."""
    received: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            received.append((self.path, json.loads(sent) if sent else None))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_words: object) -> None:
            """Silence."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield Answers(Endpoint(host="127.0.0.1", port=server.server_address[1]), received)
    finally:
        server.shutdown()
        server.server_close()
