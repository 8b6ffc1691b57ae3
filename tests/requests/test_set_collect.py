"""The outputs of sets, from those of their jobs: contact sheets, animations and zips."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import tempfile
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from PIL import Image

from bridge.config import ClientRights
from bridge.contract import links, sets
from bridge.contract.messages import OutputInfo, Shown, encode
from bridge.contract.numbering import Numbered
from bridge.contract.sets import SetResult
from bridge.contract.sinks import Delivered
from bridge.jobs.database import DatabaseError
from bridge.jobs.job import Job, KeptOutput, OutputSink
from bridge.jobs.journal.sets import NewSet
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.queue import Key
from bridge.jobs.sets import collect
from bridge.jobs.sets.collect import OutputRoutes
from bridge.jobs.sets.plan import SetSpec
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks
from bridge.service.public_urls import Links, PublicUrls
from bridge.sinks.delivery import Deliveries
from tests.media.images import encoded, opened
from tests.requests.stand import Stand, standing
from tests.requests.test_sets import asked, driving, jobs, made, restarted, result
from tests.sinks.servers import receiving
from tests.support.patience import PATIENCE_S

Gave = Sequence[tuple[str, str, bytes]]


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(tmp_path) as stand, driving(stand):
        yield stand


def image(colour: str, size: tuple[int, int] = (320, 160)) -> Gave:
    return [(f"a {colour}_00001_.png", "image/png", encoded(Image.new("RGB", size, colour)))]


async def ended(
    stand: Stand, set_id: str, index: int, gave: Gave = (), *, state: str = "succeeded"
) -> None:
    """End a job of a set that was made, with its outputs: file name, media type and bytes."""
    key = Key("alice", f"{set_id}-{index}")
    kept, infos = [], []
    for at, (name, content_type, data) in enumerate(gave):
        sha256 = hashlib.sha256(data).hexdigest()
        kept.append(
            KeptOutput(
                index=at, content_type=content_type, sha256=sha256, size=len(data), data=data
            )
        )
        infos.append(
            OutputInfo(
                index=at,
                name="out",
                kind="image",
                content_type=content_type,
                size=len(data),
                sha256=sha256,
                filename=name,
            )
        )
    await stand.journal.finish(
        key,
        state=state,  # type: ignore[arg-type]
        result=Numbered(b'{"outputs": %b, "n": ' % encode(infos), b"}"),
        now=2.0,
        outputs=kept,
        keep_until=9e9,
    )
    stand.dispatcher.ended_elsewhere(key)


async def run(stand: Stand, gave: Sequence[Gave], **fields: Any) -> SetResult:
    """Run a set whose jobs give that; return its result."""
    await asked(stand, set_id="s1", **fields)
    for index, each in enumerate(gave):
        await made(stand, "s1", min(len(gave), index + 2) if index else min(len(gave), 2))
        await ended(stand, "s1", index, each)
    return await result(stand)


async def fetched(stand: Stand, info: OutputInfo) -> bytes:
    data, offset = b"", 0
    while True:
        answer = await stand.ask("fetch", set_id="s1", output=info.index, offset=offset)
        assert answer.error is None
        assert answer.bytes is not None
        part = msgspec.to_builtins(answer.data)
        assert (part["set_id"], "job_id" in part) == ("s1", False)
        data += bytes(answer.bytes.data)
        if "next" not in part:
            assert hashlib.sha256(data).hexdigest() == info.sha256
            return data
        offset = part["next"]


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


async def test_what_was_collected_is_delivered_before_the_result(tmp_path: Path) -> None:
    rights = ClientRights(sink_hosts=("127.0.0.1",))
    async with (
        receiving() as receiver,
        standing(tmp_path, alice=rights) as stand,
        driving(stand),
    ):
        deliveries = Deliveries(
            check=Sinks(Permissions({"alice": rights})).check,
            read=stand.dispatcher.delivering.read,
            folders={},
            publish=_nowhere,
            within_s=PATIENCE_S,
        )
        stand.collector.places = OutputRoutes(deliver=deliveries.deliver)
        put = [
            {"url": receiver.url("/dav/?key=secret")},
            {"url": receiver.url("/{job_id}"), "output": 0},  # of each job
        ]
        gave = [image("red")]
        found = await run(stand, gave, repeat=1, collect=["sheet", "zip"], keep_s=0, put=put)
        sheet, archive = found.outputs or []
        assert found.delivered == [
            Delivered(output=0, url=receiver.url("/dav/s1-0.jpg")),
            Delivered(output=1, url=receiver.url("/dav/s1-1.zip")),
        ]
        sent = {each.path: hashlib.sha256(each.body).hexdigest() for each in receiver.taken}
        assert sent == {
            "/dav/s1-0.jpg?key=secret": sheet.sha256,
            "/dav/s1-1.zip?key=secret": archive.sha256,
        }


async def test_a_set_that_is_cancelled_while_it_delivers_ends_at_once(stand: Stand) -> None:
    began = asyncio.Event()

    async def never(*_: object) -> Any:
        began.set()
        await asyncio.Event().wait()

    stand.collector.places = OutputRoutes(deliver=never)
    await ending(stand, put=[OutputSink("folder:photos")])
    await began.wait()
    await stand.data("cancel", set_id="s1")
    found = await result(stand)
    assert (found.outputs, found.delivered) == (msgspec.UNSET, msgspec.UNSET)


async def ending(stand: Stand, **envelope: Any) -> None:
    """Run a set that collects a zip and a sheet, with more than a request may have here."""
    entered = stand.driver.accept

    async def accept(new: NewSet, spec: SetSpec) -> Any:
        changed = replace(new.record, envelope=replace(new.record.envelope, **envelope))
        return await entered(replace(new, record=changed), spec)

    stand.driver.accept = accept  # type: ignore[method-assign]
    await asked(stand, repeat=1, set_id="s1", collect=["zip", "sheet"])
    await made(stand, "s1", 1)
    await ended(stand, "s1", 0, image("red"))


async def test_a_display_shows_the_sheet_at_last(stand: Stand) -> None:
    seen = []

    async def show(job: Job, display: str, outputs: Sequence[CollectedOutput]) -> Shown:
        seen.append((job.key.job_id, display, [each.info.name for each in outputs]))
        assert hashlib.sha256(outputs[0].data).hexdigest() == outputs[0].info.sha256
        return Shown(display=display)

    stand.collector.places = OutputRoutes(show=show)
    await ending(stand, show="hall")
    assert (await result(stand)).shown == Shown(display="hall")
    assert seen == [("s1", "hall", ["sheet"])]


async def test_what_was_collected_has_a_link_for_as_long_as_it_is_kept(stand: Stand) -> None:
    key = bytes(links.KEY_BYTES)
    stand.collector.places = OutputRoutes(
        link=Links(PublicUrls("https://x.example", key), None).set_output
    )
    found = await run(stand, [image("red")], repeat=1, collect=["zip"], keep_s=1000)
    (info,) = found.outputs or []
    address, _, token = str(info.url).partition(links.PREFIX)
    now = stand.journal.clock.shown(stand.journal.clock.now())
    link = links.read(key, token, now)
    assert (address, link.client, link.job_id, link.output, link.of_set) == (
        "https://x.example",
        "alice",
        "s1",
        0,
        True,
    )
    assert now < link.expires <= now + 1000


async def test_a_set_is_kept_longer_with_what_its_jobs_gave(stand: Stand) -> None:
    await asked(stand, repeat=1, set_id="s1", collect=["sheet"], keep_s=10)
    await made(stand, "s1", 1)
    early = await stand.error("keep", set_id="s1", keep_s=1000)
    assert (early.code, early.details) == ("conflict", {"set_id": "s1", "state": "running"})
    await ended(stand, "s1", 0, image("red"))
    (info,) = (await result(stand)).outputs or []
    kept = await stand.data("keep", set_id="s1", keep_s=1000)
    assert (kept["set_id"], kept["outputs"]) == ("s1", 2)
    now = stand.journal.clock.now()
    await sweep(stand, now + 900, forget_before=now + 900)
    await fetched(stand, info)
    assert (await stand.ask("fetch", job_id="s1-0")).error is None
    assert (await stand.error("keep", set_id="none", keep_s=1)).code == "unknown_job"


async def _nowhere(*_: object) -> None:
    raise AssertionError


async def test_what_was_collected_goes_with_the_set(stand: Stand) -> None:
    found = await run(stand, [image("red")], repeat=1, collect=["sheet"], keep_s=1000)
    (info,) = found.outputs or []
    assert stand.notes.keep_s == 1000
    await sweep(stand, stand.journal.clock.now() + 900)
    await fetched(stand, info)
    await sweep(stand, stand.journal.clock.now() + 1100)
    error = await stand.error("fetch", set_id="s1")
    assert (error.code, error.details) == (
        "unknown_job",
        {"set_id": "s1", "state": "succeeded", "output": 0},
    )


async def test_a_set_is_remembered_as_long_as_what_it_collected(stand: Stand) -> None:
    found = await run(stand, [image("red")], repeat=1, collect=["sheet"], keep_s=1000)
    (info,) = found.outputs or []
    now = stand.journal.clock.now()
    await sweep(stand, now + 900, forget_before=now + 900)
    await fetched(stand, info)
    await sweep(stand, now + 1100, forget_before=now + 1100)
    error = await stand.error("fetch", set_id="s1")
    assert error.message == "no set 's1'"


async def test_what_was_collected_is_forgotten_with_the_set(stand: Stand) -> None:
    await run(stand, [image("red")], repeat=1, collect=["sheet"])
    await stand.data("forget", set_id="s1")
    assert (await stand.error("fetch", set_id="s1")).code == "unknown_job"


async def test_what_was_collected_counts_as_its_clients_outputs(stand: Stand) -> None:
    await run(stand, [image("red")], repeat=1, collect=["sheet"])
    await sweep(stand, 10.0, max_outputs=0)
    assert (await stand.error("fetch", set_id="s1")).code == "unknown_job"


async def sweep(
    stand: Stand, now: float, *, forget_before: float = 0.0, max_outputs: int | None = None
) -> None:
    await stand.journal.sweep(
        now=now,
        results_before=0.0,
        forget_before=forget_before,
        max_outputs=max_outputs,
        max_outputs_of=None if max_outputs is None else lambda _: max_outputs,
    )


async def test_jobs_that_gave_nothing_are_no_news(stand: Stand) -> None:
    await run(stand, [[]], repeat=1)
    assert [each.job.state for each in await jobs(stand)] == ["succeeded"]
