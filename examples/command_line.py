"""What the command lines of the examples share: errors are messages, not tracebacks."""

from __future__ import annotations

import sys

import typer

from frostline import FrostlineError


def run(app: typer.Typer) -> None:
    """Run an app; an error of frostline's ends it with its message and its exit code."""
    try:
        app()
    except FrostlineError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
