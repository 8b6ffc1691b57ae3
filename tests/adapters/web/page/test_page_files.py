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


def test_every_text_is_in_one_file_and_each_of_them_is_used() -> None:
    texts = set(re.findall(r'^  "([^"]+)":', _read("texts.js"), re.MULTILINE))
    used = set(re.findall(r'data-say(?:-\w+)?="([^"]+)"', _read("index.html")))
    stems = set()  # of keys that a number or a state completes
    for path in PAGE.glob("*.js"):
        source = path.read_text()
        # Also where one of two is chosen, or where a function is given the key.
        used |= {
            each for each in re.findall(r'"([\w.]+)"', source) if path.name != "texts.js"
        } & texts
        stems |= set(re.findall(r'sayCount\("([\w.]+)"', source))
        stems |= {each.rstrip(".") for each in re.findall(r"say(?:Or)?\(`([\w.]+)\$", source)}
        named = set(re.findall(r'\bsay\("([^"]+)"', source))
        assert named <= texts, path.name
    for stem in stems:
        assert any(each.startswith(f"{stem}.") for each in texts), stem
    used |= {each for each in texts if any(each.startswith(f"{stem}.") for stem in stems)}
    assert texts - used == set()
    assert used - texts == set()


def test_no_text_stands_in_index_html_or_beside_the_table_of_texts() -> None:
    html = re.sub(
        r"<head>.*</head>|<noscript>.*</noscript>|<!--.*?-->",
        "",
        _read("index.html"),
        flags=re.DOTALL,
    )
    words = re.findall(r">([^<>]*\w[^<>]*)<", html)
    # A name, and a command to paste.
    assert set(words) == {"comfy2mqtt", "comfy2mqtt keys add NAME"}
    for path in PAGE.glob("*.js"):
        if path.name in ("texts.js", "client.js", "code_writers.js", "code_samples.js"):
            continue
        code = re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(), flags=re.DOTALL)
        sentences = re.findall(r'"([A-Z][a-z]+ [a-z][^"]*)"', code)
        assert sentences == [], path.name


def _imports() -> dict[str, set[str]]:
    """The modules that each module of the page imports."""
    return {path.name: set(IMPORTED.findall(path.read_text())) for path in PAGE.glob("*.js")}


def _read(name: str) -> str:
    return (PAGE / name).read_text()
