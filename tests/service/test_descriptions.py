"""Descriptions of workflows and states of ComfyUIs, with ComfyUIs that fail or hang when asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from bridge.aio import Observable
from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.instance import Condition
from bridge.comfyui.state import InstanceState, StateName
from bridge.contract.retained import Definition
from bridge.contract.topics import Topics
from bridge.service import descriptions
from bridge.service.descriptions import Descriptions, NodeInfo
from bridge.workflows.catalogue import Needs
from bridge.workflows.library import Changes, Library
from tests.support.patience import PATIENCE_S
from tests.workflows.graphs import PLAIN

NEEDS = Needs(classes=("Fancy",))
INFO = json.dumps({"Fancy": {"input": {}, "output": []}}).encode()

Answer = Callable[[], Awaitable[bytes]]


async def failing() -> bytes:
    raise ComfyUIUnreachable("timed out", sent=True)


async def garbage() -> bytes:
    return b"<html>"


async def answering() -> bytes:
    return INFO


async def hanging() -> bytes:
    await asyncio.Event().wait()
    raise AssertionError


class ComfyUI:
    """An instance that is asked for its nodes; `answers` are given in turn, the last for ever."""

    def __init__(self, *answers: Answer, name: str = "gpu") -> None:
        self.name = name
        self.asked = 0
        self.answers = list(answers)
        self.board = Observable(InstanceState(state="stopped", since=0.0))

    @property
    def client(self) -> Any:
        return self

    @property
    def state(self) -> InstanceState:
        return self.board.present

    async def changed(self, seen: InstanceState | None = None) -> InstanceState:
        known = self.state if seen is None else seen
        return await self.board.until(lambda state: state != known)

    async def until(self, condition: Condition) -> InstanceState:
        return await self.board.until(condition)

    def become(self, state: StateName, epoch: str = "1") -> None:
        self.board.set(InstanceState(state=state, since=0.0, epoch=epoch))

    async def node_replacements(self) -> bytes:
        return b"{}"

    async def hello(self) -> None:
        """Answer as a ComfyUI without our nodes."""

    async def object_info(self) -> bytes:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer()


class Published:
    """The published states of ComfyUIs, and whether they were known to have the node by then."""

    def __init__(self) -> None:
        self.states: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self.library: Library | None = None
        self.workflows: list[str] = []
        self.lists = 0

    def choices(self, _: object) -> None:
        self.lists += 1

    def workflow(self, definition: Definition) -> None:
        self.workflows.append(definition.name)

    def comfyui(self, name: str, state: Any) -> None:
        assert self.library is not None
        self.states.put_nowait((state.state, self.library.can_run(name, NEEDS)))

    async def until(self, state: str) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                told, capable = await self.states.get()
                if told == state:
                    return capable

    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


@asynccontextmanager
async def described(
    folder: Path, *comfyuis: ComfyUI
) -> AsyncIterator[tuple[Descriptions, Library, Published, asyncio.Queue[None]]]:
    """Descriptions that follow these ComfyUIs; the queue gets an entry for each change of nodes."""
    (folder / "workflows").mkdir(exist_ok=True)
    library = Library(folder / "workflows", folder / "cache", [each.name for each in comfyuis])
    changes: asyncio.Queue[None] = asyncio.Queue()
    published = Published()
    published.library = library
    subject = Descriptions(
        library,
        cast("Any", comfyuis),
        topics=Topics(),
        publisher=cast("Any", published),
        retained=cast("Any", published),
        changed=lambda: changes.put_nowait(None),
    )
    await subject.open()
    tasks = [asyncio.create_task(subject.follow(cast("Any", each))) for each in comfyuis]
    try:
        yield subject, library, published, changes
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(descriptions, "BUSY_INTERVAL_S", 0.01)


@pytest.mark.parametrize("fault", [failing, garbage])
async def test_a_comfyui_that_fails_to_report_its_nodes_is_asked_until_it_does(
    tmp_path: Path, fault: Answer
) -> None:
    comfyui = ComfyUI(fault, fault, fault, answering)
    async with described(tmp_path, comfyui) as (_, library, published, changes):
        comfyui.become("ready", "1")
        assert not await published.until("ready")  # published, though nothing is known of it
        async with asyncio.timeout(PATIENCE_S):
            await changes.get()
        assert library.can_run("gpu", NEEDS)
        assert comfyui.asked == 4


async def test_ready_is_published_once_the_nodes_are_known(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slow() -> bytes:
        await go.wait()
        return INFO

    comfyui = ComfyUI(slow)
    async with described(tmp_path, comfyui) as (_, _, published, _):
        comfyui.become("starting")
        await published.until("starting")
        comfyui.become("ready", "1")
        while not comfyui.asked:  # noqa: ASYNC110 - it is asked in the next steps of the loop
            await asyncio.sleep(0)
        assert published.states.empty()
        go.set()
        assert await published.until("ready")
        comfyui.become("busy")
        await published.until("busy")
        assert comfyui.asked == 1


async def test_workflows_are_published_before_anything_else_is_known(tmp_path: Path) -> None:
    """Whoever sees that the bridge is online finds them, though no ComfyUI was asked yet."""
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "demo.json").write_text(json.dumps(PLAIN))
    async with described(tmp_path, ComfyUI(hanging)) as (_, _, published, _):
        assert published.workflows == ["demo"]


async def test_a_folder_that_is_read_again_unchanged_costs_no_list_of_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with described(tmp_path) as (subject, library, published, _):

        async def changes() -> AsyncIterator[Changes]:
            for name in (None, None, "demo"):
                if name is not None:
                    (tmp_path / "workflows" / f"{name}.json").write_text(json.dumps(PLAIN))
                yield await library.reload()

        monkeypatch.setattr(library, "changes", changes)
        await subject.follow_folder()
        assert published.workflows == ["demo"]
        assert published.lists == 2  # at the start, and with the new workflow


async def test_a_comfyui_that_hangs_when_asked_is_published_as_what_it_becomes(
    tmp_path: Path,
) -> None:
    comfyui = ComfyUI(hanging, answering)
    async with described(tmp_path, comfyui) as (_, _, published, _):
        comfyui.become("ready", "1")
        while not comfyui.asked:  # noqa: ASYNC110 - it is asked in the next steps of the loop
            await asyncio.sleep(0)
        comfyui.become("unreachable")
        await published.until("unreachable")
        comfyui.become("ready", "2")  # another process is asked again
        assert await published.until("ready")


async def test_a_comfyui_that_hangs_when_asked_is_published_as_ready_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "DESCRIBED_WITHIN_S", 0.01)
    comfyui = ComfyUI(hanging)
    async with described(tmp_path, comfyui) as (_, _, published, _):
        comfyui.become("ready", "1")
        assert not await published.until("ready")


async def test_a_refresh_is_shared_and_ends_in_time_while_a_comfyui_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "REFRESH_WITHIN_S", 0.05)
    comfyui = ComfyUI(answering, hanging)
    async with described(tmp_path, comfyui) as (subject, _, published, _):
        comfyui.become("ready", "1")
        await published.until("ready")
        async with asyncio.timeout(PATIENCE_S):
            assert not any(await asyncio.gather(*(subject.refresh() for _ in range(256))))
            assert not await subject.refresh()
        assert comfyui.asked == 2


async def test_all_who_share_a_refresh_learn_what_came_of_it(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def slow() -> bytes:
        await go.wait()
        return INFO

    comfyui = ComfyUI(answering, slow, failing)
    async with described(tmp_path, comfyui) as (subject, _, published, _):
        comfyui.become("ready", "1")
        await published.until("ready")
        asking = [asyncio.create_task(subject.refresh()) for _ in range(3)]
        while comfyui.asked < 2:  # noqa: ASYNC110 - it is asked in the next steps of the loop
            await asyncio.sleep(0)
        asking[0].cancel()  # who gives up takes nothing from the others
        await asyncio.wait(asking[:1])
        go.set()
        assert await asyncio.gather(*asking[1:]) == [True, True]
        assert not await subject.refresh()  # not again so soon
        assert comfyui.asked == 2


async def test_one_comfyui_that_hangs_does_not_keep_back_what_another_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptions, "REFRESH_WITHIN_S", 0.05)
    stuck, fine = ComfyUI(answering, hanging, name="stuck"), ComfyUI(answering, name="fine")
    async with described(tmp_path, stuck, fine) as (subject, _, published, _):
        for comfyui in (stuck, fine):
            comfyui.become("ready", "1")
            await published.until("ready")
        async with asyncio.timeout(PATIENCE_S):
            assert await subject.refresh()


async def test_a_comfyui_that_answers_slowly_holds_up_requests_a_tenth_of_the_time() -> None:
    now, held_up_s, last = 0.0, 0.0, 0.0

    async def slow() -> bool:
        nonlocal now
        now += 4.9
        return True

    info = NodeInfo(slow, clock=lambda: now)
    while now < 1_000.0:
        began = now
        if await info.refresh():
            held_up_s += now - began
            last = now
        now += 0.5
    assert last > 900.0  # it is asked again and again
    assert 80.0 < held_up_s <= 110.0


async def test_the_first_report_of_a_process_keeps_no_request_from_asking_again() -> None:
    now = 0.0

    async def slow() -> bool:
        nonlocal now
        now += 4.9
        return True

    info = NodeInfo(slow, clock=lambda: now)
    await info.keep_trying()
    assert await info.refresh()
