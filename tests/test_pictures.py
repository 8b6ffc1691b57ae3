"""The pictures of the pages: a terminal's output as frames, and the size of the result."""

from __future__ import annotations

from PIL import Image

from tests.support.pictures import IMAGES, LAST_S, LONGEST_S, MOST_BYTES, Screen, thinned


def test_a_screen_shows_what_a_terminal_would() -> None:
    screen = Screen()
    screen.write("one\r\nbar 1%\x1b[2K\rbar 22%\r\n\x1b[1A\x1b[2K\r\x1b[32mbar 100%\x1b[0m\r\nend")
    assert screen.lines == ["one", "bar 100%", "end"]


def test_a_cursor_that_goes_back_writes_over_what_is_there() -> None:
    screen = Screen()
    screen.write("abcdef\rxy")
    assert screen.lines == ["xycdef"]


def test_no_frame_stands_long_but_the_last() -> None:
    seen: list[tuple[float, tuple[str, ...]]] = [
        (0.0, ("a",)),
        (0.1, ("ab",)),
        (9.0, ("abc",)),
        (9.1, ("abc",)),
    ]
    assert thinned(seen) == [(("ab",), LONGEST_S), (("abc",), LAST_S)]


def test_the_moving_picture_moves_and_is_small() -> None:
    path = IMAGES / "tour.webp"
    assert path.stat().st_size <= MOST_BYTES
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) > 20
