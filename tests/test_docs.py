"""The pages: their links lead somewhere, and the commands in them are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from bridge import config
from bridge.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[!.]*/README.md")])
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
_PICTURE = re.compile(r"<img src=\"([^\"]+)\"")
_COMMAND = re.compile(
    r"(?:^ {4}(?:\$ )?|`)((?:COMFY2MQTT_\S+ )*comfy2mqtt [a-z][^`\n]*)", re.MULTILINE
)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    for target, anchor in _LINK.findall(page.read_text()):
        if "://" in target:
            continue
        path = page.parent / target
        assert path.exists(), f"{target} is not there"
        if anchor and path.suffix == ".md":
            assert anchor[1:] in _anchors(path), f"{target}{anchor} is not there"
    for target in _PICTURE.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{target} is not there"


def _anchors(page: Path) -> set[str]:
    """The names that headings get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {each.replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_merge_is_left_unfinished(page: Path) -> None:
    marks = re.findall(r"^(?:<{7} .*|={7}|>{7} .*)$", page.read_text(), re.MULTILINE)
    assert marks == []


def commands(page: Path) -> list[str]:
    """The commands of ours that a page names."""
    return [line.partition(" #")[0].strip() for line in _COMMAND.findall(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_commands_with_options_that_they_have(page: Path) -> None:
    for line in commands(page):
        words = [
            word for word in shlex.split(re.split(r" [#|>]", line)[0]) if "=" not in word.split()[0]
        ]
        _check(main, words[1:], line)


def _check(command: click.Command, words: list[str], line: str) -> None:
    while isinstance(command, click.Group) and words and not words[0].startswith(("-", "[")):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{line}: no command {words[0]!r}"
        command, words = found, words[1:]
    options = {option for each in command.params for option in each.opts} | {"--help", "-h"}
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.partition("=")[0] in options, f"{line}: no option {word!r}"


@pytest.mark.parametrize("page", ["home-assistant.md", "quick-start-home-assistant.md"])
def test_the_settings_of_the_pages_for_home_assistant_are_settings(
    page: str, tmp_path: Path
) -> None:
    text = (ROOT / "docs" / page).read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    path = tmp_path / "comfy2mqtt.toml"
    path.write_text(block)
    assert config.load({}, {}, path).homeassistant


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name}" in index, page.name
