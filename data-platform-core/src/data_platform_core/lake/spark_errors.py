"""Turns a Spark error into one line: its root cause."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.object_store import OBJECT_STORE
from data_platform_core.settings import ObjectStoreSettings

_LONGEST = 300
_OURS = re.compile(r"data_platform_core\.errors\.\w+: (.*)")
_POSTGRES = re.compile(r"^\s*(psycopg\.(?:errors\.)?\w+): (.*)", re.MULTILINE)
_CALLED = re.compile(r"^: ([\w.$]+: .*)", re.MULTILINE)
#: The JVM's exceptions when the object store is down, refuses us or lacks a file.
_STORE_CLASSES = (
    "org.apache.hadoop.fs.s3a.", "software.amazon.", "java.net.", "java.nio.file.AccessDenied", "java.io.FileNotFound",
    "org.apache.http.",
)  # fmt: skip
#: Fragments of the store's messages when it refuses us.
_REFUSED = ("AccessDenied", "Forbidden", "403", "InvalidAccessKeyId", "Signature")
#: psycopg's errors for a lost server, or one that is starting or stopping.
_POSTGRES_LOST = ("OperationalError", "ConnectionTimeout", "AdminShutdown", "CrashShutdown", "CannotConnectNow")


class Cause(NamedTuple):
    """The origin of an error: `ours` (a UserError of this project), `postgres`, `store` or `value`; and its text."""

    kind: str
    text: str


def cause(error: BaseException) -> Cause:
    """The root cause of a Py4JJavaError or PySparkException.

    An executor's Python error arrives as the text of a traceback, the JVM's own as a chain of causes. Everything else
    is attributed to a value, or an expression that failed on one.
    """
    text = str(error)
    ours = _OURS.findall(text)
    if ours:
        return Cause("ours", ours[-1])
    postgres = _POSTGRES.findall(text)
    if postgres:
        name, message = postgres[-1]
        return Cause("postgres", one_line(f"{name.rpartition('.')[2]}: {message}"))
    root = _root(error)
    # A batch's Python is called by the JVM: the JVM's own error is in the text of the traceback that comes back.
    called = _CALLED.findall(root or text)
    root = called[-1] if called else root
    kind = "store" if any(name in (root or text) for name in _STORE_CLASSES) else "value"
    return Cause(kind, one_line(root or text))


def is_outage(error: BaseException) -> bool:
    """Whether an error means that a service was down, so that the same work may succeed once it is back."""
    found = cause(error)
    if found.kind == "ours":
        return f"{UnreachableError.__name__}: " in str(error)
    if found.kind == "postgres":
        return found.text.partition(":")[0] in _POSTGRES_LOST
    return found.kind == "store" and not any(word in found.text for word in (*_REFUSED, "FileNotFound"))


@contextmanager
def spark_errors(line: Callable[[Cause], str], beside_store: str) -> Iterator[None]:
    """Raise what Spark raises inside as the one line that `line` makes of its cause.

    UnreachableError when a service was away: the object store, or the one that is named `beside_store`; ServiceError
    for all else.
    """
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        found = cause(error)
        if is_outage(error):
            raise UnreachableError(OBJECT_STORE if found.kind == "store" else beside_store, line(found)) from None
        raise ServiceError(line(found)) from None


def store_advice(store: ObjectStoreSettings, reason: str) -> str:
    """A failure of the object store, with what to check: the credentials only where it refused them."""
    refused = any(word in reason for word in _REFUSED)
    check = (
        "CRM_OBJECT_STORE__ACCESS_KEY and CRM_OBJECT_STORE__SECRET_KEY" if refused else "that it runs: `make status`"
    )
    return f"object store {store.url}, bucket {store.lake_bucket}, failed: {reason}; check {check}"


def one_line(text: str) -> str:
    """The text without line ends, cut to a readable length."""
    return " ".join(text.split())[:_LONGEST] or "no message"


def _root(error: BaseException) -> str:
    java: Any = getattr(error, "java_exception", None) or getattr(error, "_origin", None)
    if java is None:
        return ""
    while java.getCause() is not None:
        java = java.getCause()
    return str(java.toString()).strip()
