from __future__ import annotations

import base64
import re

import pytest

from bridge.cli import terminal

PNG = b"\x89PNG" + bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM_PROGRAM": "Apple_Terminal"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "0"}, None),
        ({}, None),
    ],
)
def test_a_terminal_reports_what_it_can_show(
    environment: dict[str, str], wanted: terminal.Protocol | None
) -> None:
    assert terminal.protocol(environment) == wanted


def test_kitty_gets_a_png_in_pieces() -> None:
    shown = terminal.picture(PNG, "image/png", "kitty")
    assert shown is not None
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", shown)
    assert [control for control, _ in pieces] == ["f=100,a=T,m=1", "m=1", "m=1", "m=0"]
    assert all(len(piece) <= 4096 for _, piece in pieces)
    assert base64.b64decode("".join(piece for _, piece in pieces)) == PNG


def test_iterm_gets_any_picture_whole() -> None:
    shown = terminal.picture(PNG, "image/webp", "iterm")
    assert shown == f"\x1b]1337;File=inline=1;size={len(PNG)}:{base64.b64encode(PNG).decode()}\a"


def test_what_cannot_be_shown_is_not() -> None:
    assert terminal.picture(PNG, "image/webp", "kitty") is None
    assert terminal.picture(PNG, "video/mp4", "iterm") is None
    assert terminal.picture(bytes(9_000_000), "image/png", "iterm") is None
