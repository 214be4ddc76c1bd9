"""Errors that are the user's to mend: one line naming the thing, its value, and what to do; no traceback."""

from __future__ import annotations


class UserError(Exception):
    """Something outside the code is wrong: a file, a setting, a service.

    `str(error)` is a single line. The command line prints it to stderr and exits with `exit_code`.
    """

    exit_code = 2

    @property
    def lines(self) -> list[str]:
        """What the command line prints, an error each; one, but for errors that gather several."""
        return [str(self)]


class ConfigurationError(UserError):
    """A file or a setting says something impossible."""


class ServiceError(UserError):
    """A service is missing, refuses our credentials, or is not in the state that topology and contracts ask for."""

    exit_code = 3


class UnreachableError(ServiceError):
    """A service does not answer, or is not ready yet: the one trouble of a service that waiting may cure.

    `service` names it as people and the metric `crm_streaming_waiting` do.
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
    """A generated file is not what its sources say now."""

    exit_code = 1
