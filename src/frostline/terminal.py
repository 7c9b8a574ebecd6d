"""What the command line says, and what it shows while something takes its time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from frostline.errors import printable


def say(what: object, *, err: bool = False) -> None:
    """Print a text, of which files that others wrote may be the source."""
    typer.echo(printable(str(what)), err=err)


def warn(text: str) -> None:
    """Say what the user should know on the error output, beside the result."""
    say(f"warning: {text}", err=True)


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show on the terminal what takes its time; nothing where the error output is piped."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner

    console = Console(stderr=True)
    with Live(Spinner("dots", what), console=console, transient=True, redirect_stdout=sys.stdout.isatty()):
        yield
