"""Whether data written with one Avro schema can be read as another: the specification's schema resolution.

The registry answers this only by the compatibility level a subject happens to have, and only in one direction; a
stream that reads with the contract's schema has to know for certain, or one producer's new version stops it.
"""

from __future__ import annotations

from typing import Any

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def unreadable(reader: Any, writer: Any) -> str | None:
    """Why data of `writer` can't be read as `reader` (both parsed JSON), naming the field; None when it can."""
    return _Resolution(_named(reader), _named(writer)).check(reader, writer, "")


class _Resolution:
    def __init__(self, readers: dict[str, Any], writers: dict[str, Any]) -> None:
        self._readers = readers
        self._writers = writers
        self._under_way: set[tuple[str, str]] = set()

    def check(self, reader: Any, writer: Any, at: str) -> str | None:
        reader, writer = self._readers.get(_key(reader), reader), self._writers.get(_key(writer), writer)
        if isinstance(writer, list):
            # Any branch may be what was written.
            return next((why for branch in writer if (why := self.check(reader, branch, at))), None)
        if isinstance(reader, list):
            if any(self.check(branch, writer, at) is None for branch in reader):
                return None
            return f"{at or 'the record'} is written as {_kind(writer)}, which no branch of ours reads"
        return self._check_kinds(reader, writer, at)

    def _check_kinds(self, reader: Any, writer: Any, at: str) -> str | None:
        ours, theirs = _kind(reader), _kind(writer)
        if ours != theirs:
            if ours in _PROMOTIONS.get(theirs, ()):
                return None
            return f"{at or 'the record'} is written as {theirs}, ours is {ours}"
        inner = {"record": self._check_record, "array": self._check_items, "map": self._check_values}
        plain = {"enum": _check_symbols, "fixed": _check_size}
        return {**inner, **plain}.get(ours, _same)(reader, writer, at)

    def _check_items(self, reader: Any, writer: Any, at: str) -> str | None:
        return self.check(reader["items"], writer["items"], f"{at}[]")

    def _check_values(self, reader: Any, writer: Any, at: str) -> str | None:
        return self.check(reader["values"], writer["values"], f"{at}{{}}")

    def _check_record(self, reader: Any, writer: Any, at: str) -> str | None:
        pair = (reader["name"], writer["name"])
        if pair in self._under_way:
            return None
        self._under_way.add(pair)
        theirs = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            where = f"{at}.{field['name']}" if at else f"field {field['name']}"
            written = next(
                (theirs[name] for name in (field["name"], *field.get("aliases", ())) if name in theirs), None
            )
            if written is None:
                if "default" not in field:
                    return f"{where} is not written, and ours has no default"
                continue
            why = self.check(field["type"], written["type"], where)
            if why:
                return why
        return None


def _check_symbols(reader: Any, writer: Any, at: str) -> str | None:
    unknown = sorted(set(writer["symbols"]) - set(reader["symbols"]))
    return f"{at} may be {unknown[0]}, which ours does not know" if unknown and "default" not in reader else None


def _check_size(reader: Any, writer: Any, at: str) -> str | None:
    return f"{at} has {writer['size']} bytes, ours {reader['size']}" if reader["size"] != writer["size"] else None


def _same(_reader: Any, _writer: Any, _at: str) -> str | None:
    return None


def _kind(schema: Any) -> str:
    kind = schema["type"] if isinstance(schema, dict) else schema
    return _kind(kind) if isinstance(kind, dict) else str(kind)


def _key(schema: Any) -> str:
    return schema if isinstance(schema, str) else ""


def _named(schema: Any) -> dict[str, Any]:
    """Every named type within `schema`, by short name and by full name."""
    found: dict[str, Any] = {}

    def walk(node: Any, namespace: str) -> None:
        if isinstance(node, list):
            for branch in node:
                walk(branch, namespace)
        elif isinstance(node, dict):
            namespace = node.get("namespace", namespace)
            if node.get("type") in ("record", "enum", "fixed"):
                found[node["name"]] = node
                found[f"{namespace}.{node['name']}"] = node
            for field in node.get("fields", ()):
                walk(field["type"], namespace)
            for part in ("items", "values", "type"):
                if isinstance(node.get(part), dict | list):
                    walk(node[part], namespace)

    walk(schema, "")
    return found
