"""The entry point of every command line: a user's mistake prints one line on stderr and exits with its code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer
from pydantic import ValidationError

from data_platform_core.commands import accept_interrupts
from data_platform_core.errors import ConfigurationError, UserError

#: A shell's code for a command that Ctrl-C ended; Typer's as well.
_INTERRUPTED = 130

#: If one of these can't be imported, that is a bug.
_OURS = ("data_platform_core", "data_generator", "embedded_stack", "monitoring_dashboards", "infra_lab")


def run(app: Callable[..., Any]) -> None:
    """Run a Typer app and exit with 0, the command's own code, or an error's code (2 for wrong options)."""
    try:
        accept_interrupts()
        code = app(standalone_mode=False)
    except typer.exceptions.TyperException as error:
        # No message: a group was called without a command, and its help was printed.
        if message := " ".join(error.format_message().split()):
            print(f"error: {_advised(message, error)}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    except typer.Abort:
        raise SystemExit(UserError.exit_code) from None
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in _OURS:
            raise  # a bug, not an incomplete installation
        print(f"error: {_not_installed(error.name)}", file=sys.stderr)
        raise SystemExit(UserError.exit_code) from None
    except UserError as error:
        print_error(error)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(code if isinstance(code, int) else 0)


def confirm(question: str) -> None:
    """Ask a person. Raises Abort for a no, ConfigurationError when nobody can answer."""
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question}? standard input is no terminal, so nobody can answer; add --yes")
    typer.confirm(question, abort=True)


def _not_installed(module: str) -> str:
    return (
        f"this command needs the Python module {module.partition('.')[0]}, which is not installed here; install "
        "crm-data-platform-core with the extra that brings it (spark, warehouse or accounting)"
    )


def print_error(error: UserError) -> None:
    """Print the lines of an error on standard error."""
    for line in error.lines:
        print(f"error: {line}", file=sys.stderr, flush=True)


def _advised(message: str, error: Exception) -> str:
    """The message, with the value that it omits and a pointer to the help."""
    cause, context = error.__cause__, getattr(error, "ctx", None)
    value = f" (it is {cause.errors()[0]['input']!r})" if isinstance(cause, ValidationError) else ""
    return f"{message.rstrip('.')}{value}" + (f"; see `{context.command_path} --help`" if context else "")
