"""Labels in letters that Pillow's own font lacks, with stand-ins for installed fonts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
from PIL import ImageFont

from bridge.media import collage
from bridge.media.collage import letterings

SIZE = 14


class Font:
    """A font that has some letters; what it draws for all others is the same."""

    def __init__(self, name: str, letters: str) -> None:
        self.name = name
        self._letters = letters

    def getmask(self, letter: str) -> Any:
        return Mask(letter if letter in self._letters else "none")


class Mask(bytes):
    size = (8, 8)

    def __new__(cls, drawn: str) -> Self:
        return super().__new__(cls, drawn.encode())


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Letters by the name of a font's file; a font without any cannot be opened."""
    fonts = {
        "Broken.ttf": "",
        "Cyrillic.ttf": "лиса=prompt",
        "Han-Bold.otf": "狐狸=prompt",
        "Han.ttc": "狐狸=prompt",
    }

    own = ImageFont.load_default(SIZE)
    monkeypatch.setattr(ImageFont, "load_default", lambda _: own)

    def opened(path: Path, size: int) -> Font:
        assert size == SIZE
        if not fonts[path.name]:
            raise OSError("invalid pixel size")
        return Font(path.name, fonts[path.name])

    monkeypatch.setattr(ImageFont, "truetype", opened)
    for name in fonts:
        (tmp_path / name).touch()
    (tmp_path / "fonts.dir").touch()
    return fonts


def names(labels: list[str], folder: Path) -> list[tuple[str, str]]:
    return [
        (getattr(each.font, "name", "own"), each.text)
        for each in letterings(labels, SIZE, [folder, folder / "none"])
    ]


@pytest.mark.usefixtures("installed")
def test_a_label_is_drawn_with_a_font_that_has_its_letters(tmp_path: Path) -> None:
    assert names(["prompt=狐狸", "prompt=лиса", "prompt=fox"], tmp_path) == [
        ("Han.ttc", "prompt=狐狸"),
        ("Cyrillic.ttf", "prompt=лиса"),
        ("own", "prompt=fox"),
    ]


def test_letters_that_no_font_has_are_escaped(installed: dict[str, str], tmp_path: Path) -> None:
    assert names(["狐\N{FOX FACE}", "fox \N{FOX FACE}"], tmp_path) == [
        ("Han.ttc", "狐\\U0001f98a"),
        ("own", "fox \\U0001f98a"),
    ]
    installed.clear()
    assert names(["prompt=狐"], tmp_path / "none") == [("own", "prompt=\\u72d0")]


def test_installed_fonts_are_not_looked_at_for_labels_of_plain_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(collage, "_installed", never)
    labels = ["steps=20, prompt=a fox!", "", "7"]
    assert names(labels, tmp_path) == [("own", each) for each in labels]
