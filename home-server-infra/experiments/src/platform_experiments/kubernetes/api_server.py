"""Reads from the API server by HTTP, through one `kubectl proxy` that knows the kubeconfig.

An experiment reads several times a second: a kubectl for each reading would use half a core. The proxy listens on a
socket in a folder that only its user may enter.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from data_platform_core.commands import last_words
from data_platform_core.errors import ServiceError
from data_platform_core.waiting import ask_until

_START_SECONDS = 10.0
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 10.0


def read(path: str, **parameters: str) -> Any:
    """The JSON at a path of the API server; None where it has nothing. Raises ServiceError when it does not answer."""
    text = read_text(path, **parameters)
    return None if text is None else json.loads(text)


def read_text(path: str, **parameters: str) -> str | None:
    """What is at a path of the API server; None where it has nothing. Raises ServiceError when it does not answer."""
    try:
        answer = _client().get(path, params=parameters)
    except httpx.HTTPError as error:
        raise ServiceError(f"the cluster's API server does not answer: {error or type(error).__name__}") from error
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    if answer.is_error:
        raise ServiceError(f"the API server refuses {path} with {answer.status_code}: {last_words(answer.text)}")
    return answer.text


@cache
def _client() -> httpx.Client:
    folder = tempfile.TemporaryDirectory(prefix="crm-kubectl-")
    socket = Path(folder.name) / "proxy"
    try:
        proxy = subprocess.Popen(
            ["kubectl", "proxy", f"--unix-socket={socket}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError as error:
        raise ServiceError("program kubectl is missing; install it, or put it on PATH") from error
    atexit.register(folder.cleanup)
    atexit.register(_end, proxy)

    def begun() -> bool:
        return socket.exists() or proxy.poll() is not None

    ask_until(bool, begun, within_s=_START_SECONDS, every_s=_POLL_SECONDS)
    if not socket.exists():
        _end(proxy)
        raise ServiceError(f"`kubectl proxy` does not run: {last_words(proxy.communicate()[1])}")
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=_ANSWER_SECONDS
    )


def _end(proxy: subprocess.Popen[str]) -> None:
    proxy.terminate()
    proxy.wait()
