"""The lease for operators: its holder, and revoking it from a holder that can't be stopped."""

from __future__ import annotations

from data_platform_core.lake.lease import take_away, this_person
from data_platform_core.lake.lease_record import RENEWALS_PER_TTL, moment
from data_platform_core.lake.lease_store import Found, LeaseStore
from data_platform_core.lake.process_marks import all_ended
from data_platform_core.settings import Settings


def show(settings: Settings) -> str:
    """The lease, a line each for state, holder, epoch, since and renewed. Raises ServiceError as LeaseStore."""
    files = LeaseStore(settings.object_store, settings.lease)
    found = files.read()
    if found is None:
        return f"lease of {files.lake}: no process has held it yet"
    record = found.record
    lines = {
        f"lease of {files.lake}": _state(found),
        "holder": record.holder,
        "epoch": f"{record.epoch:,}",
        "since": moment(record.since),
        "renewed": f"{moment(record.renewed)}, {found.age_s:.0f} s ago by the store's clock",
        "renews": f"every {record.ttl_s / RENEWALS_PER_TTL:g} s, expires after {record.ttl_s:g} s without",
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def take_over(settings: Settings) -> str:
    """Revoke the lease from its holder; returns one line about it. Raises ServiceError as LeaseStore does."""
    files = LeaseStore(settings.object_store, settings.lease)
    before = take_away(files, this_person(settings.lease))
    if before is None:
        return f"lease of {files.lake}: no process holds it, so there is nothing to take over; start the writer"
    return (
        f"lease of {files.lake}: taken from {before.described}; its next commit fails and it ends. The next writer "
        "that starts takes the lease, and fences the tables first"
    )


def _state(found: Found) -> str:
    record = found.record
    if record.released:
        return "free" + (", the next holder fences the tables" if record.fence_due else "")
    if all_ended(record.kernel, record.processes):
        return "free: its processes have ended"
    return "held" if found.age_s < record.ttl_s else "held, but not renewed in time: the next writer may take it"
