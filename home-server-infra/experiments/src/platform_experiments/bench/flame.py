"""Flame graphs as SVG text: width is the share of samples, a frame stands on its caller."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from matplotlib.figure import Figure

#: Same input, same bytes.
_STABLE: Any = {"svg.hashsalt": "flame", "svg.fonttype": "path", "font.size": 5}
#: Frames narrower than this share can't be seen.
_NARROWEST = 0.004
#: A frame's name is written where it is at least so wide.
_NAMED = 0.03
_HIGHEST = 70
#: Characters that fit into the whole width.
_CHARACTERS = 230


@dataclass
class _Frame:
    name: str
    samples: int = 0
    callees: dict[str, _Frame] = field(default_factory=dict)


def flame_graph(stacks: Counter[tuple[str, ...]], title: str) -> str:
    """The samples by stack (outermost frame first) as a picture. Frames too narrow to be seen are left out."""
    root = _Frame("all", stacks.total())
    for stack, samples in stacks.items():
        frame = root
        for name in stack[:_HIGHEST]:
            frame = frame.callees.setdefault(name, _Frame(name))
            frame.samples += samples
    drawn = list(_drawn(root, 0.0, 0, max(1, root.samples)))
    with matplotlib.rc_context(_STABLE):
        levels = max((level for _, _, level, _ in drawn), default=0) + 1
        figure = Figure(figsize=(14, 1 + levels * 0.13))
        axes = figure.add_axes((0.005, 0.005, 0.99, 0.96))
        axes.set(xlim=(0, 1), ylim=(0, levels), xticks=[], yticks=[])
        axes.set_title(title, fontsize=8)
        for name, left, level, share in drawn:
            axes.barh(level + 0.5, share, left=left, height=0.95, color=_colour(name), linewidth=0)
            if share >= _NAMED:
                axes.text(left + 0.001, level + 0.5, _short(name, share), va="center", clip_on=True)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _drawn(frame: _Frame, left: float, level: int, total: int) -> Iterator[tuple[str, float, int, float]]:
    share = frame.samples / total
    if share < _NARROWEST:
        return
    yield frame.name, left, level, share
    for callee in sorted(frame.callees.values(), key=lambda other: other.name):
        yield from _drawn(callee, left, level + 1, total)
        left += callee.samples / total


def _short(name: str, share: float) -> str:
    """Class and method, as much as fits."""
    return ".".join(name.split(".")[-2:])[: int(share * _CHARACTERS)]


def _colour(name: str) -> tuple[float, float, float]:
    """One warm colour per package."""
    hashed = zlib.crc32(".".join(name.split(".")[:4]).encode())
    return 0.85 + 0.15 * (hashed % 7) / 7, 0.45 + 0.4 * (hashed // 7 % 11) / 11, 0.25 + 0.2 * (hashed // 77 % 5) / 5
