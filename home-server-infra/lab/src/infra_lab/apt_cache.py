"""A reverse proxy with a disk cache, through which hosts use the machine's package mirror.

It fetches with the machine's own apt client, so the machine's mirror, proxy and certificates apply, and no host name is
configured here. It listens on the lab's gateway.
"""

from __future__ import annotations

import hashlib
import http.server
import re
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from infra_lab.image import mirrors

_HELPER = "/usr/lib/apt/apt-helper"
_PATH = re.compile(r"^/([^/]+)(/[\w./+~%:@-]+)$")
_CHUNK = 1 << 20
#: A package never changes under its name; indices do.
INDEX_SECONDS = 6 * 3600.0
Fetch = Callable[[str, Path], bool]


def fetch_by_apt(url: str, target: Path) -> bool:
    """Whether `target` holds what `url` names."""
    command = [_HELPER, "-o", "APT::Sandbox::User=root", "download-file", url, str(target)]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return done.returncode == 0 and target.is_file()


class PackageCache:
    """Files of the mirrors, by path; each is fetched once, even for concurrent requests."""

    def __init__(self, folder: Path, upstream: dict[str, str], fetch: Fetch = fetch_by_apt) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._upstream = upstream
        self._fetch = fetch
        self._locks: defaultdict[Path, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def file(self, path: str) -> Path | None:
        """The cached file of `/debian/...`; None if no mirror has it."""
        match = _PATH.match(path)
        if match is None or match[1] not in self._upstream or ".." in path:
            return None
        cached = self._folder / hashlib.sha256(path.encode()).hexdigest()
        with self._guard:
            lock = self._locks[cached]
        with lock:
            if not self._fresh(path, cached):
                partial = cached.with_suffix(".partial")
                partial.unlink(missing_ok=True)
                if self._fetch(self._upstream[match[1]] + match[2], partial):
                    partial.replace(cached)
                # An old index is better than none: the packages it names are still in the cache.
            return cached if cached.exists() else None

    def _fresh(self, path: str, cached: Path) -> bool:
        if not cached.exists():
            return False
        return "/dists/" not in path or "/by-hash/" in path or time.time() - cached.stat().st_mtime < INDEX_SECONDS


def server(address: str, port: int, cache: PackageCache) -> http.server.ThreadingHTTPServer:
    """Bound, not yet serving."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def log_message(self, format: str, *args: object) -> None:
            """Suppress the access log: the clients are apt."""

        def _answer(self, with_body: bool) -> None:
            found = cache.file(self.path)
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(found.stat().st_size if found else 0))
            self.end_headers()
            if found and with_body:
                with found.open("rb") as file:
                    while block := file.read(_CHUNK):
                        self.wfile.write(block)

    return http.server.ThreadingHTTPServer((address, port), Handler)


def main(arguments: list[str]) -> None:
    """`python -m infra_lab.apt_cache ADDRESS PORT FOLDER`."""
    address, port, folder = arguments
    server(address, int(port), PackageCache(Path(folder), mirrors())).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
