"""A recording's samples become shares by subject, and a picture."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from platform_experiments.bench.flame import flame_graph
from platform_experiments.bench.profile import shares, stacks

pytestmark = pytest.mark.unit


def recording(*samples: tuple[str, ...]) -> str:
    """As `jfr print --json` prints them: the innermost frame first."""

    def frame(dotted: str) -> dict[str, object]:
        kind, name = dotted.rsplit(".", 1)
        return {"method": {"type": {"name": kind.replace(".", "/")}, "name": name}}

    events = [{"values": {"stackTrace": {"frames": [frame(name) for name in sample]}}} for sample in samples]
    return json.dumps({"recording": {"events": events}})


JAVA, PY4J, DELTA, S3 = (
    "java.util.HashMap.get", "py4j.reflection.TypeUtil.forName", "org.apache.spark.sql.delta.Snapshot.init",
    "org.apache.hadoop.fs.s3a.S3AFileSystem.open",
)  # fmt: skip


def test_stacks_are_counted_outermost_frame_first() -> None:
    assert stacks(recording((JAVA, PY4J), (JAVA, PY4J), (DELTA,))) == Counter({(PY4J, JAVA): 2, (DELTA,): 1})


def test_a_sample_belongs_to_the_subject_of_its_innermost_known_frame() -> None:
    found = stacks(recording((JAVA, S3, DELTA), (JAVA, DELTA), (JAVA, S3, DELTA), (JAVA,)))
    assert shares(found) == {"object store": 0.5, "Delta": 0.25, "the rest": 0.25}


def test_the_same_samples_give_the_same_picture_with_the_names_of_wide_frames() -> None:
    found = stacks(recording((JAVA, PY4J), (DELTA,)))
    picture = flame_graph(found, "trial")
    assert picture == flame_graph(found, "trial")
    assert picture.startswith("<?xml")
