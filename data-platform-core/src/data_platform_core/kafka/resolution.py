"""Whether data written with one Avro schema can be read as another: Apache Avro's own check of schema resolution.

The registry checks only the subject's current compatibility level, and only in one direction. A stream that reads with
the contract's schema needs certainty; otherwise one producer's new version would stop it.
"""

from __future__ import annotations

import json
from typing import Any

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityResult, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import RecordSchema, Schema, parse


def unreadable(reader: Any, writer: Any) -> str | None:
    """Why data of `writer` can't be read as `reader` (both parsed JSON), naming the field; None when it can."""
    try:
        ours, theirs = parse(json.dumps(reader)), parse(json.dumps(writer))
    except AvroException as error:
        return f"Avro does not accept the schema: {' '.join(str(error).split())}"
    why = _why(ours, theirs)
    return (_field(ours, theirs) or f"the record: {why}") if why else None


def _field(ours: Schema, theirs: Schema) -> str | None:
    """The first field that can't be read: for a branch of a union, Avro reports no location."""
    if not isinstance(ours, RecordSchema) or not isinstance(theirs, RecordSchema):
        return None
    written = {field.name: field.type for field in theirs.fields}
    for field in ours.fields:
        name = next((name for name in (field.name, *(field.props.get("aliases") or ())) if name in written), None)
        if name is not None and (why := _why(field.type, written[name])):
            return f"field {field.name}: {why}"
        if name is None and not field.has_default:
            return f"field {field.name} is not written, and ours has no default"
    return None


def _why(ours: Schema, theirs: Schema) -> str:
    """Avro's findings; empty if it can read."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    found: SchemaCompatibilityResult = checker.get_compatibility(ours, theirs)
    if found.compatibility is SchemaCompatibilityType.compatible:
        return ""
    kinds = sorted(kind.value.replace("_", " ") for kind in found.incompatibilities)
    places = "".join(f" at {place}" for place in sorted(found.locations - {"/"}))
    return f"{', '.join(kinds)}{places} ({'; '.join(sorted(found.messages))})"
