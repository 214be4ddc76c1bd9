"""Health checks. Each returns None if the service is healthy, otherwise the reason in a few words."""

from __future__ import annotations

import re
import socket
import struct

import httpx

from data_platform_core.topology import Broker, Postgres

#: Timeout of one check, seconds: a service that needs longer is not healthy on loopback.
PROBE_SECONDS = 2.0


def http_ok(url: str) -> str | None:
    """A GET answered with 200."""
    return http_says(url, "")


def reports_ok(url: str) -> str | None:
    """A GET answered with 200; otherwise the page has the reason."""
    try:
        response = httpx.get(url, timeout=PROBE_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        return type(error).__name__
    return None if response.status_code == httpx.codes.OK else response.text.strip() or f"HTTP {response.status_code}"


def http_says(url: str, line: str) -> str | None:
    """A GET answered with 200 and a page with the line `line`, if it is not empty."""
    try:
        response = httpx.get(url, timeout=PROBE_SECONDS, trust_env=False)  # loopback: never through a proxy
    except httpx.HTTPError as error:
        return type(error).__name__
    if response.status_code != httpx.codes.OK:
        return f"HTTP {response.status_code}"
    return None if not line or line in response.text.splitlines() else f"does not say {line!r}"


def streaming_driver(address: str) -> str | None:
    """The driver reports that every query runs, that none hangs, and that it waits for no service."""
    try:
        response = httpx.get(f"http://{address}/metrics", timeout=PROBE_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        return type(error).__name__
    if waiting := re.findall(r'^crm_streaming_waiting\{for="([^"]+)"\} 1\.0$', response.text, re.MULTILINE):
        return f"waits for {', '.join(waiting)}"
    return reports_ok(f"http://{address}/readyz")


def kafka_broker(broker: Broker) -> str | None:
    """The broker answers a metadata request and is a member of the cluster."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        # librdkafka logs every refused connection: ask it only when the port answers at all.
        socket.create_connection((broker.host, broker.port), PROBE_SECONDS).close()
        client = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})
        members = client.list_topics(timeout=PROBE_SECONDS).brokers
    except OSError as error:
        return error.strerror or type(error).__name__
    except KafkaException as error:
        return str(error.args[0].str())
    return None if broker.id in members else f"not in the cluster of {len(members)}"


def postgres_answers(postgres: Postgres) -> str | None:
    """The server accepts connections: it answers a start-up packet with a request to authenticate."""
    body = struct.pack("!i", 196608) + b"user\0health\0database\0postgres\0\0"
    try:
        with socket.create_connection((postgres.host, postgres.port), PROBE_SECONDS) as connection:
            connection.settimeout(PROBE_SECONDS)
            connection.sendall(struct.pack("!i", len(body) + 4) + body)
            answer = connection.recv(512)
    except OSError as error:
        return error.strerror or type(error).__name__
    if answer[:1] == b"R":
        return None
    return "starting up" if b"57P03" in answer else "refuses connections"
