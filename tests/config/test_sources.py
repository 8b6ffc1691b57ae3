"""An error of a setting says where it was given."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from bridge.config.sources import ConfigError, SettingSources
from bridge.toml import line_of, written

TEXT = '''# settings
name = "a"

model_hosts = [
    "a.example",  # name = "b"
]
comfyui_warm = """
max_queue = 1
"""
max_queue = 2

[clients."*"]
max_queue = 3
[clients.kitchen]
inline = true

[[display]]
name = "hall"
width = 1
[[display]]
name = "kitchen"

width = 2
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("name",), 2),
        (("model_hosts",), 4),
        (("comfyui_warm",), 7),
        (("max_queue",), 10),
        (("clients", "*", "max_queue"), 13),
        (("clients", "kitchen", "inline"), 15),
        # What is not there is missing from its table.
        (("clients", "kitchen", "max_queue"), 14),
        (("display", "hall", "width"), 19),
        (("display", 1, "width"), 23),
        (("display", "kitchen", "height"), 21),
        (("mqtt_url",), None),
    ],
)
def test_a_value_is_found_by_the_line_that_it_begins_on(
    place: tuple[str | int, ...], line: int | None
) -> None:
    assert line_of(TEXT, place) == line
    assert line_of(TEXT.replace("\n", "\r\n"), place) == line


@pytest.mark.parametrize(
    "value",
    [
        '"[ \\" {"',
        "'[ \" \\'",
        "[\n  '[', # ]\n  [1],\n]",
        '[{ a = "]" },\n  { b = [\n1] }]  # {',
        '"""\nb = 1\n[c]\n"" \\"""["""""',
        "'''\n\"\"\"[\n'''''",
        '""""""',
        "''",
    ],
)
def test_a_value_is_found_after_one_that_looks_like_others(value: str) -> None:
    text = f"a = {value}\nb = 1"
    assert line_of(text, ("b",)) == value.count("\n") + 2


def test_a_value_of_many_lines_is_not_read_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        read.append(len(text))
        return loads(text)

    monkeypatch.setattr(tomllib, "loads", counted)
    files = "".join(f'  "lora [{number}].safetensors",\n' for number in range(1000))
    assert line_of(f"choices = [\n{files}]\nwrong = 1\n", ("wrong",)) == 1003
    assert len(read) < 10


@pytest.mark.parametrize(
    "value",
    [
        "",
        'a "text" of\ntwo lines\x7f\\',
        True,
        -3,
        0.5,
        1e300,
        ["a", 1, []],
        {"a b": {"c": [1.5]}, "d": {}, "é": "é"},
    ],
)
def test_a_value_is_written_as_it_is_read(value: Any) -> None:
    assert tomllib.loads(f"x = {written(value)}") == {"x": value}


def test_an_error_names_its_line_its_variable_or_its_flag() -> None:
    sources = SettingSources("my.toml", TEXT, {"member": "--member", "hook": "COMFY2MQTT_HOOK"})
    assert sources.explain(ConfigError("wrong", "name")) == "my.toml, line 2: name: wrong"
    assert sources.explain(ConfigError("wrong", "member")) == "--member: wrong"
    told = sources.explain(ConfigError("wrong", "hook", "a", "url"))
    assert told == "COMFY2MQTT_HOOK: hook.a.url: wrong"
    told = sources.explain(ConfigError("wrong", "display", "kitchen", "width"))
    assert told == "my.toml, line 23: display.kitchen.width: wrong"
    # By default, or about no setting.
    assert sources.explain(ConfigError("wrong", "data")) == "data: wrong"
    assert sources.explain(ConfigError("both are given")) == "both are given"
