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


class AccountingError(UserError):
    """An equation does not hold, or can't be evaluated."""

    exit_code = 1
