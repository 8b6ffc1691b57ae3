"""The one form of tables: a header and aligned columns, without lines, also in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# In a pipe there is no width to keep to.
_WIDE = 1000


def show(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; on a terminal long cells are wrapped, in a pipe each row is one line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    tty = sys.stdout.isatty()
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=not tty)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console(width=None if tty else _WIDE)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
