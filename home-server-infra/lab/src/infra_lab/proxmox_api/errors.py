"""Refusals in the shape of Proxmox: a status, one line of text, and the offending parameters by name."""

from __future__ import annotations

from collections.abc import Mapping


class PveError(Exception):
    """`status` is HTTP's; `parameters` names what is wrong with each, for status 400."""

    def __init__(self, status: int, message: str, parameters: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.parameters = dict(parameters or {})


def bad_parameters(parameters: Mapping[str, str]) -> PveError:
    """Status 400 naming every parameter that is wrong."""
    return PveError(400, "Parameter verification failed.", parameters)


def no_permission(path: str, *privileges: str) -> PveError:
    """Status 403; several privileges: any of them would do."""
    return PveError(403, f"Permission check failed ({path}, {'|'.join(privileges)})")
