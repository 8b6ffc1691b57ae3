"""Admin commands, on ComfyUIs that do not run and a real queue."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.comfyui.state import InstanceState
from bridge.contract.errors import BadRequest, Conflict
from bridge.contract.messages import encode
from bridge.contract.operator import (
    GpuReport,
    HealthReport,
    ReleaseGpu,
    ReloadReport,
    RequestGpu,
)
from bridge.contract.retained import ComfyUIRelease, GpuLease
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.job import Job
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.logs import LINES, FloodFilter
from bridge.requests.context import Answer
from bridge.requests.operator import Operator, comfyui_state
from tests.jobs.dispatching import RunningDispatcher, running_dispatcher
from tests.jobs.drafts import draft


class Releases:
    """Releases of one ComfyUI; one is being installed after the first command."""

    def __init__(self, *instances: Instance) -> None:
        self.instances = instances
        self.ordered: list[str | None] = []

    def check(self) -> None:
        self.ordered.append("look")

    def install(self, version: str | None) -> None:
        if self.ordered:
            raise Conflict("another release is being installed")
        self.ordered.append(version)


class Stand(NamedTuple):
    operator: Operator
    dispatcher: RunningDispatcher
    instances: list[Instance]
    pauses: list[bool]
    releases: Releases

    async def answer(self, verb: str, **fields: Any) -> Answer:
        return await self.operator.handle(verb, json.dumps(fields).encode(), None)

    async def data(self, verb: str, **fields: Any) -> Any:
        answer = await self.answer(verb, **fields)
        assert answer.error is None, answer.error
        return msgspec.json.decode(encode(answer.data))

    async def error(self, verb: str, **fields: Any) -> tuple[str, Any]:
        answer = await self.answer(verb, **fields)
        assert answer.error is not None
        return answer.error.code, answer.error.details


async def reload() -> ReloadReport:
    return ReloadReport(workflows=["demo"], broken=[], waiting=[])


def health() -> HealthReport:
    raise KeyError("/secret/path")


class Gpus:
    """Locks that give whoever asks what is asked for."""

    async def execute(self, command: RequestGpu | ReleaseGpu) -> GpuReport:
        if command.gpu is not UNSET:
            raise BadRequest(f"there is no GPU {command.gpu!r}", field="gpu", allowed=["card"])
        given = isinstance(command, RequestGpu)
        lease = GpuLease(gpu="card", holder=command.holder if given else UNSET)
        return GpuReport(done=True, lease=lease)


def operator_of(
    instances: Sequence[Instance], dispatcher: RunningDispatcher, **others: Any
) -> Operator:
    return Operator(
        instances=instances,
        dispatcher=dispatcher,
        reload=reload,
        health=health,
        gpus=Gpus(),
        **others,
    )


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    ours = SuperviseConfig(tmp_path, Path("python3"), ())
    theirs = AttachConfig("http://127.0.0.1:1", None)
    instances = [
        Instance("ours", ours, folder=tmp_path / "ours"),
        Instance("theirs", theirs, folder=tmp_path / "theirs"),
    ]
    async with running_dispatcher(tmp_path) as dispatcher:
        pauses: list[bool] = []
        releases = Releases(instances[0])
        operator = operator_of(
            instances,
            dispatcher,
            pause_changed=lambda: pauses.append(dispatcher.book.paused),
            updates=releases,
        )
        yield Stand(operator, dispatcher, instances, pauses, releases)


async def test_an_order_that_meets_a_defect_is_answered(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await stand.operator.handle("health_check", b'{"transaction": "t"}', None)
    assert answer.error is not None
    assert (answer.error.code, answer.transaction) == ("bridge_error", "t")
    assert "/secret/path" not in answer.error.message
    assert "/secret/path" in caplog.text


async def test_each_order_is_logged_whatever_was_logged_before(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="bridge")
    await stand.data("queue/pause")
    (order,) = (each for each in caplog.records if "operator command" in each.getMessage())
    flood = FloodFilter()
    assert all(flood.filter(order) for _ in range(LINES + 1))


async def test_an_order_that_cannot_be_written_is_busy(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise DatabaseError("db is away")

    monkeypatch.setattr(stand.dispatcher, "pause", away)
    assert (await stand.error("queue/pause"))[0] == "busy"


async def test_an_order_to_a_bridge_that_was_taken_for_dead_is_left_to_the_others(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fenced() -> None:
        raise LeaseLost("this bridge was counted as dead")

    monkeypatch.setattr(stand.dispatcher, "pause", fenced)
    with pytest.raises(LeaseLost):
        await stand.answer("queue/pause")
    assert caplog.text == ""


async def test_an_order_that_cannot_be_decoded_is_refused(stand: Stand) -> None:
    assert (await stand.error("dance"))[0] == "bad_request"
    assert (await stand.error("queue/list", limit=0))[0] == "bad_request"


async def test_commands_to_start_and_stop_are_for_the_comfyuis_that_are_ours(stand: Stand) -> None:
    for verb in ("stop", "restart", "start"):
        assert list((await stand.data(f"comfyui/{verb}"))["instances"]) == ["ours"]
    code, details = await stand.error("comfyui/stop", instance="theirs")
    assert (code, details["instance"]) == ("forbidden", "theirs")
    code, details = await stand.error("comfyui/stop", instance="none")
    assert (code, details["allowed"]) == ("bad_request", ["ours", "theirs"])


async def test_a_link_is_to_one_comfyui_that_runs_and_is_ours(stand: Stand) -> None:
    code, details = await stand.error("comfyui/open", instance="theirs")
    assert (code, details["instance"]) == ("forbidden", "theirs")
    assert (await stand.error("comfyui/open"))[0] == "comfyui_unavailable"


async def test_any_comfyui_can_be_asked_to_yield_and_resume(stand: Stand) -> None:
    yielded = await stand.data("comfyui/yield", finish=True)
    assert sorted(yielded["instances"]) == ["ours", "theirs"]
    resumed = await stand.data("comfyui/resume", instance="theirs")
    assert list(resumed["instances"]) == ["theirs"]


def test_one_that_is_to_yield_says_so_until_it_is_yielded() -> None:
    busy = InstanceState(state="busy", since=1.0, yielding=True, closed=True)
    assert comfyui_state(busy).yielding is True
    assert not comfyui_state(busy).takes_jobs
    assert comfyui_state(replace(busy, state="yielded")).yielding is UNSET
    assert comfyui_state(replace(busy, yielding=False)).takes_jobs


async def test_a_switch_yields_and_resumes_by_one_topic(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    theirs = stand.instances[1]
    monkeypatch.setattr(theirs, "yield_", lambda: done.append("yielded"))
    monkeypatch.setattr(theirs, "resume", lambda: done.append("resumed"))
    for yielded in (True, False):
        await stand.data("comfyui/yield", instance="theirs", yielded=yielded)
    assert done == ["yielded", "resumed"]


async def test_memory_that_cannot_be_freed_is_reported_of_the_one_that_was_named(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await stand.error("comfyui/free", instance="ours"))[0] == "comfyui_unavailable"
    assert caplog.text == ""


async def test_the_queue_is_listed_paused_resumed_and_cleared(stand: Stand) -> None:
    for number in range(3):
        await stand.dispatcher.take(f"j{number}")
    report = await stand.data("queue/list", limit=2)
    assert (report["queued"], report["paused"], report["more"]) == (3, False, True)
    assert [(job["job_id"], job["position"]) for job in report["jobs"]] == [("j0", 0), ("j1", 1)]
    assert not (await stand.data("queue/list", client="bob"))["jobs"]
    assert (await stand.data("queue/pause"))["paused"]
    assert (await stand.data("queue/list"))["paused"]
    assert not (await stand.data("queue/resume"))["paused"]
    # A switch has one topic for both.
    assert (await stand.data("queue/pause", paused=True))["paused"]
    assert not (await stand.data("queue/pause", paused=False))["paused"]
    assert not (await stand.data("queue/list"))["paused"]
    assert stand.pauses == [True, False, True, False]
    assert await stand.data("queue/clear", client="bob") == {"cancelled": 0}
    assert await stand.data("queue/clear") == {"cancelled": 3}
    assert (await stand.dispatcher.recorder.outcome("j0"))["state"] == "cancelled"


async def test_the_queue_says_why_no_job_starts(stand: Stand) -> None:
    await stand.dispatcher.take("j0")
    assert "held" not in await stand.data("queue/list")
    stand.dispatcher.book.unwritten |= {Key("alice", f"ended-{number}") for number in range(3)}
    reason = "the outcomes of earlier jobs cannot be stored at present"
    assert (await stand.data("queue/list"))["held"] == reason


async def test_prompts_in_quarantine_are_released(stand: Stand) -> None:
    prompt: dict[str, Any] = {"1": {"class_type": "Bad", "inputs": {}}}
    for _ in range(2):
        stand.dispatcher.quarantine.ended(prompt, "it crashed", 1.0)
    assert await stand.data("queue/release") == {"released": 1}
    assert await stand.data("queue/release") == {"released": 0}


async def test_workflows_are_read_again_and_the_level_of_the_log_is_set(stand: Stand) -> None:
    assert (await stand.data("workflows/reload"))["workflows"] == ["demo"]
    logger = logging.getLogger("bridge")
    before = logger.level
    try:
        assert await stand.data("log_level", level="debug") == {"level": "debug"}
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(before)


async def test_in_a_group_the_queue_has_what_other_bridges_run(
    stand: Stand, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "other" / "journal.db")
    await journal.open()
    theirs = (await journal.accept(draft("theirs", "bob"), 1.0)).record.job
    await journal.close()
    theirs = replace(theirs, state="running", instance="b-default")

    async def elsewhere() -> list[Job]:
        return [theirs]

    operator = operator_of(stand.instances, stand.dispatcher, elsewhere=elsewhere)
    group = stand._replace(operator=operator)
    listed = await group.data("queue/list")
    assert listed["running"] == 1
    (job,) = listed["jobs"]
    assert (job["client"], job["job_id"], job["instance"]) == ("bob", "theirs", "b-default")
    assert (await group.data("queue/list", client="alice"))["jobs"] == []
    assert (await stand.data("queue/list"))["jobs"] == []


async def test_what_other_bridges_of_a_group_may_do_is_not_forbidden_for_an_attached_comfyui(
    stand: Stand,
) -> None:
    async def elsewhere() -> list[Job]:
        return []

    attached = stand.instances[1:]
    for claimed, expected in ((elsewhere, None), (None, "forbidden")):
        operator = operator_of(attached, stand.dispatcher, elsewhere=claimed)
        bridge = stand._replace(operator=operator)
        answer = await bridge.answer("comfyui/free")
        assert (answer.error and answer.error.code) == expected
        assert (await bridge.error("comfyui/free", instance="theirs"))[0] == "forbidden"
        assert (await bridge.error("comfyui/open"))[0] == "forbidden"
        if claimed is not None:
            assert msgspec.json.decode(encode(answer.data)) == {"instances": {}}


async def test_an_order_for_the_comfyui_of_a_bridge_that_is_gone_says_that(stand: Stand) -> None:
    operator = operator_of(
        stand.instances, stand.dispatcher, is_away=lambda name: name == "b-default"
    )
    group = stand._replace(operator=operator)
    code, details = await group.error("comfyui/yield", instance="b-default")
    assert (code, details) == ("comfyui_unavailable", {"instance": "b-default"})
    assert (await group.error("comfyui/yield", instance="nobody"))[0] == "bad_request"


async def test_another_program_asks_for_a_gpu_and_gives_it_back(stand: Stand) -> None:
    given = await stand.data("gpu/request", holder="games", for_s=60)
    assert (given["done"], given["lease"]["holder"]) == (True, "games")
    answer = await stand.operator.handle("gpu/release", b"games", None)
    assert answer.error is None  # a text is the holder
    assert (await stand.error("gpu/request", holder="games", gpu="other"))[0] == "bad_request"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"holder": "a/b"},
        {"holder": "games", "for_s": 0},
        {"holder": "games", "for_s": 1e9},
        {"holder": "games", "for_s": "long"},
        {"holder": "games", "priority": 101},
        {"holder": "games", "wait_s": -1},
        {"holder": "games", "gpu": "../card"},
        {"holder": "games", "unknown": 1},
    ],
)
async def test_a_request_for_a_gpu_that_makes_no_sense_is_refused(
    stand: Stand, fields: dict[str, Any]
) -> None:
    assert (await stand.error("gpu/request", **fields))[0] == "bad_request"


async def test_an_update_is_begun_for_those_that_share_the_install_and_answered_at_once(
    stand: Stand,
) -> None:
    assert list((await stand.data("comfyui/update", version="0.10.0"))["instances"]) == ["ours"]
    assert stand.releases.ordered == ["0.10.0"]
    assert (await stand.error("comfyui/update"))[0] == "conflict"
    stand.releases.ordered.clear()
    await stand.data("comfyui/update", instance="ours")
    await stand.data("comfyui/update", install=False)
    assert stand.releases.ordered == [None, "look"]
    # An attached one is not ours to update.
    assert (await stand.error("comfyui/update", instance="theirs"))[0] == "forbidden"
    stand.instances[0].note_release(ComfyUIRelease(installed="0.9.0", latest="0.10.0"))
    shown = (await stand.data("comfyui/stop"))["instances"]["ours"]
    assert shown["release"] == {"installed": "0.9.0", "latest": "0.10.0"}


async def test_without_the_setting_nothing_is_updated(stand: Stand) -> None:
    stand.operator._updates = None
    for command in ({}, {"install": False}, {"version": "0.10.0"}):
        code, _ = await stand.error("comfyui/update", **command)
        assert code == "forbidden"
    assert stand.releases.ordered == []
