"""Files that were uploaded for jobs stay for as long as a job needs them, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from bridge.comfyui.errors import ComfyUIUnreachable, NotFound
from bridge.jobs import input_files
from bridge.jobs.input_files import InputFiles
from bridge.jobs.queue import Key

PHOTO, MASK = "a" * 64 + ".png", "b" * 64 + ".png"
ALICE, BOB = Key("alice", "j1"), Key("bob", "j1")


class Place:
    """A ComfyUI that notes what it is asked; `fault` is raised instead, `until` waited for."""

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.asked: asyncio.Queue[Any] = asyncio.Queue()
        self.fault: Exception | None = None
        self.until = asyncio.Event()
        self.until.set()

    @property
    def client(self) -> Any:
        return self

    async def remove_uploads(self, names: Collection[str]) -> None:
        await self._asked(set(names))

    async def sweep_uploads(self, older_than_s: float, keep: Collection[str]) -> None:
        await self._asked((older_than_s, set(keep)))

    async def _asked(self, what: Any) -> None:
        await self.asked.put(what)
        await self.until.wait()
        if self.fault is not None:
            raise self.fault


@asynccontextmanager
async def running(*places: Place) -> AsyncIterator[InputFiles]:
    files = InputFiles(cast("Any", places), 60.0)
    task = asyncio.create_task(files.run())
    try:
        for place in places:
            assert await place.asked.get() == (60.0, set())  # what bridges before it left
        yield files
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_file_goes_when_the_last_job_that_needs_it_has_ended() -> None:
    place = Place()
    async with running(place) as files:
        await files.take(ALICE, {PHOTO, MASK}, "main")
        await files.take(BOB, {PHOTO}, "main")
        files.release(ALICE)
        assert await place.asked.get() == {MASK}
        files.release(BOB)
        assert await place.asked.get() == {PHOTO}


async def test_it_goes_from_every_comfyui_that_the_job_was_at() -> None:
    first, second = Place("first"), Place("second")
    async with running(first, second) as files:
        await files.take(ALICE, {PHOTO}, "first")
        await files.take(ALICE, {PHOTO}, "second")
        files.release(ALICE)
        assert await first.asked.get() == await second.asked.get() == {PHOTO}


async def test_forgetting_a_job_removes_its_files_unless_another_needs_them() -> None:
    place = Place()
    async with running(place) as files:
        await files.take(BOB, {MASK}, "main")
        files.unneeded({PHOTO, MASK})
        assert await place.asked.get() == {PHOTO}


async def test_a_job_does_not_upload_what_is_just_being_removed() -> None:
    place = Place()
    async with running(place) as files:
        place.until.clear()
        files.unneeded({PHOTO})
        await place.asked.get()
        taking = asyncio.create_task(files.take(ALICE, {PHOTO}, "main"))
        await files.take(BOB, {MASK}, "main")
        assert not taking.done()
        place.until.set()
        await taking


@pytest.mark.parametrize("fault", [ComfyUIUnreachable("away", sent=False), TimeoutError()])
async def test_what_could_not_be_removed_is_removed_later(
    fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_files, "RETRY_S", 0.0)
    place = Place()
    async with running(place) as files:
        place.fault = fault
        files.unneeded({PHOTO})
        assert await place.asked.get() == {PHOTO}
        assert await place.asked.get() == {PHOTO}
        await files.take(ALICE, {PHOTO}, "main")  # needed again meanwhile
        place.fault = None
        files.unneeded({MASK})
        while (asked := await place.asked.get()) != {MASK}:
            assert asked == {PHOTO}
        files.release(ALICE)
        assert await place.asked.get() == {PHOTO}


async def test_without_our_nodes_nothing_is_asked_again() -> None:
    place = Place()
    async with running(place) as files:
        place.fault = NotFound("POST", status=404)
        files.unneeded({PHOTO})
        assert await place.asked.get() == {PHOTO}
        files.unneeded({MASK})
        assert await place.asked.get() == {MASK}


async def test_what_waits_for_a_comfyui_that_is_away_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(input_files, "MOST", 3)
    files = InputFiles(cast("Any", [place := Place()]), 60.0)
    for number in range(10):
        files.unneeded({f"{number:064}.png"})
    await files.finish()
    assert await place.asked.get() == {f"{number:064}.png" for number in (7, 8, 9)}
