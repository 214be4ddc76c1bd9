"""The lease's record and its rules: when it may be acquired, and the next record. Pure (ADR 0021).

The lease is one object of the lake. Each change replaces the record by a conditional put, so that of two
processes that act on the same record one fails.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from data_platform_core.lake.process_marks import ProcessMark

#: Renewals per time to live: two may fail before the holder exits.
RENEWALS_PER_TTL = 3
#: Fraction of the time to live after which a holder without a renewal exits, before another may take over.
GIVES_UP_AFTER = 5 / 6


class LeaseRecord(BaseModel):
    """The lease as stored. Unknown keys are ignored: a newer version may add some.

    `since` and `renewed` use the holder's clock, for display only; no decision depends on them. `token` is random, one
    for each acquisition, and `renewals` counts, so that no two records are equal and each has an ETag of its own.
    """

    model_config = ConfigDict(frozen=True)

    epoch: int
    #: For messages: the holder's command, process and host.
    holder: str
    token: str
    since: datetime
    renewed: datetime
    ttl_s: float
    renewals: int = 0
    #: With these, a process of the same machine can prove that the holder has ended.
    kernel: str = ""
    processes: tuple[ProcessMark, ...] = ()
    #: No process holds it: its holder exited cleanly, or a person revoked it.
    released: bool = False
    #: An earlier holder was not proven to have ended: its writes must be made to fail before anything is read.
    fence_due: bool = False
    #: Why it can't be acquired until a person has revoked it; empty if nothing is wrong.
    blocked: str = ""

    def renewed_at(self, now: datetime) -> LeaseRecord:
        """The holder's next record."""
        return self.model_copy(update={"renewals": self.renewals + 1, "renewed": now})

    def is_of(self, other: LeaseRecord) -> bool:
        """Whether both are records of one acquisition."""
        return (self.epoch, self.token) == (other.epoch, other.token)

    @property
    def described(self) -> str:
        """Holder, epoch and start time, for a message."""
        return f"{self.holder} (epoch {self.epoch}, since {moment(self.since)})"


def moment(when: datetime) -> str:
    """A time for messages: UTC, to the second."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def is_free(current: LeaseRecord | None, unchanged_s: float, ended: bool) -> bool:
    """Whether the lease may be acquired.

    `unchanged_s`: how long the caller has watched it without a change, by the caller's own clock, so that no two
    clocks are compared; `ended`: whether all the holder's processes are proven to have ended.
    """
    return current is None or current.released or ended or unchanged_s >= current.ttl_s


def successor(current: LeaseRecord | None, holder: LeaseRecord, ended: bool) -> LeaseRecord:
    """The record with which `holder` acquires the lease: the next epoch.

    A holder that neither released it nor is proven to have ended may resume and finish a pending write.
    """
    if current is None:
        return holder.model_copy(update={"epoch": 1})
    due = current.fence_due or not (current.released or ended)
    return holder.model_copy(update={"epoch": current.epoch + 1, "fence_due": due})


def taken_away(current: LeaseRecord, person: LeaseRecord) -> LeaseRecord:
    """The record with which a person revokes the lease: no process holds it, and the holder's writes are fenced."""
    return person.model_copy(update={"epoch": current.epoch + 1, "released": True, "fence_due": True})
