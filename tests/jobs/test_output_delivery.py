"""Outputs on their way to sinks: kept first, then delivered, whatever dies in between."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.comfyui import events
from bridge.contract.messages import OutputInfo
from bridge.contract.sinks import Delivered
from bridge.jobs.database import TransientError
from bridge.jobs.job import Envelope, Job, OutputSink
from bridge.jobs.output_delivery import OutputDelivery
from bridge.jobs.queue import Key
from bridge.media.files import Folder
from tests.jobs.dispatching import QuickComfyUI, RunningDispatcher, running_dispatcher
from tests.support.patience import PATIENCE_S

PUT = Envelope(put=[OutputSink("https://h/dav/")])
LARGE = "a barn " * 20_000


class Counted(QuickComfyUI):
    """Counts what it runs; each prompt gives a small text and a large one."""

    def __init__(self) -> None:
        super().__init__()
        self.ran = 0

    async def execute(
        self, _prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool, extra_data: Any
    ) -> AsyncIterator[events.Event]:
        del preview, extra_data
        self.ran += 1
        yield events.Queued()
        yield events.Started()
        output = {"text": ["a barn", LARGE]}
        yield events.Executed("1", "1", output)
        yield events.Succeeded({"1": output})


class Sinks:
    """Takes outputs at once, or once it is `open`."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.open = asyncio.Event()
        if is_open:
            self.open.set()
        self.came = asyncio.Event()
        self.taken: list[bytes] = []
        self.dispatcher: RunningDispatcher | None = None

    async def deliver(self, job: Job, outputs: Sequence[OutputInfo]) -> list[Delivered]:
        del job
        self.came.set()
        await self.open.wait()
        assert self.dispatcher is not None
        for info in outputs:
            read = self.dispatcher.delivery.read(info.sha256, info.size)
            self.taken.append(b"".join([piece async for piece in read]))
        return [Delivered(output=each.index, url="https://h/dav/") for each in outputs]

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self.came.wait()


async def test_outputs_are_on_disk_then_delivered_and_the_result_says_where(
    tmp_path: Path,
) -> None:
    sinks = Sinks(is_open=False)
    async with running_dispatcher(tmp_path, comfyui=Counted(), deliver=sinks.deliver) as dispatcher:
        sinks.dispatcher = dispatcher
        job = await dispatcher.take("j1", envelope=PUT)
        await sinks.wait()
        assert await dispatcher.journal.undelivered(job.key) is not None
        assert dispatcher.recorder.results == {}
        sinks.open.set()
        result = await dispatcher.recorder.outcome("j1")
        assert result["state"] == "succeeded"
        assert [each["url"] for each in result["delivered"]] == ["https://h/dav/"] * 2
        assert sinks.taken == [b"a barn", LARGE.encode()]
        assert await dispatcher.journal.undelivered(job.key) is None
        for index, data in enumerate(sinks.taken):
            stored = await dispatcher.journal.output(job.key, index)
            assert stored is not None
            assert stored.size == len(data)


async def test_a_bridge_that_dies_in_the_middle_goes_on_with_the_sinks_alone(
    tmp_path: Path,
) -> None:
    hanging, comfyui = Sinks(is_open=False), Counted()
    async with running_dispatcher(tmp_path, comfyui=comfyui, deliver=hanging.deliver) as dispatcher:
        await dispatcher.take("j1", envelope=PUT)
        await hanging.wait()
    sinks, again = Sinks(), Counted()
    async with running_dispatcher(tmp_path, comfyui=again, deliver=sinks.deliver) as dispatcher:
        sinks.dispatcher = dispatcher
        # What no outcome refers to yet is not swept.
        await dispatcher.journal.sweep(now=9e9, results_before=0.0, forget_before=0.0)
        await dispatcher.recover()
        result = await dispatcher.recorder.outcome("j1")
        assert (result["state"], len(result["delivered"])) == ("succeeded", 2)
        assert result["timings"]["deliver_s"] >= 0
        assert sinks.taken == [b"a barn", LARGE.encode()]
    assert (comfyui.ran, again.ran) == (1, 0)


async def test_what_is_gone_when_the_bridge_is_back_is_made_again(tmp_path: Path) -> None:
    hanging = Sinks(is_open=False)
    async with running_dispatcher(
        tmp_path, comfyui=Counted(), deliver=hanging.deliver
    ) as dispatcher:
        await dispatcher.take("j1", envelope=PUT)
        await hanging.wait()
    Folder(tmp_path / "blobs").sweeper(-1.0)(())
    sinks, again = Sinks(), Counted()
    async with running_dispatcher(tmp_path, comfyui=again, deliver=sinks.deliver) as dispatcher:
        sinks.dispatcher = dispatcher
        cast("Any", again).adopt = None
        left = await dispatcher.journal.unfinished()
        dispatcher.add(left[0])
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "succeeded"
    assert again.ran == 1
    assert len(sinks.taken) == 2


async def test_a_cancel_ends_a_delivery(tmp_path: Path) -> None:
    sinks = Sinks(is_open=False)
    async with running_dispatcher(tmp_path, comfyui=Counted(), deliver=sinks.deliver) as dispatcher:
        job = await dispatcher.take("j1", envelope=PUT)
        await sinks.wait()
        await dispatcher.cancel(job.key)
        result = await dispatcher.recorder.outcome("j1")
        assert result["state"] == "cancelled"
        assert "delivered" not in result
        assert await dispatcher.journal.undelivered(job.key) is None


async def test_a_cancel_while_outputs_are_kept_ends_their_delivery_too(tmp_path: Path) -> None:
    sinks = Sinks(is_open=False)
    async with running_dispatcher(tmp_path, comfyui=Counted(), deliver=sinks.deliver) as dispatcher:
        keep, keeping = dispatcher.journal.keep_undelivered, asyncio.Event()
        go_on = asyncio.Event()

        async def slowly(*what: Any) -> None:
            keeping.set()
            await go_on.wait()
            await keep(*what)

        cast("Any", dispatcher.journal).keep_undelivered = slowly
        job = await dispatcher.take("j1", envelope=PUT)
        async with asyncio.timeout(PATIENCE_S):
            await keeping.wait()
        await dispatcher.cancel(job.key)
        go_on.set()
        assert (await dispatcher.recorder.outcome("j1"))["state"] == "cancelled"


async def test_jobs_wait_while_outputs_cannot_be_kept_for_their_sinks(tmp_path: Path) -> None:
    sinks = Sinks()
    async with running_dispatcher(tmp_path, comfyui=Counted(), deliver=sinks.deliver) as dispatcher:
        sinks.dispatcher = dispatcher
        keep = dispatcher.journal.keep_undelivered

        async def refuse(*_: Any) -> None:
            raise TransientError("the bucket is away")

        cast("Any", dispatcher.journal).keep_undelivered = refuse
        for number in range(20):
            await dispatcher.take(f"j{number}", envelope=PUT)
        async with asyncio.timeout(PATIENCE_S):
            while dispatcher.book.held is None or any(  # noqa: ASYNC110 - nothing reports it
                each.holds_slot for each in dispatcher.book.entries.values()
            ):
                await asyncio.sleep(0.01)
        assert dispatcher.book.queued > 0
        cast("Any", dispatcher.journal).keep_undelivered = keep
        for number in range(20):
            assert (await dispatcher.recorder.outcome(f"j{number}"))["state"] == "succeeded"


async def test_a_sink_that_hangs_keeps_comfyui_from_nothing(tmp_path: Path) -> None:
    sinks, comfyui = Sinks(is_open=False), Counted()
    async with running_dispatcher(tmp_path, comfyui=comfyui, deliver=sinks.deliver) as dispatcher:
        sinks.dispatcher = dispatcher
        for number in range(5):
            await dispatcher.take(f"j{number}", envelope=PUT)
        await dispatcher.take("other")
        assert (await dispatcher.recorder.outcome("other"))["state"] == "succeeded"
        assert dispatcher.recorder.results.keys() == {"other"}
        dispatcher.send_back("main")  # what is over there is not sent back
        sinks.open.set()
        for number in range(5):
            assert (await dispatcher.recorder.outcome(f"j{number}"))["state"] == "succeeded"
    assert comfyui.ran == 6


async def test_nothing_of_it_is_in_memory_while_a_sink_is_waited_for(tmp_path: Path) -> None:
    sinks = Sinks(is_open=False)
    kept: list[Any] = []

    async with running_dispatcher(tmp_path, comfyui=Counted(), deliver=sinks.deliver) as dispatcher:
        deliver = dispatcher.delivery.deliver

        async def spied(job: Job, ended: Any) -> Any:
            kept.extend(ended.outputs)
            return await deliver(job, ended)

        cast("Any", dispatcher.delivery).deliver = spied
        await dispatcher.take("j1", envelope=PUT)
        await sinks.wait()
        assert [each.data for each in kept] == [b"", b""]


async def test_outputs_that_are_not_to_be_kept_are_kept_until_they_are_delivered(
    tmp_path: Path,
) -> None:
    sinks = Sinks()
    envelope = Envelope(put=PUT.put, deliver="none")
    async with running_dispatcher(tmp_path, comfyui=Counted(), deliver=sinks.deliver) as dispatcher:
        sinks.dispatcher = dispatcher
        await dispatcher.take("j1", envelope=envelope)
        assert len((await dispatcher.recorder.outcome("j1"))["delivered"]) == 2
        assert await dispatcher.journal.output(Key("alice", "j1"), 0) is None
        await dispatcher.journal.sweep(now=9e9, results_before=0.0, forget_before=0.0)
        assert await dispatcher.journal.files() == set()


@pytest.mark.parametrize("envelope", [Envelope(), PUT])
async def test_without_sinks_nothing_is_noted(tmp_path: Path, envelope: Envelope) -> None:
    async with running_dispatcher(tmp_path, comfyui=Counted()) as dispatcher:
        await dispatcher.take("j1", envelope=envelope)
        assert "delivered" not in await dispatcher.recorder.outcome("j1")


async def test_what_a_sink_is_given_is_read_once_the_database_is_back() -> None:
    """A database that restarts is no fault of the sink, and costs no delivery."""
    asked = 0

    def away() -> bool:
        nonlocal asked
        asked += 1
        return asked == 1

    class Database:
        async def blob(self, _sha256: str) -> bytes:
            if away():
                raise TransientError("away")
            return b"a barn"

        def read(self, _sha256: str, _offset: int, _count: int) -> bytes:
            if away():
                raise TransientError("away")
            return LARGE.encode()

    database = cast("Any", Database())
    delivering = OutputDelivery(database, database, cast("Any", None), None)
    for content in (b"a barn", LARGE.encode()):
        asked = 0
        sha256 = hashlib.sha256(content).hexdigest()
        assert [each async for each in delivering.read(sha256, len(content))] == [content]
