"""What befalls single jobs between their lists, and faults of ours: none of it costs the bridge."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from bridge.comfyui import events
from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.session import QueueSnapshot
from bridge.comfyui.state import InstanceState
from bridge.contract.messages import OutputInfo, State
from bridge.contract.numbering import Numbered
from bridge.contract.sources import JobOutput, Url
from bridge.jobs.core import Limits
from bridge.jobs.core.events import Recovered
from bridge.jobs.database import Away, DatabaseError
from bridge.jobs.delivering import Deliver
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.durable import until_on_disk
from bridge.jobs.finalizer import Completion, Finalizer
from bridge.jobs.job import Blob, Envelope, Job, KeptOutput, MediaInput, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.queue import Key
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from tests.jobs.drafts import KEPT_PICTURE, PICTURE, PLAN, draft
from tests.support.patience import PATIENCE_S


class Told:
    """A listener; `fault` is raised where an output is told."""

    def __init__(self) -> None:
        self.results: dict[str, Any] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.fault: Exception | None = None
        self.outputs = 0

    def status(self, *_: object) -> None: ...

    def progress(self, *_: object) -> None: ...

    def preview(self, *_: object) -> None: ...

    def output(self, *_: object) -> None:
        if self.fault is not None:
            raise self.fault
        self.outputs += 1

    def result(self, key: Key, _envelope: Envelope, result: bytes) -> None:
        self.results[key.job_id] = json.loads(result)
        self.ended.setdefault(key.job_id, asyncio.Event()).set()

    async def outcome(self, job_id: str) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            await self.ended.setdefault(job_id, asyncio.Event()).wait()
        return self.results[job_id]


class Comfy:
    """A ComfyUI whose every prompt gives one text."""

    name = "main"
    supervised = False
    output_folder = None
    state = InstanceState(state="ready", since=0.0)

    def __init__(self) -> None:
        self.client = cast("Any", self)

    async def changed(self, _seen: object = None) -> InstanceState:
        await asyncio.Event().wait()
        raise AssertionError

    async def ready(self) -> None: ...

    async def view(self, *_: object) -> bytes:
        return b""

    def clean_up(self, _prompt_id: str, _folder: str | None) -> None: ...

    def silence(self, _prompt_id: str) -> float:
        return 0.0

    async def execute(
        self, _prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool, extra_data: Any
    ) -> AsyncIterator[events.Event]:
        del preview, extra_data
        yield events.Queued()
        yield events.Started()
        output = {"text": ["a barn"]}
        yield events.Executed("1", "1", output)
        yield events.Succeeded({"1": output})


async def test_a_large_output_is_there_however_long_its_result_could_not_be_written(
    tmp_path: Path,
) -> None:
    """A sweep may come between two attempts: no row names the file yet."""
    journal, files, told = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs"), Told()
    await journal.open()
    files.open()
    finalizer = Finalizer(
        journal, files, told, 60.0, show=cast("Any", None), transcoder=Transcoder()
    )
    data = b"x" * 1_000_000
    sha256 = hashlib.sha256(data).hexdigest()
    info = OutputInfo(
        index=0, name="x", kind="image", content_type="image/png", size=len(data), sha256=sha256
    )
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    finish = journal.finish

    async def fails_once(*_: object, **__: object) -> bytes:
        journal.finish = finish  # type: ignore[method-assign]
        files.sweeper(older_than_s=-1)(await journal.files())
        raise DatabaseError("the disk is full")

    journal.finish = fails_once  # type: ignore[method-assign]
    await finalizer.write(job, "succeeded", Completion(outputs=[CollectedOutput(info, data)]))
    stored = await journal.output(job.key, 0)
    assert stored is not None
    assert files.read(stored.sha256) == data
    await journal.close()


class Trial:
    """Notes which sizes were tried, and whether anything had been published by then."""

    def __init__(self, told: Told) -> None:
        self.tried: list[tuple[int, int]] = []
        self._told = told

    def is_known(self, size: int) -> bool:
        return any(size == tried for tried, _ in self.tried)

    async def find_out(self, size: int) -> None:
        self.tried.append((size, self._told.outputs))


async def test_an_output_waits_until_it_is_known_whether_its_size_passes(tmp_path: Path) -> None:
    journal, files, told = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs"), Told()
    await journal.open()
    files.open()
    trial = Trial(told)
    finalizer = Finalizer(
        journal,
        files,
        told,
        60.0,
        show=cast("Any", None),
        transcoder=Transcoder(),
        trial=trial,
    )
    info = OutputInfo(
        index=0, name="x", kind="image", content_type="image/png", size=5, sha256="0" * 64
    )
    output = CollectedOutput(info, b"12345")
    for job_id in ("j1", "j2"):
        job = (await journal.accept(draft(job_id), 1.0)).record.job
        offered = finalizer.offer(job, output)
        assert offered.offered is (job_id == "j2")
        await finalizer.write(job, "succeeded", Completion(outputs=[offered]))
    assert trial.tried == [(5, 0)]
    assert told.outputs == 2
    await journal.close()


class House(Dispatcher):
    """A dispatcher with its journal, on a real disk."""

    journal: Journal
    files: Folder
    told: Told

    async def take(self, job_id: str, **changes: Any) -> Job:
        wanted = draft(job_id, **changes)
        job = (await self.journal.accept(wanted, 1.0)).record.job
        self.accept(job, wanted.plan)
        return job


Fetch = Callable[[str, Url], Awaitable[bytes]]


@asynccontextmanager
async def house(
    folder: Path,
    *,
    fetch: Fetch | None = None,
    comfyui: Comfy | None = None,
    deliver: Deliver | None = None,
) -> AsyncIterator[House]:
    journal, files, told = Journal(folder / "journal.db"), Folder(folder / "blobs"), Told()
    await journal.open()
    files.open()
    dependencies = Dependencies(
        journal, files, Sources(cast("Any", fetch), cast("Any", None)), Transcoder()
    )
    dispatcher = House(
        journal=journal,
        files=files,
        instances=[] if comfyui is None else [cast("Any", comfyui)],
        listener=told,
        dependencies=dependencies,
        can_run=lambda _name, _needs: True,
        limits=Limits(3, 60.0, 60.0, 60.0),
        finalizer=Finalizer(
            journal, files, told, 60.0, show=cast("Any", None), transcoder=Transcoder()
        ),
        deliver=deliver,
    )
    dispatcher.journal, dispatcher.files, dispatcher.told = journal, files, told
    running = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await journal.close()


def waits_for(*items: JobOutput | Url) -> Plan:
    media = MediaInput("image", "image", "1", "image", "media", [*items])
    return Plan(PLAN.prompt, {}, {}, PLAN.outputs, [media])


async def test_a_url_that_gives_what_unpacks_to_gigabytes_costs_that_job(tmp_path: Path) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (13_000).to_bytes(4, "big") * 2 + bytes(9)

    async with house(tmp_path, fetch=fetch) as dispatcher:
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        result = await dispatcher.told.outcome("j1")
        assert (result["state"], result["error"]["code"]) == ("failed", "invalid_input")
        assert result["error"]["details"]["limit"] == 8192 * 8192


async def test_pictures_that_are_too_much_together_cost_their_job(tmp_path: Path) -> None:
    async def fetch(_client: str, url: Url) -> bytes:
        png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (8_000).to_bytes(4, "big") * 2
        return png + url.url.encode()

    async with house(tmp_path, fetch=fetch) as dispatcher:
        urls = [Url(f"http://x/{index}.png") for index in range(6)]
        await dispatcher.take("j1", plan=waits_for(*urls))
        result = await dispatcher.told.outcome("j1")
        assert result["error"]["details"] == {
            "found": 6 * 8_000 * 8_000 * 12,
            "limit": 4 * 1024**3,
            "setting": "max_input_unpacked",
        }


async def test_a_defect_while_a_job_waits_costs_that_job(tmp_path: Path) -> None:
    async def fetch(_client: str, url: Url) -> bytes:
        raise KeyError(url.url)

    async with house(tmp_path, fetch=fetch) as dispatcher:
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        result = await dispatcher.told.outcome("j1")
        assert result["state"] == "failed"
        assert "KeyError" in result["error"]["message"]
        assert dispatcher.book.job(Key("alice", "j1")) is None


async def test_a_cancel_on_the_way_into_the_queue_counts(tmp_path: Path) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return PICTURE

    async with house(tmp_path, fetch=fetch) as dispatcher:
        writing, written = asyncio.Event(), asyncio.Event()
        released = dispatcher.journal.released

        async def slowly(*arguments: Any) -> int:
            n = await released(*arguments)
            writing.set()
            await written.wait()
            return n

        dispatcher.journal.released = slowly  # type: ignore[method-assign, assignment]
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        await writing.wait()
        assert await dispatcher.cancel(Key("alice", "j1")) == "waiting"
        written.set()
        assert (await dispatcher.told.outcome("j1"))["state"] == "cancelled"
        assert dispatcher.book.queued == 0


@pytest.mark.parametrize("lasts", [False, True])
async def test_a_defect_while_a_job_is_concluded_costs_that_job(
    tmp_path: Path, *, lasts: bool
) -> None:
    async with house(tmp_path, comfyui=Comfy()) as dispatcher:
        told = dispatcher.told
        told.fault = ValueError("no such topic")
        finish = dispatcher.journal.finish
        if lasts:

            async def never(*_: object, **__: object) -> bytes:
                raise ValueError("no such column")

            dispatcher.journal.finish = never  # type: ignore[method-assign]
        await dispatcher.take("j1")
        if not lasts:
            result = await told.outcome("j1")
            assert (result["state"], result["outputs"]) == ("failed", [])
        while dispatcher.book.job(Key("alice", "j1")) is not None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        dispatcher.journal.finish = finish  # type: ignore[method-assign]
        told.fault = None
        await dispatcher.take("j2")
        assert (await told.outcome("j2"))["state"] == "succeeded"


async def test_all_who_wait_for_a_job_learn_that_it_has_ended(tmp_path: Path) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    waiting = Dependencies(
        journal, files, Sources(cast("Any", None), cast("Any", None)), Transcoder()
    )
    key = Key("alice", "source")
    await journal.accept(draft("source"), 1.0)
    first = asyncio.create_task(waiting.gather(key, waits_for(JobOutput("source"))))
    while not waiting._endings:  # noqa: ASYNC110 - nobody is told
        await asyncio.sleep(0)
    await journal.finish(
        key,
        state="succeeded",
        result=Numbered(b"{", b"}"),
        now=1.0,
        outputs=[KEPT_PICTURE],
        keep_until=2.0,
    )
    # Another bridge saw it end: before that is told here, somebody else looks.
    await waiting.gather(key, waits_for(JobOutput("source")))
    async with asyncio.timeout(PATIENCE_S):
        await first
    await journal.close()


async def test_who_waits_for_an_output_whose_file_is_gone_learns_it(tmp_path: Path) -> None:
    async with house(tmp_path) as dispatcher:
        key = Key("alice", "source")
        await dispatcher.journal.accept(draft("source"), 1.0)
        gone = KeptOutput(index=0, content_type="image/png", sha256="a" * 64, size=10**6, data=None)
        await dispatcher.journal.finish(
            key,
            state="succeeded",
            result=Numbered(b"{", b"}"),
            now=1.0,
            outputs=[gone],
            keep_until=2.0,
        )
        await dispatcher.take("j1", plan=waits_for(JobOutput("source")))
        assert (await dispatcher.told.outcome("j1"))["error"]["code"] == "expired"


class Scripted(Comfy):
    """Each prompt runs until `finish`; those of `lost` are lost then.

    With `dies` its process ended by itself under those; with `stopped` somebody interrupts all.
    """

    def __init__(self, name: str = "main") -> None:
        super().__init__()
        self.name = name
        self.running: dict[str, asyncio.Event] = {}
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.lost: set[str] = set()
        self.dies = False
        self.stopped = False
        self.cancelled: list[str] = []

    def finish(self, prompt_id: str) -> None:
        self.running.setdefault(prompt_id, asyncio.Event()).set()

    async def execute(
        self, prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool, extra_data: Any
    ) -> AsyncGenerator[events.Event, None]:
        del preview, extra_data
        finished = self.running.setdefault(prompt_id, asyncio.Event())
        yield events.Queued()
        yield events.Started()
        await self.began.put(prompt_id)
        await finished.wait()
        if prompt_id in self.lost:
            yield events.Lost("it was restarted", died=self.dies)
        elif prompt_id in self.cancelled or self.stopped:
            yield events.Interrupted()
        else:
            yield events.Executed("1", "1", {"text": ["x"]})
            yield events.Succeeded({"1": {"text": ["x"]}})

    async def cancel(self, prompt_id: str, **_: Any) -> bool:
        self.cancelled.append(prompt_id)
        self.finish(prompt_id)
        return True


async def test_a_replaced_job_names_the_one_that_replaced_it(tmp_path: Path) -> None:
    comfyui = Scripted()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("older", replace="sensor")
        prompt = await comfyui.began.get()
        comfyui.lost.add(prompt)
        await dispatcher.pause()  # so that the newer one, and the older once requeued, wait
        await dispatcher.take("newer", replace="sensor")
        comfyui.finish(prompt)
        result = await dispatcher.told.outcome("older")
        assert result["state"] == "cancelled"
        assert result["error"]["details"]["by"] == "newer"


async def test_a_clear_leaves_alone_what_starts_meanwhile(tmp_path: Path) -> None:
    comfyui = Scripted()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.pause()
        for number in range(150):
            await dispatcher.take(f"j{number}")
        await dispatcher.take("mine", client="bob")
        clearing = asyncio.create_task(dispatcher.clear("alice"))
        await asyncio.sleep(0)
        await dispatcher.resume()
        began = await asyncio.wait_for(comfyui.began.get(), 5)
        assert await clearing == 150
        assert began not in comfyui.cancelled
        comfyui.finish(began)
        assert (await dispatcher.told.outcome("mine"))["state"] == "succeeded"


async def test_a_retry_is_counted(tmp_path: Path) -> None:
    comfyui = Scripted()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("j1")
        first = await comfyui.began.get()
        comfyui.lost.add(first)
        comfyui.finish(first)
        second = await comfyui.began.get()
        assert second != first
        comfyui.finish(second)
        result = await dispatcher.told.outcome("j1")
        assert result["attempts"] == 2
        assert dispatcher.counters.retried == 1


async def died_under(comfyui: Scripted) -> None:
    """Let the next prompt begin, and its ComfyUI end under it."""
    prompt = await comfyui.began.get()
    comfyui.lost.add(prompt)
    comfyui.finish(prompt)


async def test_a_prompt_that_ended_its_comfyui_twice_is_not_run_a_third_time(
    tmp_path: Path,
) -> None:
    """Neither of its job nor of another that waits, whoever sent it; others go on."""
    comfyui = Scripted()
    comfyui.dies = True
    bad = replace(PLAN, prompt={"1": {"class_type": "Bad", "inputs": {"seed": 1}}})
    reseeded = replace(PLAN, prompt={"1": {"class_type": "Bad", "inputs": {"seed": 2}}})
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("first", plan=bad)
        for _ in range(2):
            await died_under(comfyui)
        await dispatcher.take("second", client="bob", plan=reseeded)
        for job_id in ("first", "second"):
            result = await dispatcher.told.outcome(job_id)
            assert (result["state"], result["error"]["code"]) == ("failed", "quarantined")
            assert "restarted" in result["error"]["details"]["reason"]
        await dispatcher.take("other")
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.told.outcome("other"))["state"] == "succeeded"
        assert dispatcher.quarantine.release() == 1
        await dispatcher.take("again", plan=bad)
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.told.outcome("again"))["state"] == "succeeded"


async def test_a_comfyui_that_others_stop_quarantines_nothing(tmp_path: Path) -> None:
    comfyui = Scripted()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("j1")
        for _ in range(2):
            await died_under(comfyui)
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.told.outcome("j1"))["state"] == "succeeded"


async def test_a_job_that_was_stopped_at_comfyui_itself_says_so(tmp_path: Path) -> None:
    comfyui = Scripted()
    comfyui.stopped = True
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.take("theirs")
        comfyui.finish(await comfyui.began.get())
        result = await dispatcher.told.outcome("theirs")
        assert (result["state"], result["error"]["code"]) == ("cancelled", "interrupted")
        comfyui.stopped = False
        job = await dispatcher.take("mine")
        await comfyui.began.get()
        await dispatcher.cancel(job.key)
        assert "error" not in await dispatcher.told.outcome("mine")


async def with_media(dispatcher: House, job_id: str, data: bytes) -> Job:
    """Take a job whose input is some bytes that the bridge keeps."""
    sha256 = hashlib.sha256(data).hexdigest()
    dispatcher.files.put(sha256, data)
    blob = Blob(sha256, len(data), "image/png", "png")
    media = MediaInput("image", "image", "1", "image", "media", [blob])
    plan = Plan(PLAN.prompt, {}, {}, PLAN.outputs, [media])
    return await dispatcher.take(job_id, plan=plan, media={sha256: data})


class Uploads(Scripted):
    """It has no media; `uploading` is set when it is sent some, and takes `until` then."""

    def __init__(self) -> None:
        super().__init__()
        self.uploading = asyncio.Event()
        self.until = asyncio.Event()

    async def has_media(self, _sha256: str) -> bool:
        return False

    async def put_media(self, *_: object) -> None:
        self.uploading.set()
        await self.until.wait()


async def test_large_media_are_waited_for_while_the_database_is_away(tmp_path: Path) -> None:
    comfyui = Uploads()
    comfyui.until.set()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        read, times = dispatcher.files.read, 0

        def away_once(*arguments: Any) -> bytes:
            nonlocal times
            times += 1
            if times == 1:
                raise DatabaseError("the database is away")
            return read(*arguments)

        dispatcher.files.read = away_once  # type: ignore[method-assign, assignment]
        await with_media(dispatcher, "j1", b"y" * 100_000)
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.told.outcome("j1"))["state"] == "succeeded"


async def test_a_large_input_is_there_however_long_its_row_could_not_be_written(
    tmp_path: Path,
) -> None:
    """A sweep may come between two attempts: no row names the file yet."""
    data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (100).to_bytes(4, "big") * 2 + bytes(100_000)

    async def fetch(_client: str, _url: Url) -> bytes:
        return data

    comfyui = Uploads()
    async with house(tmp_path, fetch=fetch, comfyui=comfyui) as dispatcher:
        released = dispatcher.journal.released

        async def fails_once(*_: object) -> int:
            dispatcher.journal.released = released  # type: ignore[method-assign]
            dispatcher.files.sweeper(-60.0)(await dispatcher.journal.files())
            raise DatabaseError("the database is away")

        dispatcher.journal.released = fails_once  # type: ignore[method-assign, assignment]
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        comfyui.until.set()
        comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.told.outcome("j1"))["state"] == "succeeded"
        assert dispatcher.files.read(hashlib.sha256(data).hexdigest()) == data


async def test_media_that_are_gone_cost_the_job_and_name_no_path(tmp_path: Path) -> None:
    comfyui = Uploads()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.pause()
        await with_media(dispatcher, "j1", b"y" * 100_000)
        for path in (tmp_path / "blobs").rglob("*"):
            if path.is_file():
                path.unlink()
        await dispatcher.resume()
        result = await dispatcher.told.outcome("j1")
        assert (result["state"], result["error"]["code"]) == ("failed", "expired")
        assert str(tmp_path) not in json.dumps(result)


async def test_a_job_whose_input_the_disk_has_damaged_fails_and_says_so(tmp_path: Path) -> None:
    """It never runs with other bytes than were given."""
    comfyui = Uploads()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await dispatcher.pause()
        await with_media(dispatcher, "j1", b"y" * 100_000)
        for path in (tmp_path / "blobs").iterdir():
            path.write_bytes(b"z" * 100_000)
        await dispatcher.resume()
        result = await dispatcher.told.outcome("j1")
    assert (result["state"], result["error"]["code"]) == ("failed", "expired")
    assert "damaged" in result["error"]["message"]
    assert not comfyui.uploading.is_set()


async def test_a_cancel_does_not_wait_for_an_upload_to_comfyui(tmp_path: Path) -> None:
    comfyui = Uploads()
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        await with_media(dispatcher, "j1", b"z" * 1000)
        await comfyui.uploading.wait()
        await dispatcher.cancel(Key("alice", "j1"))
        assert (await dispatcher.told.outcome("j1"))["state"] == "cancelled"
        assert comfyui.began.empty()


async def test_a_defect_at_a_deadline_costs_that_job_not_the_bridge(tmp_path: Path) -> None:
    async with house(tmp_path) as dispatcher:
        write = dispatcher._finalizer.write

        async def defect(*_: object, **__: object) -> None:
            raise KeyError("a defect")

        dispatcher._finalizer.write = defect  # type: ignore[method-assign]
        await dispatcher.take("j1", start_before=1.0)
        while dispatcher.book.job(Key("alice", "j1")) is not None:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        dispatcher._finalizer.write = write  # type: ignore[method-assign]
        await dispatcher.take("j2", start_before=1.0)
        assert (await dispatcher.told.outcome("j2"))["state"] == "expired"


async def test_jobs_wait_while_the_outcomes_of_others_cannot_be_written(tmp_path: Path) -> None:
    async with house(tmp_path, comfyui=Comfy()) as dispatcher:
        finish = dispatcher.journal.finish

        async def refuse(*_: object, **__: object) -> bytes:
            raise Away("the bucket is away")

        dispatcher.journal.finish = refuse  # type: ignore[method-assign]
        jobs = [f"j{number}" for number in range(10)]
        for job_id in jobs:
            await dispatcher.take(job_id)
        async with asyncio.timeout(PATIENCE_S):
            while dispatcher.book.held is None or any(  # noqa: ASYNC110 - nobody is told
                each.holds_place for each in dispatcher.book.entries.values()
            ):
                await asyncio.sleep(0.01)
        # At most those that were at the ComfyUI when the third could not be written.
        assert len(dispatcher.book.unwritten) <= 3 + 2
        assert len(dispatcher.book.entries) == 10
        dispatcher.journal.finish = finish  # type: ignore[method-assign]
        for job_id in jobs:
            assert (await dispatcher.told.outcome(job_id))["state"] == "succeeded"


async def test_the_log_of_a_full_disk_says_why(caplog: pytest.LogCaptureFixture) -> None:
    times = 0

    async def write() -> int:
        nonlocal times
        times += 1
        if times == 1:
            raise DatabaseError("journal.db: database or disk is full")
        return 1

    with caplog.at_level(logging.ERROR):
        await until_on_disk(write)
    assert "disk is full" in caplog.text
    assert "Future" not in caplog.text


class Asked(Scripted):
    """It has no prompt from before; its queue cannot be read `failures` times, by `error`."""

    def __init__(self, error: Exception, failures: int) -> None:
        super().__init__()
        self.error, self.failures, self.asked = error, failures, 0

    async def known(self) -> QueueSnapshot:
        self.asked += 1
        if self.asked <= self.failures:
            raise self.error
        return QueueSnapshot((), (), ())

    async def adopt(self, _prompt_id: str) -> AsyncGenerator[events.Event, None]:
        yield events.Lost("it is unknown")


async def recovered(folder: Path) -> Job:
    """Return a job that a bridge accepted before it was killed."""
    journal = Journal(folder / "journal.db")
    await journal.open()
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    await journal.close()
    return job


@pytest.mark.parametrize(
    ("error", "failures", "asked"),
    [(ComfyUIUnreachable("no answer", sent=True), 1, 2), (KeyError("a defect"), 1, 1)],
)
async def test_a_queue_that_cannot_be_read_costs_no_more_than_time(
    tmp_path: Path, error: Exception, failures: int, asked: int
) -> None:
    job = await recovered(tmp_path)
    comfyui = Asked(error, failures)
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        dispatcher.handle(Recovered([job]))
        async with asyncio.timeout(PATIENCE_S):
            comfyui.finish(await comfyui.began.get())
        assert comfyui.asked == asked
        assert (await dispatcher.told.outcome("j1"))["state"] == "succeeded"


async def test_a_cancelled_prompt_that_makes_trouble_does_not_end_the_bridge(
    tmp_path: Path,
) -> None:
    class Troubled(Asked):
        async def cancel(self, prompt_id: str, **_: Any) -> bool:
            await super().cancel(prompt_id)
            raise KeyError(prompt_id)

    job = await recovered(tmp_path)
    job.instance = "main"
    comfyui = Troubled(KeyError(), 0)
    async with house(tmp_path, comfyui=comfyui) as dispatcher:
        dispatcher.hold(paused=True)
        dispatcher.handle(Recovered([job]))
        assert await dispatcher.cancel(job.key) == "cancelled"
        async with asyncio.timeout(PATIENCE_S):
            while not comfyui.cancelled:  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0)
        await dispatcher.resume()
        await dispatcher.take("j2")
        async with asyncio.timeout(PATIENCE_S):
            comfyui.finish(await comfyui.began.get())
        assert (await dispatcher.told.outcome("j2"))["state"] == "succeeded"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_nothing_is_kept_of_a_job_that_was_waited_for_in_vain(
    tmp_path: Path, *, cancelled: bool
) -> None:
    async with house(tmp_path) as dispatcher:
        await dispatcher.pause()
        source = await dispatcher.take("source")
        await dispatcher.take("waiter", plan=waits_for(JobOutput("source")))
        while not dispatcher._dependencies.awaited():  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0)
        await dispatcher.cancel(Key("alice", "waiter") if cancelled else source.key)
        result = await dispatcher.told.outcome("waiter")
        assert result["state"] == ("cancelled" if cancelled else "failed")
        assert dispatcher._dependencies.awaited() == set()


async def test_a_cancel_follows_a_job_that_another_bridge_took_as_soon_as_it_was_released(
    tmp_path: Path,
) -> None:
    async def fetch(_client: str, _url: Url) -> bytes:
        return PICTURE

    async with house(tmp_path, fetch=fetch) as dispatcher:
        dispatcher.core._alone = False
        journal, writing, written = dispatcher.journal, asyncio.Event(), asyncio.Event()
        released, asked = journal.released, asyncio.Event()

        async def slowly(*arguments: Any) -> int:
            n = await released(*arguments)
            writing.set()
            await written.wait()
            return n

        async def lost(_job: Job) -> bool:
            return False

        async def ask(_key: Key) -> State:
            asked.set()
            return "queued"

        journal.released, journal.claim, journal.seize = slowly, lost, ask  # type: ignore[method-assign, assignment]
        await dispatcher.take("j1", plan=waits_for(Url("http://x/y.png")))
        await writing.wait()
        assert await dispatcher.cancel(Key("alice", "j1")) == "waiting"
        written.set()
        async with asyncio.timeout(PATIENCE_S):
            await asked.wait()


async def test_a_job_that_is_replaced_before_its_input_is_asked_for_leaves_no_trace(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as dispatcher:
        await dispatcher.pause()
        await dispatcher.take("source")
        wanted = [
            draft(each, plan=waits_for(JobOutput("source")), replace="sensor")
            for each in ("older", "newer")
        ]
        accepted = [(await dispatcher.journal.accept(each, 1.0)).record.job for each in wanted]
        for job, each in zip(accepted, wanted, strict=True):  # as two that share a commit
            dispatcher.accept(job, each.plan)
        assert (await dispatcher.told.outcome("older"))["error"]["code"] == "replaced"
        gc.collect()  # what was made and never awaited is an error
