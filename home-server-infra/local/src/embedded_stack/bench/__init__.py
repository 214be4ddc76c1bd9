"""`make bench`: what this machine sustains, measured on a fresh stack of its own. It asserts nothing."""

from embedded_stack.bench.runner import PARTS, run

__all__ = ["PARTS", "run"]
