"""Receives alerts without a real receiver: Slack's and other webhooks over HTTP, mail over SMTP.

Each message becomes a line of JSON in `alerts.jsonl` of the environment's data folder, so that a person or a test can
read what would have been sent. Nothing leaves the machine. Run as `python -m embedded_stack.monitoring.sink ENV`.
"""

from __future__ import annotations

import email
import email.policy
import json
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

from data_platform_core.topology import load_topology
from embedded_stack.layout import Layout

MAX_BODY_BYTES = 1024 * 1024
#: The file is rotated at this size; one previous file is kept.
MAX_FILE_BYTES = 5 * 1024 * 1024
FIRING, RESOLVED = "firing", "resolved"


@dataclass(frozen=True)
class Message:
    """One delivered message. `at` in epoch seconds; `via` is slack, email or webhook; `text` its subject or title."""

    at: float
    via: str
    status: str
    text: str


class Inbox:
    """Appends messages to a file; safe for several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def add(self, via: str, status: str, text: str) -> None:
        message = Message(time.time(), via, status, text)
        with self._lock:
            if self._path.is_file() and self._path.stat().st_size > MAX_FILE_BYTES:
                self._path.replace(self._path.with_suffix(".old.jsonl"))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(message)) + "\n")


def read_messages(path: Path) -> list[Message]:
    """Messages received so far, oldest first."""
    if not path.is_file():
        return []
    return [Message(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line]


def status_of(subject: str) -> str:
    """Subjects and titles begin with `[FIRING...]` or `[RESOLVED]`, by the templates of alertmanager.yaml."""
    return RESOLVED if subject.upper().startswith("[RESOLVED") else FIRING


def from_slack(body: dict[str, Any]) -> tuple[str, str]:
    """(status, text) of a Slack message."""
    title = " ".join(str(part.get("title", "")) for part in body.get("attachments", [])) or str(body.get("text", ""))
    return status_of(title), title


def from_webhook(body: dict[str, Any]) -> tuple[str, str]:
    """(status, text) of Alertmanager's own webhook format."""
    names = [str(alert.get("labels", {}).get("alertname")) for alert in body.get("alerts", [])]
    return str(body.get("status", FIRING)), " ".join(sorted(set(names)))


_FORMATS = {"/slack": ("slack", from_slack), "/webhook": ("webhook", from_webhook)}


def http_server(host: str, port: int, inbox: Inbox) -> ThreadingHTTPServer:
    """Serves POST /slack and POST /webhook, and GET / for the health check."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if self.path not in _FORMATS or length > MAX_BODY_BYTES:
                self._answer(404 if self.path not in _FORMATS else 413)
                return
            via, read = _FORMATS[self.path]
            try:
                status, text = read(json.loads(self.rfile.read(length)))
            except (ValueError, AttributeError):
                self._answer(400)
                return
            inbox.add(via, status, text)
            self._answer(200)

        def _answer(self, code: int) -> None:
            body = b"ok" if code == 200 else b"refused"  # Slack answers `ok`, and its clients look for it
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Suppress the access log: messages are in the file."""

    return ThreadingHTTPServer((host, port), Handler)


class MailHandler:
    """aiosmtpd's handler: every mail is accepted."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        subject = str(message["Subject"] or "")
        self._inbox.add("email", status_of(subject), subject)
        return "250 OK"


def main(environment: str) -> None:
    """Serve until TERM."""
    layout = Layout(load_topology(environment))
    address = layout.topology.monitoring.alert_sink
    inbox = Inbox(layout.alerts)
    mail = Controller(MailHandler(inbox), hostname=address.bind, port=address.smtp_port)
    server = http_server(address.bind, address.port, inbox)

    def end(_signal: int, _frame: Any) -> None:
        threading.Thread(target=server.shutdown).start()  # it would wait for this thread

    signal.signal(signal.SIGTERM, end)
    mail.start()
    try:
        server.serve_forever()
    finally:
        mail.stop()


if __name__ == "__main__":
    main(sys.argv[1])
