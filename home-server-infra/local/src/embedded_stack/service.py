"""The definition of a supervised process for the supervisor, the preflight, `up` and the health checks."""

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
    """Services that are started together. `up` starts DEFAULT_PROFILES, and others on request."""

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
    """One supervised process. `healthy` returns None, or the problem in a few words.

    `memory_mb` is the resident memory to plan with, including children: the usual peak.
    """

    name: str
    profile: Profile
    command: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    healthy: Callable[[], str | None]
    memory_mb: int
    stop_seconds: int
    #: A process that ends sooner has failed to start: the supervisor waits longer before each next start.
    start_seconds: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    #: False for a parent that stops its children itself.
    stop_group: bool = True
    #: True for a service that only `start` starts, not `up`, regardless of its profile.
    on_demand: bool = False
    #: Writes the process's files before each start. May return notes for the user.
    prepare: Callable[[Accounts], Sequence[str] | None] = _nothing
    #: Creates the platform's accounts in the running service. Repeatable.
    provision: Callable[[Accounts], None] = _nothing
    #: Rewrites the running process's configuration; True if the process must reload it.
    refresh: Callable[[], bool] = _unchanged
    #: File of a run's settings that `command` reads at its start; None for a service without them.
    run_settings: Path | None = None

    @property
    def address(self) -> str:
        return self.endpoints[0].address

    @property
    def optional(self) -> bool:
        """Whether not running is normal."""
        return self.on_demand or self.profile not in DEFAULT_PROFILES
