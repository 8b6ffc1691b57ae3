"""Reads the settings: from the file, over it the environment, over that flags."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import msgspec

from bridge import resources
from bridge.config.settings import (
    FILE,
    HIGHEST_PORT,
    PREFIX,
    TABLES,
    TYPES,
    Config,
    Listen,
    host_and_port,
)
from bridge.config.sources import ConfigError, SettingSources
from bridge.config.values import LARGEST, allowed, faults, place_of, shown, types_of
from bridge.text import as_utf8, did_you_mean, in_quotes

# Environment variables under our prefix that are no settings of the bridge.
_NOT_OURS = ("COMFY2MQTT_TEST_", "COMFY2MQTT_SECRET", "COMFY2MQTT_CLIENT", "COMFY2MQTT_CONFIG")
# Seconds, and times in a second: not every clock, timer and message takes more. A message's expiry
# has 32 bits.
ENDLESS = 4e9
_ENCODINGS = "expected text in UTF-8, or in UTF-16 with its byte order mark"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Read the settings from the file, the environment and flags.

    `flags` are by setting name, those not given are None. `file` defaults to comfy2mqtt.toml in
    the working folder, if there is one. Raises ConfigError.
    """
    environment = os.environ if environment is None else environment
    name = str(file or FILE)
    text = _text_of(file)
    values: dict[str, Any] = {}
    elsewhere: dict[str, str] = {}
    given = (*_in_file(name, text), *_in_environment(environment), *_in_flags(flags or {}))
    for key, value, where in given:
        if where is not None:
            elsewhere[key] = where
        try:
            values[key] = _read(key, value)
        except ConfigError as error:
            raise ConfigError(SettingSources(name, text, elsewhere).explain(error)) from None
    if "workflows" not in values and not Config().workflows.is_dir():
        values["workflows"] = resources.folder("workflows")
    return Config(**values, sources=SettingSources(name, text, elsewhere))


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Environment variables under our prefix that mean nothing: most likely misspelt."""
    return sorted(
        variable
        for variable in environment
        if variable.startswith(PREFIX)
        and not variable.startswith(_NOT_OURS)
        and variable.removeprefix(PREFIX).lower() not in TYPES
    )


def variable(setting: str) -> str:
    """Return the name of a setting's environment variable."""
    return f"{PREFIX}{setting.upper()}"


def flag(setting: str) -> str:
    """Return a setting's flag."""
    return f"--{setting.replace('_', '-')}"


def meant(misspelt: str) -> str:
    """Return `; did you mean 'COMFY2MQTT_X'?` for a misspelt variable, if a setting is like it."""
    return did_you_mean(misspelt, map(variable, TYPES))


# A setting as it was given: its name, its value, and the variable or flag that it was given by.
_Given = tuple[str, Any, str | None]


def _in_file(name: str, text: str) -> Iterator[_Given]:
    for key, value in _parsed(name, text).items():
        if key not in TYPES:
            problem = f"no such setting{_hint(key, value)}"
            error = ConfigError(
                f"{problem} (docs/settings.md and `comfy2mqtt serve --help` list all)", key
            )
            raise ConfigError(SettingSources(name, text).explain(error))
        yield key, value, None


def _hint(key: str, value: Any) -> str:
    """Return what an unknown key was most likely meant to be."""
    joined = [f"{key}_{each}" for each in value] if isinstance(value, dict) else []
    found = next((each for each in joined if each in TYPES), None)
    if found is not None:
        return f"; write {found} = ... above the first table"
    return did_you_mean(key, TYPES)


def _in_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    for name, text in environment.items():
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and key in TYPES:
            yield key, text, name


def _in_flags(flags: Mapping[str, Any]) -> Iterator[_Given]:
    for key, value in flags.items():
        if value is not None:
            yield key, value, flag(key)


def _text_of(file: Path | None) -> str:
    path = file or Path(FILE)
    try:
        return as_utf8(path.read_bytes()).decode()
    except FileNotFoundError:
        if file is None:
            return ""
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: {_ENCODINGS}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # no path can be this
        raise ConfigError(f"{in_quotes(str(path))}: cannot be read: {error}") from None


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # also of numbers with thousands of digits
        if "\0" in text:
            raise ConfigError(f"{name}: {_ENCODINGS}") from None
        hint = "; is it a text without quotes?" if "Invalid value" in str(error) else ""
        raise ConfigError(f"{name}: not valid TOML: {error}{hint}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid TOML: nested too deeply") from None


# -- values ----------------------------------------------------------------------------------------


def _read(key: str, value: Any) -> Any:
    """Return a setting's value from what the file, a variable or a flag gives."""
    if isinstance(value, str):
        value = value.strip("\r\n")  # of a secret's file, an editor of Windows, a block of YAML
    if key == "comfyui_args" and isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ConfigError(f"{in_quotes(value)}: {error}", key) from None
    if TYPES[key] == tuple[str, ...] and isinstance(value, str):
        value = [each.strip() for each in value.split(",") if each.strip()]
    if key in TABLES:
        return _tables(key, value)
    found = _converted(value, TYPES[key], key)
    if TYPES[key] == Listen | None and host_and_port(found)[1] > HIGHEST_PORT:
        raise ConfigError(f"{in_quotes(value)}: expected a port up to {HIGHEST_PORT}", key)
    return found


def _tables(key: str, value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ConfigError(f"expected JSON: {error}", key) from None
        except RecursionError:
            raise ConfigError("expected JSON: nested too deeply", key) from None
    kind = TABLES[key]
    if key == "clients":
        if not isinstance(value, dict):
            raise ConfigError("expected a table [clients.NAME] for each client", key)
        tables = {name: _table(kind, each, key, name) for name, each in value.items()}
        return _converted(tables, TYPES[key], key)
    if not isinstance(value, list):
        also = ", with its name in it" if "name" in kind.__struct_fields__ else ""
        raise ConfigError(f"expected a list of tables: begin each with [[{key}]]{also}", key)
    return tuple(_table(kind, each, key, _label(each, number)) for number, each in enumerate(value))


def _label(table: Any, number: int) -> str | int:
    """Return what a table of a list is called in an error."""
    name = table.get("name") if isinstance(table, dict) else None
    if isinstance(name, str) and _NAME.fullmatch(name) is not None:
        return name
    return number


def _table(kind: type[msgspec.Struct], value: Any, *place: str | int) -> Any:
    if not isinstance(value, dict):
        raise ConfigError("expected a table", *place)
    for name in value:
        if name not in kind.__struct_fields__:
            raise ConfigError(f"no such field{_meant_by(name, kind)}", *place, name)
    return _converted(value, kind, *place)


def _meant_by(name: str, kind: type[msgspec.Struct]) -> str:
    """Return what a field that a table does not have was most likely meant to be."""
    if name in TYPES:
        return f"; the setting {name} has to be above the first table"
    return did_you_mean(name, kind.__struct_fields__)


def _converted(value: Any, kind: Any, *place: str | int) -> Any:
    """Return a value as its setting has it. Raises ConfigError with its place."""
    value = _with_an_end(value, kind)
    _refuse_faults(value, place)
    try:
        # Strings stand for numbers in the environment and in flags.
        found = msgspec.convert(value, kind, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        inner = place_of(str(error))
        problem = allowed(kind, inner, str(place[0]), str(error))
        raise ConfigError(f"{shown(place, inner, value)}{problem}", *place, *inner) from None
    except (OverflowError, RecursionError):
        raise ConfigError(
            f"expected numbers up to {LARGEST:,}, and no deep nesting", *place
        ) from None
    _refuse_faults(msgspec.to_builtins(found, enc_hook=str), place)
    return found


def _with_an_end(value: Any, kind: Any) -> Any:
    """Return a value, and a table of values, in which longer times and rates are the largest."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        kinds = types_of(kind, include_extras=True)
        return {name: _with_an_end(each, kinds.get(name)) for name, each in value.items()}
    if float in get_args(kind) or any(float in get_args(each) for each in get_args(kind)):
        with suppress(ValueError, TypeError, OverflowError):
            return ENDLESS if float(value) > ENDLESS else value
    return value


def _refuse_faults(value: Any, place: tuple[str | int, ...]) -> None:
    for inner, problem in faults(value, is_table=place[0] in TABLES):
        raise ConfigError(f"{shown(place, inner, value)}{problem}", *place, *inner)


def _path(kind: type, value: Any) -> Any:
    if isinstance(value, str) and "://" in value:
        raise msgspec.ValidationError("Expected a path, not a URL")
    if kind is Path and isinstance(value, str) and value:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # nobody of that name
            raise msgspec.ValidationError(str(error)) from None
    raise msgspec.ValidationError("Expected a path")
