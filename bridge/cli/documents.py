"""Documents drawn from the code: the contract for other programs, the settings for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bridge.config import reference
from bridge.contract import asyncapi

DOCUMENT = "asyncapi.json"
PAGE = "messages.md"
SCHEMAS = "schemas"
SETTINGS = "settings.schema.json"
SETTINGS_PAGE = "settings-reference.md"


def print_document() -> None:
    """Print the AsyncAPI document."""
    click.echo(_json(asyncapi.document()), nl=False)


def write(folder: Path) -> None:
    """Write the document, the page and the schemas into a folder; schemas of no message go."""
    found = files()
    for old in (folder / SCHEMAS).glob("*.json"):
        if f"{SCHEMAS}/{old.name}" not in found:
            old.unlink()
    for name, text in found.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def stale(folder: Path) -> list[str]:
    """Return which of these in a folder differ from what would be written."""
    found = files()
    here = {f"{SCHEMAS}/{path.name}" for path in (folder / SCHEMAS).glob("*.json")}
    differ = [
        name
        for name, text in found.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    return sorted([*differ, *(here - found.keys())])


def files() -> dict[str, str]:
    """Return all of it: texts by their place below the folder."""
    schemas = {
        f"{SCHEMAS}/{name}.json": _json(schema) for name, schema in asyncapi.schemas().items()
    }
    return {
        DOCUMENT: _json(asyncapi.document()),
        PAGE: asyncapi.page(),
        SETTINGS: _json(reference.schema()),
        SETTINGS_PAGE: reference.page(),
        **schemas,
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
