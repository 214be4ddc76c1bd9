"""Steps shared by all experiments."""

from __future__ import annotations

from data_platform_core.contracts import load_contracts
from data_platform_core.errors import ServiceError
from data_platform_core.settings import load_settings
from platform_experiments.runtime import Runtime


def begin_anew(runtime: Runtime) -> None:
    """Start an empty platform: the existing one is stopped and its data deleted."""
    runtime.down()
    runtime.clean()
    runtime.up()


def drain(runtime: Runtime, timeout_s: float) -> float:
    """Seconds until bronze and silver have the topics' records. Raises ServiceError after `timeout_s`."""
    from data_platform_core.accounting.liveness import wait_until_drained

    settings = load_settings("accounting", runtime.topology.environment)
    drained = wait_until_drained(settings, load_contracts(), timeout_s)
    if drained.waiting:
        raise ServiceError(
            f"not drained after {timeout_s:g} s: {dict(drained.waiting)}; the stream is too slow or down"
        )
    return drained.seconds
