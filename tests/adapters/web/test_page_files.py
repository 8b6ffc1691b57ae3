"""Tests of the page's files that need no browser."""

from __future__ import annotations

import re
from graphlib import TopologicalSorter

from bridge.adapters.web.content import PAGE
from bridge.workflows.inputs import KINDS

IMPORTED = re.compile(r'^(?:import|export)\b[^;"]*"\./([\w-]+\.js)";', re.MULTILINE)


def test_every_input_kind_has_a_field() -> None:
    table = re.search(r"^const KINDS = \{(.*?)^\};", _read("fields.js"), re.DOTALL | re.MULTILINE)
    assert table is not None
    assert set(re.findall(r"^  (\w+)", table[1], re.MULTILINE)) == set(KINDS)


def test_the_client_module_stands_alone() -> None:
    assert not re.search(r"^import ", _read("client.js"), re.MULTILINE)


def test_the_modules_of_the_page_import_each_other_without_cycles() -> None:
    imports = _imports()
    assert imports["app.js"] > {"client.js", "form.js"}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules


def test_every_module_of_the_page_is_reached_from_app_js() -> None:
    imports = _imports()
    reached: set[str] = set()
    waiting = {"app.js"}
    while waiting:
        module = waiting.pop()
        reached.add(module)
        waiting |= imports[module] - reached
    assert reached == set(imports)


def test_what_index_html_and_modules_name_is_there() -> None:
    names = set(re.findall(r'(?:src|href)="([\w-]+\.\w+)"', _read("index.html")))
    for imported in _imports().values():
        names |= imported
    assert names | {"index.html", "client.js"} == {path.name for path in PAGE.iterdir()}


def _imports() -> dict[str, set[str]]:
    """The modules that each module of the page imports."""
    return {path.name: set(IMPORTED.findall(path.read_text())) for path in PAGE.glob("*.js")}


def _read(name: str) -> str:
    return (PAGE / name).read_text()
