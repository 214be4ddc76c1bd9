"""Checks before anything starts. All problems are reported at once, each with what to do about it."""

from __future__ import annotations

import errno
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from data_platform_core.paths import INSTALLED_DIR, REPOSITORY_ROOT
from data_platform_core.topology import Endpoint, Requires
from embedded_stack.layout import (
    ALERTMANAGER_BINARY,
    AMTOOL_BINARY,
    MINIO_BINARY,
    Layout,
    jmx_agent,
    kafka_jars,
    needs_postgres_user,
    registry_jars,
)
from embedded_stack.monitoring import programs
from embedded_stack.service import Service

POM = REPOSITORY_ROOT / "home-server-infra" / "local" / "pom.xml"
#: Brokers and registry are built for it.
MIN_JAVA = 17
_MIB = 1024 * 1024
#: Number of services named when memory is short.
_LARGEST = 3
#: Characters that can't be escaped, and why.
_NOT_IN_PATHS = {
    ":": "which separates entries of Java's class path",
    "=": "which separates a Java agent from its options",
    ",": "which separates Kafka's data folders",
    '"': "which ends a value of supervisord's environment",
    "$": "which initdb's shell expands",
    "`": "which initdb's shell runs",
    "\\": "which initdb's shell drops",
    "{": "which begins a range of the object store's folders",
    "[": "which the registry can't have in its jar's address",
    "!": "which ends a jar's name in the registry",
    " ;": "which begins a comment of supervisord",
    " #": "which begins a comment of supervisord",
    "\n": "which ends a line of every configuration",
}


def problems(layout: Layout, services: Sequence[Service]) -> list[str]:
    """Reasons why these services can't start on a stack that is down, one line each."""
    return [
        *unusable_paths(REPOSITORY_ROOT, layout.root),
        *missing_tools(),
        *short_of_disk(layout.topology.requires, layout.root),
        *foreign_data(layout, pinned_versions()),
        *no_room(services),
    ]


def no_room(services: Sequence[Service]) -> list[str]:
    """Reasons why these services can't start beside the running ones: memory and ports."""
    return [*short_of_memory(services), *taken_ports(services)]


def unusable_paths(*paths: Path) -> list[str]:
    """Folders with characters that some program would interpret."""
    found = []
    for path in dict.fromkeys(paths):
        if bad := next((part for part in _NOT_IN_PATHS if part in str(path)), None):
            found.append(f"path {path} has {bad!r} in it, {_NOT_IN_PATHS[bad]}; move the checkout to a path without it")
        elif not _is_utf8(path):
            found.append(f"path {str(path)!r} is no UTF-8, as configurations are; move the checkout to one that is")
    return found


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:  # bytes that Python could not decode
        return False
    return True


def missing_tools() -> list[str]:
    """Missing programs of the set-up."""
    found = []
    java = shutil.which("java")
    if java is None:
        found.append(f"tool java is missing; `make setup` installs a JDK {MIN_JAVA} or newer")
    elif (version := java_version(java)) < MIN_JAVA:
        found.append(f"{java} is Java {version}; {MIN_JAVA} or newer is needed, put it first on PATH")
    if needs_postgres_user() and shutil.which("runuser") is None:
        found.append(
            "tool runuser (util-linux) is missing; PostgreSQL refuses to run as root, `make setup` installs it"
        )
    made = {
        "MinIO": MINIO_BINARY,
        "Alertmanager": ALERTMANAGER_BINARY,
        "Alertmanager's amtool": AMTOOL_BINARY,
        "PostgreSQL": INSTALLED_DIR / "postgres" / "bin" / "postgres",
        "Kafka's jars": kafka_jars(),
        "the registry's jars": registry_jars(),
        "the brokers' metrics agent": jmx_agent(),
        **{f"Debian's {name}": programs.program(name) for name in programs.PROGRAMS},
    }
    found += [f"{what} is not at {path}; run `make setup`" for what, path in made.items() if not path.exists()]
    return found


def java_version(java: str) -> int:
    """Major version of a JVM; 0 if unknown."""
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match.group(1)) if match else 0


def short_of_memory(services: Sequence[Service]) -> list[str]:
    """A problem if less memory is available than the services need together."""
    available = psutil.virtual_memory().available // _MIB
    needed = sum(service.memory_mb for service in services)
    if available >= needed:
        return []
    largest = sorted(services, key=lambda service: -service.memory_mb)[:_LARGEST]
    listed = ", ".join(f"{service.name} {service.memory_mb}" for service in largest)
    return [
        f"memory: {available} MB available, {needed} MB needed by {len(services)} services (most by {listed}); "
        "end other programs, or another environment's stack with `make down ENV=...`"
    ]


def short_of_disk(requires: Requires, folder: Path) -> list[str]:
    """A problem if less disk is free at `folder` than the topology requires."""
    existing = next(part for part in [folder, *folder.parents] if part.exists())
    free = shutil.disk_usage(existing).free // _MIB
    if free >= requires.disk_mb:
        return []
    return [f"disk: {free} MB free at {existing}, {requires.disk_mb} MB needed (topology key requires.disk_mb)"]


def pinned_versions(pom: Path = POM) -> dict[str, str]:
    """Versions of the servers by name, from the one file that pins them."""
    pinned = dict(re.findall(r"<(kafka|apicurio|postgres)\.version>([^<]+)<", pom.read_text(encoding="utf-8")))
    return {"kafka": pinned["kafka"], "registry": pinned["apicurio"], "postgres": pinned["postgres"]}


def foreign_data(layout: Layout, programs: dict[str, str]) -> list[str]:
    """Data that this version's programs can't read, or whose secrets are missing."""
    found = []
    clean = f"`make clean ENV={layout.topology.environment}` deletes it"
    written = json.loads(layout.versions.read_text(encoding="utf-8")) if layout.versions.is_file() else {}
    for name, version in programs.items():
        if name in written and not _readable(name, written[name], version):
            found.append(
                f"data in {layout.root} was written by {name} {written[name]}, "
                f"which {name} {version} can't read; {clean}"
            )
    if (layout.postgres_data / "PG_VERSION").exists() and not (layout.secrets / "stack.env").exists():
        found.append(f"data in {layout.postgres_data} has lost its passwords ({layout.secrets} is empty); {clean}")
    return found


def _readable(name: str, written: str, program: str) -> bool:
    """Whether newer programs read the data: yes, except PostgreSQL across major versions."""
    old, new = _numbers(written), _numbers(program)
    return old[0] == new[0] if name == "postgres" else old <= new


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def taken_ports(services: Sequence[Service]) -> list[str]:
    """Addresses in use, with the service that needs each and the process that has it."""
    return [
        f"port {endpoint.listen}, wanted by {service.name}, is taken by {port_holder(endpoint)}; "
        "end it, or move the port in home-server-infra/topology"
        for service in services
        for endpoint in service.endpoints
        if not _free(endpoint)
    ]


def _free(endpoint: Endpoint) -> bool:
    with socket.socket() as probe:
        # Like the servers: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((endpoint.bind, endpoint.port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
        return True


def port_holder(endpoint: Endpoint) -> str:
    """The listening process, as `pid 123 (name: command)`."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        connections = []
    for connection in connections:
        address = connection.laddr
        if connection.status != psutil.CONN_LISTEN or not address or address.port != endpoint.port:
            continue
        # A JVM's IPv4 sockets are IPv6 sockets with a mapped address.
        theirs, every = address.ip.removeprefix("::ffff:"), ("0.0.0.0", "::")
        if (theirs in (endpoint.bind, *every) or endpoint.bind in every) and connection.pid:
            try:
                process = psutil.Process(connection.pid)
                return f"pid {process.pid} ({process.name()}: {' '.join(process.cmdline())[:80]})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return "a process of another user"
