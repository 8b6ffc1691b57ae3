"""Output on a terminal: tables, and pictures where it can show them.

Pictures are in kitty's protocol or iTerm2's:
https://sw.kovidgoyal.net/kitty/graphics-protocol/, https://iterm2.com/documentation-images.html
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Protocol = Literal["kitty", "iterm"]

# kitty takes no more base64 than this in one sequence.
_CHUNK = 4096
# A picture that is larger takes longer to write than to look for.
_MAX_BYTES = 8 * 1024 * 1024
# In a pipe there is no width to keep to.
_WIDE = 1000
_PROTOCOLS: dict[str, Protocol] = {
    "kitty": "kitty",
    "ghostty": "kitty",
    "iTerm.app": "iterm",
    "WezTerm": "iterm",
    "vscode": "iterm",
}


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a header and aligned columns, without lines.

    On a terminal long cells are wrapped, in a pipe each row is one line.
    """
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


def protocol(environment: Mapping[str, str]) -> Protocol | None:
    """Return a terminal's protocol for pictures; None: it has none, as far as it reports.

    Within tmux and screen it is not tried: they pass nothing on by default.
    """
    if environment.get("TMUX") or environment.get("STY"):
        return None
    if environment.get("KITTY_WINDOW_ID") or "kitty" in environment.get("TERM", ""):
        return "kitty"
    return _PROTOCOLS.get(environment.get("TERM_PROGRAM", ""))


def picture(data: bytes, content_type: str, how: Protocol) -> str | None:
    """Return the escape sequence that shows a picture, None for one that cannot be shown."""
    if len(data) > _MAX_BYTES or not content_type.startswith("image/"):
        return None
    encoded = base64.b64encode(data).decode("ascii")
    if how == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(data)}:{encoded}\a"
    # kitty's protocol has PNG and raw pixels only.
    return "".join(_kitty(encoded)) if content_type == "image/png" else None


def _kitty(encoded: str) -> Iterator[str]:
    for start in range(0, len(encoded), _CHUNK):
        more = int(start + _CHUNK < len(encoded))
        control = f"f=100,a=T,m={more}" if start == 0 else f"m={more}"
        yield f"\x1b_G{control};{encoded[start : start + _CHUNK]}\x1b\\"
