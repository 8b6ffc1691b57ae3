"""Outputs that sets have collected: delivered, shown, linked, kept and forgotten."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from bridge.config import ClientRights
from bridge.contract import links
from bridge.contract.messages import Shown
from bridge.contract.sinks import Delivered
from bridge.jobs.job import Job, OutputSink
from bridge.jobs.journal.sets import NewSet
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.sets.collect import OutputRoutes
from bridge.jobs.sets.plan import SetSpec
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks
from bridge.service.public_urls import Links, PublicUrls
from bridge.sinks.delivery import Deliveries
from tests.requests.collecting import ended, fetched, image, run
from tests.requests.stand import Stand, standing
from tests.requests.test_sets import asked, driving, made, result
from tests.sinks.servers import receiving
from tests.support.patience import PATIENCE_S


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with standing(tmp_path) as stand, driving(stand):
        yield stand


async def test_what_was_collected_is_delivered_before_the_result(tmp_path: Path) -> None:
    rights = ClientRights(sink_hosts=("127.0.0.1",))
    async with (
        receiving() as receiver,
        standing(tmp_path, alice=rights) as stand,
        driving(stand),
    ):
        deliveries = Deliveries(
            check=Sinks(Permissions({"alice": rights})).check,
            read=stand.dispatcher.delivery.read,
            folders={},
            publish=_nowhere,
            within_s=PATIENCE_S,
        )
        stand.collector.routes = OutputRoutes(deliver=deliveries.deliver)
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

    stand.collector.routes = OutputRoutes(deliver=never)
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

    stand.collector.routes = OutputRoutes(show=show)
    await ending(stand, show="hall")
    assert (await result(stand)).shown == Shown(display="hall")
    assert seen == [("s1", "hall", ["sheet"])]


async def test_what_was_collected_has_a_link_for_as_long_as_it_is_kept(stand: Stand) -> None:
    key = bytes(links.KEY_BYTES)
    stand.collector.routes = OutputRoutes(
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
