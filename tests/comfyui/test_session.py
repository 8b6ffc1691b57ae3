"""Sessions and instances with a ComfyUI that fails where a test wants it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.comfyui import events
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import ComfyUIUnreachable, PromptRejected, StartFailed, UnexpectedAnswer
from bridge.comfyui.events import Event
from bridge.comfyui.health_policy import HealthPolicy
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.comfyui.state import Starting, StateName
from bridge.comfyui.supervisor import Running
from tests.comfyui.conftest import attached
from tests.support.comfyui import new_id
from tests.support.patience import PATIENCE_S
from tests.support.scripted import ScriptedComfyUI, scripted_comfyui

LISTED = {
    "node": "9",
    "index": 0,
    "name": "image",
    "content_type": "image/png",
    "size": 3,
    "sha256": "00",
}


@pytest.fixture
async def comfyui() -> AsyncIterator[ScriptedComfyUI]:
    async with scripted_comfyui() as comfyui:
        yield comfyui


@pytest.fixture
async def instance(comfyui: ScriptedComfyUI) -> AsyncIterator[Instance]:
    async with attached(comfyui.url, None) as instance:
        yield instance


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.comfyui.session._RETRY_S", 0.02)
    monkeypatch.setattr("bridge.comfyui.session._QUEUE_WAIT_S", 0.02)


async def rest(told: AsyncGenerator[Event, None]) -> list[Event]:
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in told]


async def submitted(instance: Instance, prompt_id: str) -> AsyncGenerator[Event, None]:
    """A prompt that ComfyUI has in its queue."""
    told = instance.execute(prompt_id, {})
    assert await anext(told) == events.Queued()
    return told


async def become(instance: Instance, state: StateName) -> None:
    """Wait until an instance has a state."""
    async with asyncio.timeout(PATIENCE_S):
        while instance.state.state != state:
            await instance.changed()


# -- the good path ------------------------------------------------------------------------------


async def test_a_prompt_is_followed_by_its_frames(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    prompt_id = new_id()
    async with aclosing(await submitted(instance, prompt_id)) as told:
        await comfyui.send("execution_start", prompt_id=prompt_id)
        await comfyui.send("executing", prompt_id=prompt_id, node="1", display_node="1")
        await comfyui.send("progress", prompt_id=prompt_id, node="1", value=1, max=2)
        await comfyui.send("execution_success", prompt_id=prompt_id)
        await comfyui.send("executing", prompt_id=prompt_id, node=None)
        assert await rest(told) == [
            events.Started(),
            events.NodeStarted("1", "1"),
            events.Step("1", 1.0, 2.0),
            events.Succeeded({}),
        ]
    assert instance.silence(prompt_id) is None
    # Nothing but the greeting and the prompt.
    assert [path for _, path, _ in comfyui.requests] == [
        "/system_stats",
        "/comfy2mqtt/hello",
        "/prompt",
    ]


async def test_the_state_follows_the_queue(instance: Instance, comfyui: ScriptedComfyUI) -> None:
    comfyui.pending = ["somebody's"]
    await comfyui.send_queue_length()
    await become(instance, "busy")
    assert (await instance.known()).foreign == ("somebody's",)
    comfyui.pending = []
    await comfyui.send_queue_length()
    await become(instance, "ready")


# -- stopping one prompt and no other -----------------------------------------------------------


async def test_a_prompt_of_somebody_else_is_never_interrupted(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running, comfyui.pending = ["somebody's"], ["ours", "another's"]
    assert await instance.cancel("ours")
    assert await instance.cancel("unknown")
    assert comfyui.asked("POST", "/interrupt") == []
    assert (comfyui.running, comfyui.pending) == (["somebody's"], ["another's"])


async def test_a_prompt_that_runs_is_interrupted_by_its_id(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running, comfyui.pending = ["ours"], ["somebody's"]
    assert await instance.cancel("ours")
    assert comfyui.asked("POST", "/interrupt") == [{"prompt_id": "ours"}]
    assert comfyui.interrupted == ["ours"]
    assert comfyui.pending == ["somebody's"]


async def test_an_interrupt_is_repeated_while_the_prompt_runs(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running = ["ours"]
    comfyui.faults["POST /interrupt"] = [200, 200]  # not heeded
    assert await instance.cancel("ours")
    assert len(comfyui.asked("POST", "/interrupt")) == 3


async def test_a_prompt_that_does_not_stop_in_time_is_reported_as_running(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running = ["ours"]
    comfyui.faults["POST /interrupt"] = [200] * 1000
    assert not await instance.cancel("ours", within_s=0.1)


async def test_a_cancel_survives_requests_that_fail(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running = ["ours"]
    comfyui.faults = {"POST /queue": [500], "GET /queue": [502], "POST /interrupt": [500]}
    assert await instance.cancel("ours")
    assert comfyui.interrupted == ["ours"]


async def test_a_cancel_gives_up_where_nothing_is_answered(
    instance: Instance, comfyui: ScriptedComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.comfyui.client._WITHDRAW_FAILING_S", 0.05)
    comfyui.faults["GET /queue"] = [500] * 1000
    with pytest.raises(UnexpectedAnswer):
        await instance.cancel("ours")


async def test_whoever_follows_a_cancelled_prompt_gets_its_end(
    instance: Instance,
) -> None:
    async with aclosing(await submitted(instance, "ours")) as told:
        assert await instance.cancel("ours")
        assert await rest(told) == [events.PromptInterrupted()]


async def test_a_prompt_goes_on_when_nobody_follows_it_any_more(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    told = await submitted(instance, "ours")
    await told.aclose()
    assert comfyui.pending == ["ours"]
    assert comfyui.asked("POST", "/queue") == []


# -- ending what does not get on ----------------------------------------------------------------


async def test_a_prompt_that_can_be_stopped_is(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running = ["ours"]
    assert await instance.end("ours", within_s=5) == "stopped"
    assert instance.state.usable


async def test_one_whose_prompt_does_not_stop_gets_no_more_until_it_is_over(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.running = ["ours"]
    comfyui.faults["POST /interrupt"] = [200] * 1000
    assert await instance.end("ours", within_s=0.1) == "hung"
    assert (instance.state.reason, instance.state.usable) == ("hung", False)
    with pytest.raises(ComfyUIUnreachable, match="takes no prompts"):
        instance.execute(new_id(), {})
    comfyui.running = []
    await comfyui.send_queue_length()
    async with asyncio.timeout(PATIENCE_S):
        await instance.ready()


async def test_one_that_does_not_greet_is_of_no_use(
    instance: Instance, comfyui: ScriptedComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.comfyui.instance._HELLO_S", 0.05)
    comfyui.hanging.add("GET /comfy2mqtt/hello")
    assert await instance.end("ours", within_s=5) == "useless"
    assert comfyui.asked("POST", "/interrupt") == []


async def test_one_whose_worker_has_ended_loses_its_prompts(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    assert comfyui.hello is not None
    async with aclosing(await submitted(instance, "ours")) as told:
        comfyui.hello["worker"] = False
        assert await instance.end("ours", within_s=5) == "useless"
        (end,) = await rest(told)
    assert isinstance(end, events.PromptLost)
    assert (instance.state.reason, instance.state.usable) == ("worker_dead", False)


async def test_a_silent_comfyui_is_asked_whether_its_worker_is_alive(
    comfyui: ScriptedComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.comfyui.instance._ASK_AFTER_S", 0.05)
    async with (
        attached(comfyui.url, None) as instance,
        aclosing(await submitted(instance, "ours")) as told,
    ):
        assert comfyui.hello is not None
        comfyui.hello["worker"] = False
        (end,) = await rest(told)
    assert isinstance(end, events.PromptLost)
    assert instance.state.reason == "worker_dead"


# -- refusals -----------------------------------------------------------------------------------

PARTLY_WRONG = {"7": {"errors": [], "dependent_outputs": ["7"], "class_type": "SaveImage"}}


async def test_a_prompt_refused_in_part_is_taken_back(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.node_errors = PARTLY_WRONG
    with pytest.raises(PromptRejected) as caught:
        await anext(instance.execute("ours", {}))
    assert set(caught.value.node_errors) == {"7"}
    assert comfyui.pending == []
    assert comfyui.asked("POST", "/history") == [{"delete": ["ours"]}]


async def test_a_prompt_refused_in_part_is_no_success_though_it_cannot_be_taken_back(
    instance: Instance, comfyui: ScriptedComfyUI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.comfyui.client._WITHDRAW_FAILING_S", 0.0)
    comfyui.node_errors = PARTLY_WRONG
    comfyui.faults["GET /queue"] = [None] * 1000
    with pytest.raises(PromptRejected):
        await anext(instance.execute("ours", {}))


# -- answers that say nothing of the prompt -----------------------------------------------------


@pytest.mark.parametrize("status", [200, 502, 504])
async def test_a_prompt_that_arrived_is_followed_whatever_a_proxy_answers(
    instance: Instance, comfyui: ScriptedComfyUI, status: int
) -> None:
    def arrived(request: str, body: Any) -> None:
        if request == "POST /prompt":
            comfyui.pending.append(body["prompt_id"])

    comfyui.on_request = arrived
    comfyui.faults["POST /prompt"] = [status]
    async with aclosing(await submitted(instance, "ours")) as told:
        comfyui.pending = []
        await comfyui.send("execution_start", prompt_id="ours")
        await comfyui.send("execution_success", prompt_id="ours")
        await comfyui.send("executing", prompt_id="ours", node=None)
        assert await rest(told) == [events.Started(), events.Succeeded({})]
    assert len(comfyui.asked("POST", "/prompt")) == 1


@pytest.mark.parametrize("status", [200, 403, 404, 500, 504])
async def test_a_prompt_that_never_arrived_ends_with_the_answer(
    instance: Instance, comfyui: ScriptedComfyUI, status: int
) -> None:
    comfyui.faults["POST /prompt"] = [status]
    with pytest.raises(UnexpectedAnswer):
        await anext(instance.execute("ours", {}))
    # A refusal needs no look at the queue.
    assert bool(comfyui.asked("GET", "/queue")) is (status not in (403, 404))


# -- cut sockets and failing questions ----------------------------------------------------------


async def test_a_prompt_that_ended_during_a_cut_is_found_in_the_history(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    async with aclosing(await submitted(instance, "ours")) as told:
        comfyui.pending = []
        comfyui.remembers("ours", {"9": {"comfy2mqtt": [LISTED]}})
        comfyui.outputs["ours", "9", 0] = b"png"
        await comfyui.cut()
        started, output, executed, end = await rest(told)
    assert isinstance(started, events.Started)
    assert isinstance(output, events.NodeOutput)
    assert output.data == b"png"
    assert isinstance(executed, events.Executed)
    assert isinstance(end, events.Succeeded)
    # A cut that is over at once is not reported.
    assert instance.state.last_error is None


async def test_what_is_asked_after_a_cut_is_asked_until_it_is_answered(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    async with aclosing(await submitted(instance, "ours")) as told:
        comfyui.pending = []
        comfyui.remembers("ours", {"9": {"comfy2mqtt": [LISTED]}})
        comfyui.outputs["ours", "9", 0] = b"png"
        comfyui.faults = {
            "GET /queue": [500, None, None],
            "GET /history/ours": [502, None, None],
            "GET /comfy2mqtt/outputs/ours/9/0": [500, None, None, 503],
        }
        await comfyui.cut()
        assert isinstance((await rest(told))[-1], events.Succeeded)
    assert not any(comfyui.faults.values())


async def test_an_output_that_had_to_go_makes_the_prompt_lost(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.remembers("ours", {"9": {"comfy2mqtt": [LISTED]}})
    comfyui.faults["GET /comfy2mqtt/outputs/ours/9/0"] = [410]
    assert isinstance((await rest(instance.adopt("ours")))[-1], events.PromptLost)


async def test_one_answer_that_cannot_be_read_holds_up_no_other_prompt(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.history["broken"] = "garbage"
    comfyui.remembers("whole")
    async with (
        aclosing(instance.adopt("broken")) as broken,
        aclosing(instance.adopt("whole")) as whole,
    ):
        first = asyncio.create_task(anext(broken))
        assert isinstance((await rest(whole))[-1], events.Succeeded)
        comfyui.remembers("broken")
        assert await first == events.Queued()
        assert isinstance((await rest(broken))[-1], events.Succeeded)


async def test_what_comfyui_neither_queues_nor_remembers_is_lost(instance: Instance) -> None:
    (end,) = await rest(instance.adopt("unknown"))
    assert isinstance(end, events.PromptLost)


async def test_a_submission_whose_answer_is_lost_is_looked_for(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    comfyui.faults["POST /prompt"] = [None]
    comfyui.pending = ["ours"]  # it arrived nevertheless
    async with aclosing(instance.execute("ours", {})) as told:
        assert await anext(told) == events.Queued()
    assert comfyui.asked("POST", "/prompt")


async def test_a_comfyui_that_comes_back_after_failing_to_greet_is_used(
    comfyui: ScriptedComfyUI,
) -> None:
    comfyui.faults = {"GET /system_stats": [500], "GET /comfy2mqtt/hello": [403, 502]}
    async with attached(comfyui.url, None) as instance:
        assert instance.state.usable
        assert instance.state.reason in ("forbidden", "unexpected_answer")
        assert (instance.state.version, instance.state.epoch) == ("0.0", "1")


async def test_a_comfyui_without_our_nodes_has_no_name_for_its_process(
    comfyui: ScriptedComfyUI,
) -> None:
    comfyui.hello = None
    async with attached(comfyui.url, None) as instance:
        assert instance.state.epoch is None
        await instance.forget(["ours"])
    assert comfyui.asked("DELETE", "/comfy2mqtt/outputs/ours") == []
    assert comfyui.asked("POST", "/history") == [{"delete": ["ours"]}]


async def test_another_process_in_its_place_has_lost_the_prompts(
    comfyui: ScriptedComfyUI, instance: Instance
) -> None:
    assert comfyui.hello is not None
    async with aclosing(await submitted(instance, "ours")) as told:
        comfyui.pending = []
        comfyui.hello["process"] = "another"
        comfyui.faults["GET /system_stats"] = [None] * 3  # away for a while
        await comfyui.cut()
        (end,) = await rest(told)
    assert isinstance(end, events.PromptLost)
    assert (instance.state.epoch, instance.state.usable) == ("another", True)
    async with aclosing(await submitted(instance, "next")) as told:
        comfyui.remembers("next")
        comfyui.pending = []
        await comfyui.send_queue_length()
        await comfyui.send("execution_success", prompt_id="next")
        await comfyui.send("executing", prompt_id="next", node=None)
        assert await rest(told) == [events.Succeeded({})]


async def test_one_that_is_gone_is_unreachable_and_takes_nothing(
    comfyui: ScriptedComfyUI, instance: Instance
) -> None:
    comfyui.faults["GET /system_stats"] = [None] * 1000
    await comfyui.cut()
    await become(instance, "unreachable")
    with pytest.raises(ComfyUIUnreachable) as caught:
        await anext(instance.execute(new_id(), {}))
    assert not caught.value.sent


async def test_before_it_runs_it_has_no_session(tmp_path: Path) -> None:
    instance = Instance("main", AttachConfig("http://127.0.0.1:1"), folder=tmp_path)
    assert instance.output_folder is None
    assert instance.silence("ours") is None
    with pytest.raises(ComfyUIUnreachable):
        await instance.known()
    for order in (instance.start, instance.stop, instance.restart):
        order()  # an attached one is not ours to start and stop
    assert instance.state.state == "stopped"


# -- leaving it to others -----------------------------------------------------------------------


async def test_one_that_yields_is_vacated_once_its_prompts_have_ended(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    async with aclosing(await submitted(instance, "ours")) as told:
        instance.yield_()
        assert not instance.state.usable
        for _ in range(10):
            await asyncio.sleep(0)
        assert instance.state.state != "yielded"
        assert await instance.cancel("ours")
        await rest(told)
    await become(instance, "yielded")
    assert comfyui.asked("POST", "/free") == []  # it is not ours
    instance.resume()
    async with asyncio.timeout(PATIENCE_S):
        await instance.ready()
    instance.yield_()
    await become(instance, "yielded")


# -- one of our own -----------------------------------------------------------------------------


@asynccontextmanager
async def supervised(
    comfyui: ScriptedComfyUI, folder: Path, health: HealthPolicy | None = None
) -> AsyncIterator[tuple[Instance, asyncio.Task[None]]]:
    """An instance whose process is the scripted one, and what uses it while it lives."""
    config = SuperviseConfig(path=folder, python=folder)
    instance = Instance("main", config, folder=folder, health=health)
    instance._handle(Starting())
    running = Running(base_url=comfyui.url, secret="", pid=1, epoch="one")
    attending = asyncio.create_task(instance._attend_child(running))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await instance.ready()
            yield instance, attending
    finally:
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)


@pytest.fixture
def short_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.comfyui.instance._FREE_RETRY_FIRST_S", 0.01)
    monkeypatch.setattr("bridge.comfyui.health_policy.UNLOAD_RETRY_S", 0.01)


@pytest.mark.usefixtures("short_retries")
async def test_one_that_yields_is_asked_to_free_its_memory_until_it_does(
    comfyui: ScriptedComfyUI, tmp_path: Path
) -> None:
    async with supervised(comfyui, tmp_path) as (instance, _):
        assert instance.state.epoch == "one"
        comfyui.faults["POST /free"] = [500, None, 503]
        instance.yield_()
        await become(instance, "yielded")
        assert instance.state.unloads == 1
    assert len(comfyui.asked("POST", "/free")) == 4


async def test_one_that_is_resumed_is_not_asked_to_free_its_memory_any_more(
    comfyui: ScriptedComfyUI, tmp_path: Path
) -> None:
    async with supervised(comfyui, tmp_path) as (instance, _):
        comfyui.faults["POST /free"] = [500]
        asked = asyncio.Event()
        comfyui.on_request = lambda *_: asked.set()
        instance.yield_()
        await asked.wait()
        instance.resume()
        await instance.ready()
        assert (instance.state.state, instance.state.unloads) == ("ready", 0)


@pytest.mark.usefixtures("short_retries")
async def test_an_idle_one_is_asked_to_unload_its_models_until_it_does(
    comfyui: ScriptedComfyUI, tmp_path: Path
) -> None:
    comfyui.faults["POST /free"] = [500, 500]
    async with supervised(comfyui, tmp_path, HealthPolicy(idle_unload_s=0.01)) as (instance, _):
        while not instance.state.unloads:
            await instance.changed()
    assert len(comfyui.asked("POST", "/free")) == 3


async def test_one_that_is_away_for_too_long_is_given_up(
    comfyui: ScriptedComfyUI, tmp_path: Path
) -> None:
    health = HealthPolicy(silence_s=0.05)
    async with supervised(comfyui, tmp_path, health) as (_, attending):
        comfyui.faults["GET /system_stats"] = [None] * 1000
        await comfyui.cut()
        with pytest.raises(StartFailed) as caught:
            await attending
    assert caught.value.failure == "frozen"


async def test_one_whose_worker_has_ended_is_given_up(
    comfyui: ScriptedComfyUI, tmp_path: Path
) -> None:
    assert comfyui.hello is not None
    async with supervised(comfyui, tmp_path) as (instance, attending):
        comfyui.hello["worker"] = False
        assert await instance.end("ours", within_s=5) == "useless"
        with pytest.raises(StartFailed) as caught:
            await attending
    assert caught.value.failure == "worker_dead"


# -- cleaning up --------------------------------------------------------------------------------


async def test_what_comfyui_keeps_of_prompts_that_are_over_is_deleted(
    instance: Instance, comfyui: ScriptedComfyUI
) -> None:
    instance.clean_up("a", None)
    instance.clean_up("b", "comfy2mqtt/b")  # on a disk that is not ours
    await instance.finish_cleanup()
    assert comfyui.asked("DELETE", "/comfy2mqtt/outputs/a,b") == [b""]
    assert comfyui.asked("POST", "/history") == [{"delete": ["a", "b"]}]


# -- uploads ------------------------------------------------------------------------------------


async def test_a_cancelled_upload_ends_at_once_and_its_connection_is_not_used_again(
    comfyui: ScriptedComfyUI,
) -> None:
    comfyui.hanging.add("POST /upload/image")
    arrived = asyncio.Event()
    comfyui.on_request = lambda *_: arrived.set()
    async with ComfyClient(comfyui.url) as client:
        uploading = asyncio.create_task(client.upload_image(b"x" * 1000, "a.png"))
        await arrived.wait()
        uploading.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([uploading])
        assert uploading.cancelled()
        assert (await client.queue()).running == ()
