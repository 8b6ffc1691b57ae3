"""Whatever a setting is given: it is taken, or refused in one line that says where it is.

The settings, tables and fields are read from their definitions, so that a new one is tried too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from click.testing import CliRunner
from msgspec import Struct

from bridge import config
from bridge.cli import serve
from bridge.cli.main import main
from bridge.config import TYPES, ConfigError
from bridge.config.loading import flag
from bridge.config.tables import (
    Call,
    ClientRights,
    ComfyUI,
    Display,
    Hook,
    Sink,
    SinkFolder,
    Trigger,
)
from bridge.config.values import types_of
from bridge.service import instances
from bridge.service.checks import check_start

# It stands where a password does, and is in no message.
HIDDEN = "hunter2"
NUMBERS = ("0", "1e400", "nan", "inf", "1_000", "0x10", "9" * 30, "9" * 5000, "true", "null")
TEXTS = (
    *("", " ", "\0", "\n", "a\nb", "\x1b[31m", "\ud800", "é", "☃", "x" * 300, "x" * 5_000),
    *("mqtt://host:port:1", "mqtt://[::1", "mqtt://h:99999", "mqtt://h:0", "mqtt://", "mqtt://:1"),
    *("mqtt://a..b", "mqtt://a b", "mqtt://h\n", "mqtt://h/path", f"mqtt://u:{HIDDEN}@h:x"),
    *(f"mqtt://u:{HIDDEN}", f"mqtt://u:{HIDDEN}@", f"mqtt://u:{HIDDEN}/x@h", "mqtt://%ff@h"),
    *("http://[::1", "http://h:99999", "http://h:x", "http://", "http://:80", "http://a..b"),
    *(f"http://u:{HIDDEN}@[::1", f"http://u:{HIDDEN}@h:x/", "http://h\\@i", "http://h/\0"),
    *("https://h:0", "file:///etc/passwd", "://", "//", "h:x", "[::1", "::", ":", "-1", "--x"),
    *(f"postgresql://u:{HIDDEN}@h:x/d", "postgresql://[::1/d", "postgresql://h:1,i:x/d"),
    *("postgres://", "postgresql://h:99999/", "s3://", "s3://b", "s3://b c/d", "folder:", "mqtt:"),
    *("/", "/etc/passwd", "/etc/passwd/x", "/dev/null", "/nowhere/x", "~nobody-of-this-name/x"),
    *NUMBERS,
    *("'", '"', "a b 'c", "[", "{}", "[]", '[{"name": 1}]', "[[]]", "[" * 5000, '{"a": {"b": 1}}'),
    *("+", "#", "a/#", "$SYS/x", "../x", "{x}", "{", "abs(", "*", "?"),
)
OTHERS: tuple[Any, ...] = (
    *(True, 0, -1, 2**63, 10**30, 0.5, -0.5, 1e300, float("inf"), float("nan")),
    *([], [""], ["a", 1], [["a"]], ["\0"], {}, {"a": 1}, {"a": {"b": {}}}, [{}], [{"name": "a"}]),
)
# What an error must not show: Python's own words, and more than a line.
INTERNALS = re.compile(r"Traceback|msgspec|\[Errno|<[a-z]+ object|urllib|`")
LONGEST = 600

TABLES: Mapping[str, tuple[type[Struct], dict[str, Any]]] = {
    "clients": (ClientRights, {}),
    "comfyui": (ComfyUI, {"name": "a"}),
    "display": (Display, {"name": "a"}),
    "hook": (Hook, {"name": "a", "preset": "ollama", "url": "http://h:1"}),
    "sink": (Sink, {"put": "http://h/"}),
    "sink_folder": (SinkFolder, {"name": "a", "path": "."}),
    "trigger": (Trigger, {"name": "a", "topic": "t", "workflow": "demo"}),
}
FIELDS = [(table, field) for table, (kind, _) in TABLES.items() for field in kind.__struct_fields__]
# For a field that has no text: those that may be read as a number, passwords, and a few others.
NOT_FOR_TEXT = (*TEXTS[::10], *NUMBERS, *(each for each in TEXTS if HIDDEN in each))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the machine's own settings, folders and ports alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    (tmp_path / "workflows").mkdir()


def refused(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> str | None:
    """Return why a bridge does not start; None if it would."""
    try:
        found = config.load(flags, environment or {}, file)
        found.secrets  # noqa: B018 - the log leaves them out before anything else is done
        try:
            config.check(found)
            check_start(found)
        except ConfigError as error:
            return found.sources.explain(error)
    except ConfigError as error:
        return str(error)
    return None


def look_at(told: str | None, where: str) -> None:
    if told is None:
        return
    assert told.startswith(where), told[:999]
    assert told.isprintable(), told[:999]
    assert len(told) < LONGEST, told[:999]
    assert HIDDEN not in told
    assert INTERNALS.search(told) is None, told


@pytest.mark.parametrize("name", TYPES)
def test_a_variable_and_a_flag_are_taken_or_refused_by_name(name: str) -> None:
    for text in TEXTS:
        look_at(refused(environment={config.variable(name): text}), config.variable(name))
    for text in TEXTS[::10]:
        look_at(refused(flags={name: text}), flag(name))


@pytest.mark.parametrize("name", TYPES)
def test_a_line_of_the_file_is_taken_or_refused_by_its_number(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    for value in (*filter(_is_text, TEXTS[::10]), *OTHERS):
        file.write_text(f"\n\n{name} = {_toml(value)}\n", encoding="utf-8")
        look_at(refused(file), f"{file}, line 3: {name}")


@pytest.mark.parametrize(("table", "field"), FIELDS)
def test_a_field_of_a_table_is_taken_or_refused_by_its_place(
    table: str, field: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    kind, rest = TABLES[table]
    texts = TEXTS if _may_be_text(types_of(kind)[field]) else NOT_FOR_TEXT
    header = "[clients.a]" if table == "clients" else f"[[{table}]]"
    place = f"{table}[0]" if table == "sink" else f"{table}.a"
    for value in (*filter(_is_text, texts), *OTHERS):
        lines = [f"{name} = {_toml(each)}" for name, each in {**rest, field: value}.items()]
        file.write_text("\n".join([header, *lines, ""]), encoding="utf-8")
        told = refused(file)
        look_at(told, f"{file}, line ")
        if field != "name":
            assert told is None or place in told or f"{table}." in told, told


@pytest.mark.parametrize("field", Call.__struct_fields__)
def test_a_field_of_a_hooks_call_is_taken_or_refused_by_its_place(
    field: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.toml"
    for value in (*filter(_is_text, TEXTS), *OTHERS):
        call = _toml({"topic": "t", field: value})
        file.write_text(f'[[hook]]\nname = "a"\nbefore_busy = {call}\n', encoding="utf-8")
        look_at(refused(file), f"{file}, line 3: hook.a.before_busy")


def test_every_table_is_among_those_that_are_tried() -> None:
    assert set(TABLES) == set(config.TABLES)


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """`comfy2mqtt serve` up to where a ComfyUI would be installed."""

    async def none(*_: object) -> None:
        return None

    monkeypatch.setattr(instances, "configs", none)
    # These change the whole process.
    for name in ("_force_exit_soon", "give_back_large_blocks"):
        monkeypatch.setattr(serve, name, lambda: None)
    monkeypatch.setattr("bridge.logs.set_up", lambda *_: None)
    monkeypatch.setattr("bridge.private.from_now_on", lambda: None)
    return CliRunner()


@pytest.mark.parametrize("name", TYPES)
def test_serve_ends_with_one_line_and_the_status_of_wrong_settings(
    name: str, serving: CliRunner
) -> None:
    for text in ("a\nb", "mqtt://host:port:1", "/etc/passwd/x", "-1"):
        ran = serving.invoke(main, ["serve"], env={config.variable(name): text})
        assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
        if ran.exit_code:
            assert ran.exit_code == 2, ran.stderr
            (line,) = ran.stderr.splitlines()
            assert line.startswith(f"comfy2mqtt: {config.variable(name)}: "), line


def _may_be_text(kind: Any) -> bool:
    """Return whether a type has texts of which not each is one of a few."""
    if get_origin(kind) is Literal:
        return False
    parts = get_args(kind)
    return any(map(_may_be_text, parts)) if parts else kind not in (bool, int, float, type(None))


def _is_text(value: str) -> bool:
    """Return whether a TOML file can hold a text."""
    return not any("\ud800" <= each <= "\udfff" for each in value)


def _toml(value: Any) -> str:
    """Return a value as it is written within a line of TOML."""
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return str(value).lower()
        case dict():
            return (
                f"{{{', '.join(f'{_toml(name)} = {_toml(each)}' for name, each in value.items())}}}"
            )
        case list():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return repr(value)
