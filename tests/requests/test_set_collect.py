"""The outputs of sets, from those of their jobs: contact sheets, animations and zips."""

from __future__ import annotations

import asyncio
import errno
import io
import tempfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.contract import sets
from bridge.jobs.database import DatabaseError
from bridge.jobs.queue import Key
from bridge.jobs.sets import collect
from tests.media.images import opened
from tests.requests.collecting import Gave, ended, fetched, image, run
from tests.requests.stand import Stand, standing
from tests.requests.test_sets import asked, driving, jobs, made, restarted, result


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(tmp_path) as stand, driving(stand):
        yield stand


async def test_a_sheet_shows_the_grid_as_it_is_with_what_varies(stand: Stand) -> None:
    colours = ["red", "lime", "blue", "yellow"]
    found = await run(
        stand,
        [image(colour) for colour in colours],
        grid={"prompt": ["a", "b"], "seed": [1, 2]},
        collect=["sheet"],
    )
    assert found.state == "succeeded"
    (info,) = found.outputs or []
    assert (info.name, info.kind, info.content_type) == ("sheet", "image", "image/jpeg")
    assert info.filename == "s1-sheet.jpeg"
    assert info.topic == "set/s1/output/0"
    data = await fetched(stand, info)
    assert stand.notes.outputs[0][1] == data
    sheet = opened(data).convert("RGB")
    assert sheet.size == (info.width, info.height)
    width, height = sheet.width // 2, sheet.height // 2
    seen = [sheet.getpixel((x * width + 132, y * height + 64)) for y in (0, 1) for x in (0, 1)]
    for colour, pixel in zip(
        ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)), seen, strict=True
    ):
        assert isinstance(pixel, tuple)
        assert all(abs(one - other) < 40 for one, other in zip(colour, pixel, strict=True))
    # What varies is written below each.
    label = sheet.crop((0, 132, width, height)).convert("L")
    assert label.histogram()[:60] != [0] * 60


async def test_an_animation_shows_one_image_after_another(stand: Stand) -> None:
    found = await run(
        stand,
        [image("red"), image("blue", (100, 160)), image("lime")],
        repeat=3,
        collect=["animation"],
    )
    (info,) = found.outputs or []
    assert (info.name, info.content_type) == ("animation", "image/webp")
    moving = opened(await fetched(stand, info))
    assert (moving.size, getattr(moving, "n_frames", 1)) == ((320, 160), 3)


async def test_a_zip_has_all_outputs_under_their_own_names_and_is_only_fetched(
    stand: Stand,
) -> None:
    gave = [*image("red"), ("../evil.txt", "text/plain", b"x"), ("../evil.txt", "text/plain", b"y")]
    found = await run(stand, [gave, image("blue")], repeat=2, collect=["zip"])
    (info,) = found.outputs or []
    assert (info.name, info.content_type, info.filename) == ("zip", "application/zip", "s1.zip")
    assert info.topic is msgspec.UNSET
    assert stand.notes.outputs == []
    with zipfile.ZipFile(io.BytesIO(await fetched(stand, info))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "0-a red_00001_.png",
            "0-.._evil.txt",
            "0-2-.._evil.txt",
            "1-a blue_00001_.png",
        ]
        assert archive.read("0-a red_00001_.png") == gave[0][2]
        assert archive.read("0-2-.._evil.txt") == b"y"


async def test_no_two_outputs_have_one_name_in_a_zip(stand: Stand) -> None:
    names = ["x", "2-x", "x", "2-2-x", "y" * 200, "z" + "y" * 199]
    gave = [(name, "text/plain", name.encode()) for name in names]
    found = await run(stand, [gave], repeat=1, collect=["zip"])
    (info,) = found.outputs or []
    with zipfile.ZipFile(io.BytesIO(await fetched(stand, info))) as archive:
        inside = [archive.read(name).decode() for name in dict.fromkeys(archive.namelist())]
    assert inside == names


async def test_what_is_no_image_is_left_out_and_named(stand: Stand) -> None:
    video: Gave = [("v.mp4", "video/mp4", b"v")]
    broken: Gave = [("b.png", "image/png", b"\x89PNG broken")]
    found = await run(stand, [image("red"), video, broken], repeat=3, collect=["sheet"])
    assert [each.name for each in found.outputs or []] == ["sheet"]
    (left_out,) = found.missing or []
    assert (left_out.name, left_out.error.code) == ("sheet", "execution_error")
    assert left_out.error.details["jobs"] == ["s1-1", "s1-2"]


async def test_a_set_without_an_image_has_ended_all_the_same(stand: Stand) -> None:
    found = await run(
        stand, [[("v.mp4", "video/mp4", b"v")]], repeat=1, collect=["sheet", "animation", "zip"]
    )
    assert found.state == "succeeded"
    assert [each.name for each in found.outputs or []] == ["zip"]
    assert [each.name for each in found.missing or []] == ["sheet", "animation"]
    assert [each.index for each in found.outputs or []] == [0]


async def test_a_zip_of_too_many_bytes_is_not_made(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MAX_ZIP_BYTES", 100)
    found = await run(stand, [image("red")], repeat=1, collect=["zip"])
    (missing,) = found.missing or []
    assert (missing.error.code, missing.error.details["limit"]) == ("too_large", 100)
    assert found.outputs is msgspec.UNSET


async def test_more_images_than_a_sheet_takes_are_refused_at_once(stand: Stand) -> None:
    over = sets.MAX_PICTURES + 1
    for what in ("sheet", "animation"):
        error = await stand.error("submit", workflow="simple", repeat=over, collect=["zip", what])
        assert (error.code, error.details["field"]) == ("too_large", "collect")
        assert (error.details["size"], error.details["limit"]) == (over, sets.MAX_PICTURES)
    await asked(stand, repeat=over, collect=["zip"])


async def test_what_cannot_be_collected_is_refused_at_once(stand: Stand) -> None:
    for fields in (
        {"collect": ["sheet"]},
        {"repeat": 2, "collect": []},
        {"repeat": 2, "collect": ["film"]},
        {"repeat": 2, "collect": "sheet"},
        {"repeat": 2, "collect": ["sheet"], "output": {"deliver": "none"}},
    ):
        error = await stand.error("submit", workflow="simple", **fields)
        assert (error.code, error.details["field"].split("[")[0]) == ("bad_request", "collect")


async def test_another_collection_is_another_set(stand: Stand) -> None:
    await asked(stand, repeat=2, set_id="s1", collect=["zip"])
    assert (await asked(stand, repeat=2, set_id="s1", collect=["zip"]))["duplicate"]
    error = await stand.error("submit", workflow="simple", repeat=2, set_id="s1")
    assert error.code == "conflict"


async def test_a_sheet_has_the_form_that_the_images_were_to_have(stand: Stand) -> None:
    found = await run(
        stand,
        [image("red"), image("blue")],
        repeat=2,
        collect=["sheet"],
        output={"format": "png", "max_width": 200, "deliver": "fetch"},
    )
    (info,) = found.outputs or []
    assert (info.content_type, info.width, info.filename) == ("image/png", 200, "s1-sheet.png")
    assert info.topic is msgspec.UNSET
    assert opened(await fetched(stand, info)).width == 200


async def test_of_a_set_that_failed_in_part_the_rest_is_collected(stand: Stand) -> None:
    await asked(stand, repeat=2, set_id="s1", collect=["sheet", "zip"])
    await made(stand, "s1", 2)
    await ended(stand, "s1", 0, image("red"))
    await ended(stand, "s1", 1, state="failed")
    found = await result(stand)
    assert found.state == "failed"
    assert [each.name for each in found.outputs or []] == ["sheet", "zip"]
    assert found.missing is msgspec.UNSET  # the job's own state says it


async def test_a_cancelled_set_collects_nothing(stand: Stand) -> None:
    await asked(stand, repeat=2, set_id="s1", collect=["sheet"])
    await made(stand, "s1", 2)
    await ended(stand, "s1", 0, image("red"))
    await stand.data("cancel", set_id="s1")
    found = await result(stand)
    assert (found.state, found.outputs) == ("cancelled", msgspec.UNSET)


async def test_a_set_that_is_cancelled_while_it_collects_ends_at_once(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def never(*_: object) -> Any:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stand.transcoder, "transcode", never)
    await asked(stand, repeat=1, set_id="s1", collect=["sheet"])
    await made(stand, "s1", 1)
    await ended(stand, "s1", 0, image("red"))
    await began.wait()
    assert stand.notes.results == []
    await stand.data("cancel", set_id="s1")
    found = await result(stand)
    assert (found.state, found.outputs) == ("succeeded", msgspec.UNSET)


async def test_a_set_that_collects_holds_up_no_other(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def never(*_: object) -> Any:
        began.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(stand.transcoder, "transcode", never)
    await asked(stand, repeat=1, set_id="s1", collect=["sheet"])
    await made(stand, "s1", 1)
    await ended(stand, "s1", 0, image("red"))
    await began.wait()
    await asked(stand, repeat=1, set_id="s2")
    await made(stand, "s2", 1)
    await ended(stand, "s2", 0)
    assert (await result(stand)).set_id == "s2"


async def test_a_bridge_that_dies_while_it_collects_does_so_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = asyncio.Event()

    async def never(*_: object) -> Any:
        began.set()
        await asyncio.Event().wait()

    async with standing(tmp_path) as stand:
        with monkeypatch.context() as patched:
            patched.setattr(stand.transcoder, "compose", never)
            async with driving(stand):
                await asked(stand, repeat=1, set_id="s1", collect=["sheet", "zip"])
                await made(stand, "s1", 1)
                await ended(stand, "s1", 0, image("red"))
                await began.wait()
        assert stand.notes.results == []
        with restarted(stand):
            async with driving(stand):
                found = await result(stand)
        assert [each.name for each in found.outputs or []] == ["sheet", "zip"]


async def test_a_database_that_is_away_costs_a_collection_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.jobs.sets.driver.RETRY_S", 0.0)
    outputs, asked_for = stand.journal.sets.outputs, []

    async def away(key: Key) -> Any:
        asked_for.append(key)
        if len(asked_for) == 1:
            raise DatabaseError("away")
        return await outputs(key)

    monkeypatch.setattr(stand.journal.sets, "outputs", away)
    found = await run(stand, [image("red")], repeat=1, collect=["sheet"])
    assert [each.name for each in found.outputs or []] == ["sheet"]
    assert len(asked_for) == 2


async def test_a_disk_without_room_is_waited_out(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, make, refused = stand.files.put, tempfile.TemporaryFile, set()

    def full_at_first(what: str) -> None:
        if what not in refused:
            refused.add(what)
            raise OSError(errno.ENOSPC, "No space left on device")

    def putting(sha256: str, data: bytes | memoryview) -> None:
        full_at_first("the store")
        put(sha256, data)

    def making(**options: Any) -> Any:
        full_at_first(str(options["dir"]))
        return make(**options)

    monkeypatch.setattr("bridge.retry.Backoff.next", lambda _: 0.0)
    monkeypatch.setattr("bridge.jobs.finalizer.INLINE_LIMIT", 0)
    monkeypatch.setattr(stand.files, "put", putting)
    monkeypatch.setattr(tempfile, "TemporaryFile", making)
    found = await run(stand, [image("red")], repeat=1, collect=["zip"])
    assert [each.name for each in found.outputs or []] == ["zip"]
    assert refused == {"the store", str(tmp_path / "collecting")}


async def test_a_disk_that_fails_costs_a_set_what_it_would_collect_alone(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("bridge.jobs.finalizer.INLINE_LIMIT", 0)
    monkeypatch.setattr(stand.files, "put", broken)
    found = await run(stand, [image("red")], repeat=1, collect=["zip"])
    (missing,) = found.missing or []
    assert (found.state, missing.name) == ("succeeded", "zip")
    assert "Input/output error" in missing.error.message


async def test_what_a_crash_left_of_a_zip_is_deleted_at_the_start(
    stand: Stand, tmp_path: Path
) -> None:
    left = tmp_path / "collecting" / "tmp1"
    left.parent.mkdir()
    left.touch()
    await stand.driver.open()
    assert not left.exists()


async def test_jobs_that_gave_nothing_publish_nothing(stand: Stand) -> None:
    await run(stand, [[]], repeat=1)
    assert [each.job.state for each in await jobs(stand)] == ["succeeded"]
