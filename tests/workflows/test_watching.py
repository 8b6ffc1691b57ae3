"""The library notices that its folder has changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from watchfiles import watch

from bridge.workflows import library
from bridge.workflows.library import Changes, Library
from tests.support.patience import PATIENCE_S
from tests.workflows.graphs import NAMED, PLAIN
from tests.workflows.shelf import Shelf


async def test_changes_are_noticed_within_two_seconds(shelf: Shelf) -> None:
    shelf.put("demo.json", PLAIN)
    await shelf.library.open()
    async with aclosing(_changes(shelf.library)) as changes:
        first = asyncio.ensure_future(anext(changes))
        # The watch begins some time after it is asked for: put files until one is seen.
        number = 0
        while not first.done():
            number += 1
            shelf.put(f"new{number}.json", PLAIN)
            await asyncio.wait((first,), timeout=0.5)
        assert (await first).updated
        for file, content in (("demo.toml", 'title = "T"'), ("demo.json", NAMED)):
            shelf.put(file, content)
            async with asyncio.timeout(2):
                while "demo" not in [each.name for each in (await anext(changes)).updated]:
                    pass
        shelf.remove("demo.json")
        async with asyncio.timeout(2):
            while "demo" not in (await anext(changes)).gone:
                pass


async def _changes(library: Library) -> AsyncGenerator[Changes, None]:
    async for each in library.changes():
        yield each


async def test_a_folder_in_the_place_of_another_one_is_read_and_watched(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []

    def noted(*paths: Path, **options: Any) -> object:
        begun.append(paths)
        return watch(*paths, **options)

    monkeypatch.setattr(library, "watch", noted)
    monkeypatch.setattr(library, "_AGAIN_S", 0.2)
    shelf.put("demo.json", PLAIN)
    await shelf.library.open()
    async with aclosing(_changes(shelf.library)) as changes, asyncio.timeout(PATIENCE_S):
        await anext(changes)  # it is watched now
        shelf.folder.rename(tmp_path / "old")
        shelf.folder.mkdir()
        shelf.put("new.json", PLAIN)
        found = [await anext(changes)]
        while not found[-1].updated:
            found.append(await anext(changes))
        assert {name for each in found for name in each.gone} == {"demo"}
        assert [each.name for each in found[-1].updated] == ["new"]
        await anext(changes)
        await anext(changes)
    assert len(begun) == 2


async def test_what_kubernetes_puts_in_the_place_of_files_is_read(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "_AGAIN_S", 0.2)
    for version, content in (("one", PLAIN), ("two", NAMED)):
        (shelf.folder / f"..{version}").mkdir()
        (shelf.folder / f"..{version}" / "demo.json").write_text(json.dumps(content))
    (shelf.folder / "..data").symlink_to("..one")
    (shelf.folder / "demo.json").symlink_to("..data/demo.json")
    await shelf.library.open()
    before = shelf.library.get("demo").version
    async with aclosing(_changes(shelf.library)) as changes, asyncio.timeout(PATIENCE_S):
        await anext(changes)
        (shelf.folder / "..data_tmp").symlink_to("..two")
        (shelf.folder / "..data_tmp").rename(shelf.folder / "..data")
        while not (await anext(changes)).updated:
            pass
    assert shelf.library.get("demo").version != before


@pytest.mark.parametrize("refusal", [OSError("watch limit reached"), RuntimeError("too many")])
async def test_a_folder_that_cannot_be_watched_is_read_again_and_again(
    shelf: Shelf,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    refusal: Exception,
) -> None:
    def refuse() -> None:
        raise refusal

    monkeypatch.setattr(library, "watch", lambda *_, **__: iter(refuse, 0))
    monkeypatch.setattr(library, "_AGAIN_S", 0.0)
    await shelf.library.open()
    async with aclosing(_changes(shelf.library)) as changes:
        assert await anext(changes) == Changes([], [], [], [])
        shelf.put("new.json", PLAIN)
        assert [each.name for each in (await anext(changes)).updated] == ["new"]
    assert [str(refusal) in each.message for each in caplog.records] == [True]
