"""The embedded stack as a runtime: the only modules here that know its supervisor and this machine's processes."""

from platform_experiments.embedded.runtime import EmbeddedRuntime

__all__ = ["EmbeddedRuntime"]
