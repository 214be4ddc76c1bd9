"""One supervised process: what the supervisor, the preflight, `up` and the health checks need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from data_platform_core.topology import Endpoint
from embedded_stack.credentials import Account

#: The environment's accounts, by service name.
Accounts = Mapping[str, Account]


class Profile(StrEnum):
    """Services that are started together. `up` starts DEFAULT_PROFILES, and others when it is asked to."""

    CORE = "core"
    MONITORING = "monitoring"
    BATCH = "batch"
    SERVING = "serving"


DEFAULT_PROFILES = frozenset({Profile.CORE, Profile.MONITORING})


def _nothing(_accounts: Accounts) -> None:
    pass


def _unchanged() -> bool:
    return False


@dataclass(frozen=True)
class Service:
    """One supervised process. `healthy` returns None, or the reason why not in a few words.

    `memory_mb` is the resident memory to plan with, children included: what the process takes at its usual most.
    """

    name: str
    profile: Profile
    command: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    healthy: Callable[[], str | None]
    memory_mb: int
    stop_seconds: int
    #: One that ends sooner has failed to start: the supervisor waits before the next start, longer each time.
    start_seconds: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    #: False for a parent that looks after its children itself.
    stop_group: bool = True
    #: True for what `start` starts and `up` leaves alone, whatever its profile.
    on_demand: bool = False
    #: Writes what the process needs on disk before each start. May return notes for the person watching.
    prepare: Callable[[Accounts], Sequence[str] | None] = _nothing
    #: Makes the platform's accounts in the running service. Repeatable.
    provision: Callable[[Accounts], None] = _nothing
    #: Writes the running process's configuration anew; True when it must read it again.
    refresh: Callable[[], bool] = _unchanged
    #: File of a run's settings that `command` reads at its start; None for a service that takes none.
    run_settings: Path | None = None

    @property
    def address(self) -> str:
        return self.endpoints[0].address

    @property
    def optional(self) -> bool:
        """Whether nothing is wrong when it was never started."""
        return self.on_demand or self.profile not in DEFAULT_PROFILES
