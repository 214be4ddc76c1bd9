"""The arms of the experiment: what each changes, and the capacity that all of them begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from data_platform_core.errors import ConfigurationError

#: The entity whose backlog grows and is cured: nearly all of the traffic.
ENTITY = "events"

#: What holds every consumer to the same small capacity at the start: each record waits this long in its task, as a
#: slow lookup would make it, and an executor runs EXECUTOR_SLOTS tasks at a time. Three partitions are three tasks, so
#: the baseline takes 3 / 2 ms = 1,500 records/s at best.
RECORD_COST_US = 2_000
EXECUTOR_SLOTS = 6
MAX_OFFSETS = 20_000
#: Tasks that `minPartitions` splits a batch into, and the executors that dynamic allocation may have: all the slots.
MAX_EXECUTORS = 3
SPLIT_TASKS = EXECUTOR_SLOTS * MAX_EXECUTORS


@dataclass(frozen=True)
class Arm:
    """One remedy, or none. `grows` adds partitions when a quarter of the hold is over."""

    name: str
    what: str
    min_partitions: int = 0
    executors_max: int = 1
    grows: bool = False

    @property
    def settings(self) -> dict[str, str]:
        """The streaming driver's settings, as its environment."""
        values = {
            "CRM_EXPERIMENT__RECORD_COST_US": RECORD_COST_US,
            "CRM_INGEST__MAX_OFFSETS_PER_TRIGGER": MAX_OFFSETS,
            "CRM_INGEST__MIN_PARTITIONS": self.min_partitions,
            "CRM_SPARK__EXECUTOR_CORES": EXECUTOR_SLOTS,
            "CRM_SPARK__EXECUTORS_MAX": self.executors_max,
        }
        return {name: str(value) for name, value in values.items()}


_ALL = (
    Arm("baseline", "nothing is done"),
    Arm("minpartitions", f"`minPartitions={SPLIT_TASKS}`: a batch is split into more tasks than there are partitions",
        min_partitions=SPLIT_TASKS),
    Arm("partitions", "more partitions, added when a quarter of the hold is over", grows=True),
    Arm("executors", f"dynamic allocation, 1 to {MAX_EXECUTORS} executors", executors_max=MAX_EXECUTORS),
    Arm("elastic", f"`minPartitions={SPLIT_TASKS}` and 1 to {MAX_EXECUTORS} executors, no new partitions",
        min_partitions=SPLIT_TASKS, executors_max=MAX_EXECUTORS),
    Arm("all", "`minPartitions`, more partitions and more executors together",
        min_partitions=SPLIT_TASKS, executors_max=MAX_EXECUTORS, grows=True),
)  # fmt: skip
ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in _ALL})


def choose(names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms called `names`, in the experiment's order; all when there are none. Raises ConfigurationError."""
    unknown = [name for name in names if name not in ARMS]
    if unknown:
        raise ConfigurationError(f"arm {unknown[0]!r} is not one of the experiment's: {', '.join(ARMS)}")
    return tuple(arm for arm in _ALL if not names or arm.name in names)
