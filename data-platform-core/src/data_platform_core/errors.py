"""Errors that the user can fix: one line with the thing, its value and what to do; no traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the code is wrong: a file, a setting, a service.

    `str(error)` is a single line. The command line prints it to stderr and exits with `exit_code`.
    """

    exit_code = 2

    @property
    def lines(self) -> list[str]:
        """The lines that the command line prints: one, or one per collected error."""
        return [str(self)]


class ConfigurationError(UserError):
    """A file or a setting has an impossible value."""


class ServiceError(UserError):
    """A service is missing, refuses our credentials, or differs from what topology and contracts require."""

    exit_code = 3


class UnreachableError(ServiceError):
    """A service does not answer or is not ready yet: the one service error that waiting may fix.

    `service` is its name in messages and in the metric `crm_streaming_waiting`.
    """

    def __init__(self, service: str, message: str) -> None:
        super().__init__(message)
        self.service = service


class LeaseHeldError(ServiceError):
    """Another process may write the lake's tables."""


class LeaseLostError(ServiceError):
    """This process may no longer write the lake's tables; another one may."""


class AccountingError(UserError):
    """An equation does not hold, or can't be evaluated."""

    exit_code = 1


class GeneratedFileError(UserError):
    """A generated file differs from its current sources."""

    exit_code = 1
