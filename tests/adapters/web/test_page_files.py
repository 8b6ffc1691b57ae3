"""What can be said of the page without a browser."""

from __future__ import annotations

import re

from bridge.adapters.web.static_files import FOLDER
from bridge.workflows.kinds import KINDS

IMPORTED = re.compile(r'^import .* from "\./([\w-]+\.js)";', re.MULTILINE)


def test_every_input_kind_has_a_field() -> None:
    table = re.search(r"^const KINDS = \{(.*?)^\};", _read("fields.js"), re.DOTALL | re.MULTILINE)
    assert table is not None
    assert set(re.findall(r"^  (\w+)", table[1], re.MULTILINE)) == set(KINDS)


def test_the_client_module_stands_alone() -> None:
    assert not re.search(r"^import ", _read("client.js"), re.MULTILINE)


def test_what_index_html_and_modules_name_is_there() -> None:
    names = set(re.findall(r'(?:src|href)="([\w-]+\.\w+)"', _read("index.html")))
    for module in FOLDER.glob("*.js"):
        names |= set(IMPORTED.findall(module.read_text()))
    assert names | {"index.html", "client.js"} == {path.name for path in FOLDER.iterdir()}


def _read(name: str) -> str:
    return (FOLDER / name).read_text()
