"""One supervised process: what the supervisor, the preflight and the health checks need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from data_platform_core.topology import Endpoint


@dataclass(frozen=True)
class Service:
    """One supervised process. `healthy` returns None, or the reason why not in a few words."""

    name: str
    command: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    healthy: Callable[[], str | None]
    stop_seconds: int
    #: One that ends sooner has failed to start: the supervisor waits before the next start, longer each time.
    start_seconds: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: str = "TERM"
    #: False for a parent that looks after its children itself.
    stop_group: bool = True
    #: True for what `start` starts and `up` leaves alone.
    on_demand: bool = False

    @property
    def address(self) -> str:
        return self.endpoints[0].address
