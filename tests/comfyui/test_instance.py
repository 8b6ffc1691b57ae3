from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from bridge.comfyui import events
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import AlreadyFollowed, ComfyUIUnreachable, PromptRejected
from bridge.comfyui.events import Event
from bridge.comfyui.instance import Instance
from tests.comfyui.conftest import attached
from tests.support.comfyui import (
    Graph,
    Server,
    image,
    new_id,
    our_output,
    over_the_socket,
    saved,
    slow_image,
    then,
)
from tests.support.tcpproxy import TcpProxy

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(120)]


async def ran(instance: Instance, graph: Graph, *, preview: bool = False) -> list[Event]:
    return [event async for event in instance.execute(new_id(), graph, preview=preview)]


def kinds(told: list[Event]) -> list[str]:
    return [type(event).__name__ for event in told]


def only(told: list[Event], kind: type[Event]) -> list[Event]:
    return [event for event in told if isinstance(event, kind)]


async def ended_upstream(comfyui: Server, prompt_id: str) -> None:
    """Wait until a prompt is over at ComfyUI itself, whatever its follower knows."""
    async with (
        attached(comfyui.url, comfyui.secret) as observer,
        aclosing(observer.adopt(prompt_id)) as told,
    ):
        async for _ in told:
            pass


async def away(far_instance: Instance, proxy: TcpProxy) -> None:
    """Cut the connection, and wait until the instance knows that there is none."""
    seen = far_instance.state
    proxy.close()
    while seen.state != "unreachable":
        seen = await far_instance.changed(seen)


# -- the good path ------------------------------------------------------------------------------


async def test_a_prompt_is_reported_from_the_queue_to_its_success(instance: Instance) -> None:
    told = await ran(instance, our_output(image()))
    assert kinds(told) == [
        "Queued",
        "Started",
        "NodeStarted",
        "NodeStarted",
        "NodeOutput",
        "Executed",
        "Succeeded",
    ]


async def test_an_output_of_ours_comes_with_the_bytes_it_describes(instance: Instance) -> None:
    told = await ran(instance, our_output(image(size=32)))
    (output,) = only(told, events.NodeOutput)
    assert isinstance(output, events.NodeOutput)
    header = output.header
    assert (header.node, header.index, header.name) == ("2", 0, "image")
    assert (header.content_type, header.width, header.height) == ("image/png", 32, 32)
    assert bytes(output.data).startswith(b"\x89PNG")
    assert header.size == len(output.data)


async def test_a_success_has_what_the_history_holds(instance: Instance) -> None:
    prompt_id = new_id()
    told = [event async for event in instance.execute(prompt_id, saved(image()))]
    entry = await instance.client.history(prompt_id)
    assert entry is not None
    assert told[-1] == events.Succeeded(entry.outputs)


async def test_a_cached_run_reports_its_outputs_too(instance: Instance) -> None:
    graph = saved(image())
    await ran(instance, graph)
    told = await ran(instance, graph)
    assert kinds(told) == ["Queued", "Started", "Cached", "Executed", "Succeeded"]
    assert told[2] == events.Cached(("1", "2"))


async def test_results_of_save_image_websocket_are_no_previews(instance: Instance) -> None:
    told = await ran(instance, over_the_socket(image(count=3)), preview=True)
    images = only(told, events.SocketImage)
    assert [image.index for image in images if isinstance(image, events.SocketImage)] == [0, 1, 2]
    assert not only(told, events.PromptPreview)


async def test_steps_and_previews_belong_to_their_node(instance: Instance) -> None:
    told = await ran(
        instance,
        saved(then(image(), "TestProgress", count=20, rate=0.0, preview_size=32)),
        preview=True,
    )
    steps = [event for event in told if isinstance(event, events.Step)]
    assert [(step.node, step.value, step.maximum) for step in steps] == [
        ("2", float(value), 20.0) for value in range(1, 21)
    ]
    previews = [event for event in told if isinstance(event, events.PromptPreview)]
    assert {(preview.node, preview.content_type) for preview in previews} == {("2", "image/jpeg")}


async def test_previews_nobody_asked_for_are_not_passed_on(instance: Instance) -> None:
    graph = saved(then(image(), "TestProgress", count=3, rate=0.0, preview_size=32))
    assert not only(await ran(instance, graph), events.PromptPreview)


async def test_a_failing_node_is_reported_with_its_exception(instance: Instance) -> None:
    told = await ran(instance, saved(then(image(), "TestRaise", message="on purpose")))
    failed = told[-1]
    assert isinstance(failed, events.Failed)
    assert (failed.exception_type, failed.node, failed.class_type) == (
        "RuntimeError",
        "2",
        "TestRaise",
    )
    assert "on purpose" in failed.message
    assert failed.traceback


async def test_a_slow_consumer_misses_nothing_and_holds_nobody_up(instance: Instance) -> None:
    graph = saved(then(image(), "TestProgress", count=2000, rate=0.0, preview_size=8))
    told: list[Event] = []
    async with aclosing(instance.execute(new_id(), graph, preview=True)) as slow:
        async for event in slow:
            told.append(event)
            if isinstance(event, events.Started):
                # Others' prompts wait for this one's end, not for its consumer.
                await ran(instance, our_output(image()))
    assert len(only(told, events.Step)) == 2000
    assert len(only(told, events.PromptPreview)) == 1
    assert isinstance(told[-1], events.Succeeded)


async def test_two_prompts_get_no_events_of_each_other(instance: Instance) -> None:
    first, second = await asyncio.gather(
        ran(instance, our_output(image(size=32))), ran(instance, our_output(image(size=48)))
    )
    for told, size in ((first, 32), (second, 48)):
        (output,) = only(told, events.NodeOutput)
        assert isinstance(output, events.NodeOutput)
        assert output.header.width == size


async def test_a_prompt_has_one_follower(instance: Instance) -> None:
    prompt_id = new_id()
    graph = saved(slow_image(60.0))
    async with aclosing(instance.execute(prompt_id, graph)) as told:
        await anext(told)
        with pytest.raises(AlreadyFollowed):
            await anext(instance.execute(prompt_id, graph))
        with pytest.raises(AlreadyFollowed):
            await anext(instance.adopt(prompt_id))
        assert await instance.cancel(prompt_id)


# -- refusals -----------------------------------------------------------------------------------


async def test_a_refused_prompt_raises_and_leaves_nothing(instance: Instance) -> None:
    prompt_id = new_id()
    with pytest.raises(PromptRejected) as caught:
        await anext(instance.execute(prompt_id, saved(image(size=-1))))
    problems = caught.value.node_errors["1"]
    assert problems.class_type == "TestImage"
    assert {problem.type for problem in problems.errors} == {"value_smaller_than_min"}
    assert prompt_id not in (await instance.known()).pending
    assert instance.silence(prompt_id) is None


async def test_a_prompt_refused_in_part_is_refused_and_taken_back(instance: Instance) -> None:
    prompt_id = new_id()
    graph = saved(slow_image(60.0))
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}}
    with pytest.raises(PromptRejected) as caught:
        await anext(instance.execute(prompt_id, graph))
    assert set(caught.value.node_errors) == {"9"}
    known = await instance.known()
    assert prompt_id not in (*known.running, *known.pending)
    assert await instance.client.history(prompt_id) is None


# -- cancelling ---------------------------------------------------------------------------------


async def started(told: AsyncIterator[Event]) -> None:
    """Draw events until the prompt runs."""
    async for event in told:
        if isinstance(event, events.Step):
            return


async def test_cancelling_stops_the_running_prompt_and_no_other(instance: Instance) -> None:
    running, waiting = new_id(), new_id()
    slow = instance.execute(running, saved(slow_image(60.0)))
    behind = instance.execute(waiting, our_output(image()))
    async with aclosing(slow), aclosing(behind):
        await started(slow)
        await anext(behind)
        assert await instance.cancel(running)
        assert [event async for event in slow][-1] == events.PromptInterrupted()
        assert isinstance([event async for event in behind][-1], events.Succeeded)


async def test_cancelling_takes_a_waiting_prompt_out_of_the_queue(instance: Instance) -> None:
    running, waiting = new_id(), new_id()
    slow = instance.execute(running, saved(slow_image(60.0)))
    behind = instance.execute(waiting, our_output(image()))
    async with aclosing(slow), aclosing(behind):
        await started(slow)
        await anext(behind)
        assert await instance.cancel(waiting)
        assert [event async for event in behind] == [events.PromptInterrupted()]
        assert (await instance.known()).running == (running,)
        assert await instance.cancel(running)


async def test_cancelling_what_nobody_knows_is_done_at_once(instance: Instance) -> None:
    assert await instance.cancel(new_id())


async def test_a_prompt_that_cannot_be_stopped_in_time_is_reported_as_running(
    instance: Instance,
) -> None:
    prompt_id = new_id()
    graph = saved(then(image(), "TestHang", seconds=2))
    async with aclosing(instance.execute(prompt_id, graph)) as told:
        async for event in told:
            if isinstance(event, events.NodeStarted) and event.node == "2":
                break
        assert not await instance.cancel(prompt_id, within_s=0.2)
        assert [event async for event in told][-1] == events.PromptInterrupted()


# -- a prompt that vanishes ---------------------------------------------------------------------


async def test_a_prompt_wiped_from_the_queue_by_somebody_is_lost(
    instance: Instance, comfyui: Server
) -> None:
    running, waiting = new_id(), new_id()
    slow = instance.execute(running, saved(slow_image(60.0)))
    behind = instance.execute(waiting, our_output(image()))
    async with (
        aclosing(slow),
        aclosing(behind),
        ComfyClient(comfyui.url, secret=comfyui.secret) as somebody,
    ):
        await started(slow)
        await anext(behind)
        await somebody.delete_pending((waiting,))
        assert await instance.cancel(running)
        assert kinds([event async for event in behind]) == ["PromptLost"]


# -- a cut socket -------------------------------------------------------------------------------


async def test_a_cut_while_a_prompt_waits_loses_nothing(
    far_instance: Instance, instance: Instance, proxy: TcpProxy
) -> None:
    running, waiting = new_id(), new_id()
    slow = instance.execute(running, saved(slow_image(60.0)))
    cut = far_instance.execute(waiting, our_output(image()))
    async with aclosing(slow), aclosing(cut):
        await started(slow)
        assert await anext(cut) == events.Queued()
        proxy.cut()
        assert await instance.cancel(running)
        assert kinds([event async for event in cut]) == [
            "Started",
            "NodeOutput",
            "Executed",
            "Succeeded",
        ]


async def test_a_cut_before_the_output_loses_nothing(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    graph = our_output(slow_image(0.5))
    told: list[Event] = []
    async with aclosing(far_instance.execute(new_id(), graph)) as events_told:
        async for event in events_told:
            told.append(event)
            if isinstance(event, events.Step) and event.value == 2:
                proxy.cut()
    assert kinds(told)[-3:] == ["NodeOutput", "Executed", "Succeeded"]
    assert len(only(told, events.NodeOutput)) == 1


async def test_a_cut_in_the_middle_of_an_output_loses_nothing(
    far_instance: Instance, proxy: TcpProxy, comfyui: Server
) -> None:
    prompt_id = new_id()
    told: list[Event] = []
    async with aclosing(far_instance.execute(prompt_id, our_output(image(size=512)))) as cut:
        proxy.close_after(400_000)
        told.append(await anext(cut))
        await proxy.was_closed()
        await ended_upstream(comfyui, prompt_id)
        proxy.open()
        told += [event async for event in cut]
    (output,) = only(told, events.NodeOutput)
    assert isinstance(output, events.NodeOutput)
    assert output.header.size == len(output.data) > 400_000
    assert isinstance(told[-1], events.Succeeded)


async def test_a_cut_after_the_output_gives_it_once(
    far_instance: Instance, proxy: TcpProxy, comfyui: Server
) -> None:
    prompt_id = new_id()
    graph = our_output(image())
    graph["3"] = {
        "class_type": "TestSleep",
        "inputs": {"image": ["1", 0], "seconds": 0.3, "step": 0.05},
    }
    graph["4"] = {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}
    told: list[Event] = []
    async with aclosing(far_instance.execute(prompt_id, graph)) as cut:
        async for event in cut:
            told.append(event)
            if isinstance(event, events.Executed) and event.node == "2":
                proxy.close()
                await ended_upstream(comfyui, prompt_id)
                proxy.open()
    assert len(only(told, events.NodeOutput)) == 1
    assert {event.node for event in told if isinstance(event, events.Executed)} == {"2", "4"}
    assert kinds(told)[-1] == "Succeeded"


async def test_a_failure_during_a_cut_is_read_from_the_history(
    far_instance: Instance, proxy: TcpProxy, comfyui: Server
) -> None:
    prompt_id = new_id()
    graph = then(slow_image(0.3), "TestRaise", message="on purpose")
    async with aclosing(far_instance.execute(prompt_id, saved(graph))) as cut:
        await started(cut)
        proxy.close()
        await ended_upstream(comfyui, prompt_id)
        proxy.open()
        failed = [event async for event in cut][-1]
    assert isinstance(failed, events.Failed)
    assert (failed.exception_type, failed.node) == ("RuntimeError", "3")


async def test_socket_images_that_a_cut_took_make_the_prompt_lost(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    graph = over_the_socket(slow_image(0.3))
    async with aclosing(far_instance.execute(new_id(), graph)) as cut:
        await started(cut)
        proxy.cut()
        assert kinds([event async for event in cut])[-1] == "PromptLost"


async def test_each_connection_has_a_client_id_of_its_own(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    await ran(far_instance, our_output(image()))
    for _ in range(5):
        await away(far_instance, proxy)
        proxy.open()
        await far_instance.ready()
        told = await ran(far_instance, our_output(image()))
        assert kinds(told)[1:3] == ["Started", "NodeStarted"]


async def test_a_submission_to_nobody_raises_and_is_not_known(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    await away(far_instance, proxy)
    with pytest.raises(ComfyUIUnreachable) as caught:
        await anext(far_instance.execute(new_id(), saved(image())))
    assert not caught.value.sent


async def test_a_submission_whose_answer_is_lost_is_followed_all_the_same(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    proxy.swallow_answer(b"POST /prompt")
    told = await ran(far_instance, our_output(slow_image(0.3)))
    assert kinds(only(told, events.Queued) + only(told, events.NodeOutput)) == [
        "Queued",
        "NodeOutput",
    ]
    assert isinstance(told[-1], events.Succeeded)


async def test_a_submission_that_never_arrived_is_lost(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    proxy.swallow_request(b"POST /prompt")
    assert kinds(await ran(far_instance, our_output(image()))) == ["PromptLost"]


async def test_a_question_that_is_not_answered_is_asked_again(
    far_instance: Instance, proxy: TcpProxy
) -> None:
    prompt_id = new_id()
    async with aclosing(far_instance.execute(prompt_id, our_output(slow_image(0.3)))) as told:
        await started(told)
        # The HTTP library asks a second time by itself.
        proxy.swallow_request(b"GET /history", times=2)
        proxy.cut()
        assert kinds([event async for event in told])[-3:] == [
            "NodeOutput",
            "Executed",
            "Succeeded",
        ]


async def test_how_long_a_prompt_is_silent_can_be_asked(instance: Instance) -> None:
    prompt_id = new_id()
    async with aclosing(instance.execute(prompt_id, saved(slow_image(60.0)))) as told:
        await started(told)
        silence = instance.silence(prompt_id)
        assert silence is not None
        assert 0 <= silence < 10
        assert await instance.cancel(prompt_id)
    assert instance.silence(prompt_id) is None


# -- adopting -----------------------------------------------------------------------------------


async def test_a_prompt_that_waits_and_runs_can_be_adopted(
    instance: Instance, comfyui: Server
) -> None:
    prompt_id = new_id()
    graph = our_output(slow_image(0.3))
    async with aclosing(instance.execute(prompt_id, graph)) as told:
        await started(told)
        async with attached(comfyui.url, comfyui.secret) as heir:
            adopted = [event async for event in heir.adopt(prompt_id)]
    assert kinds(adopted) == ["Queued", "Started", "NodeOutput", "Executed", "Succeeded"]


async def test_a_prompt_that_ended_can_be_adopted(instance: Instance, comfyui: Server) -> None:
    prompt_id = new_id()
    told = [event async for event in instance.execute(prompt_id, our_output(image()))]
    async with attached(comfyui.url, comfyui.secret) as heir:
        adopted = [event async for event in heir.adopt(prompt_id)]
    (first,), (again,) = only(told, events.NodeOutput), only(adopted, events.NodeOutput)
    assert isinstance(first, events.NodeOutput)
    assert isinstance(again, events.NodeOutput)
    # What the history lists leaves the prompt's id out.
    assert replace(again.header, prompt_id=prompt_id) == replace(first.header, prompt_id=prompt_id)
    assert again.data == first.data
    assert adopted[-1] == told[-1]


async def test_a_forgotten_prompt_is_lost(instance: Instance) -> None:
    prompt_id = new_id()
    async for _ in instance.execute(prompt_id, our_output(image())):
        pass
    await instance.forget([prompt_id])
    assert kinds([event async for event in instance.adopt(prompt_id)]) == ["PromptLost"]


async def test_a_success_whose_outputs_are_gone_is_lost(instance: Instance) -> None:
    prompt_id = new_id()
    async for _ in instance.execute(prompt_id, our_output(image())):
        pass
    await instance.client.confirm_outputs(prompt_id)
    assert kinds([event async for event in instance.adopt(prompt_id)])[-1] == "PromptLost"


# -- state --------------------------------------------------------------------------------------


async def test_the_state_shows_work_and_others(instance: Instance) -> None:
    prompt_id = new_id()
    states: list[str] = []

    async def watch() -> None:
        seen = instance.state
        while states[-1:] != ["ready"]:
            seen = await instance.changed(seen)
            states.append(seen.state)

    watching = asyncio.create_task(watch())
    # Of two changes that come at once only the last is seen: it has to take a moment.
    await ran(instance, saved(slow_image(0.3)))
    await watching
    assert states == ["busy", "ready"]
    assert instance.state.version is not None
    assert instance.state.epoch is not None
    assert prompt_id not in (await instance.known()).foreign


async def test_prompts_of_others_are_known_as_such(instance: Instance, comfyui: Server) -> None:
    theirs, ours = new_id(), new_id()
    async with attached(comfyui.url, comfyui.secret) as somebody:
        slow = somebody.execute(theirs, saved(slow_image(60.0)))
        waiting = instance.execute(ours, our_output(image()))
        async with aclosing(slow), aclosing(waiting):
            await started(slow)
            await anext(waiting)
            known = await instance.known()
            assert (known.running, known.pending, known.foreign) == ((theirs,), (ours,), (theirs,))
            assert await instance.cancel(ours)
            assert (await instance.known()).running == (theirs,)
            assert await somebody.cancel(theirs)


async def test_a_killed_comfyui_loses_its_prompts_and_is_found_again(
    far_instance: Instance, proxy: TcpProxy, comfyui: Server
) -> None:
    before = far_instance.state
    graph = our_output(slow_image(60.0))
    async with aclosing(far_instance.execute(new_id(), graph)) as told:
        await started(told)
        comfyui.kill()
        await asyncio.to_thread(comfyui.wait_until_ready)
        proxy.target = comfyui.url
        assert kinds([event async for event in told])[-1] == "PromptLost"
    assert far_instance.state.epoch != before.epoch
    assert isinstance((await ran(far_instance, our_output(image())))[-1], events.Succeeded)


# -- a dead worker ------------------------------------------------------------------------------


async def test_an_attached_one_that_runs_nothing_gets_nothing_until_it_is_another_process(
    comfyui: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.comfyui.instance._ASK_AFTER_S", 0.5)
    async with attached(comfyui.url, comfyui.secret) as instance:
        try:
            told = await ran(instance, our_output(then(image(), "TestExit")))
            assert isinstance(told[-1], events.PromptLost)
            assert (instance.state.reason, instance.state.usable) == ("worker_dead", False)
            with pytest.raises(ComfyUIUnreachable):
                await ran(instance, our_output(image()))
        finally:
            comfyui.kill()  # as its owner would: nobody else may
            comfyui.wait_until_ready()
    async with attached(comfyui.url, comfyui.secret) as instance:
        assert isinstance((await ran(instance, our_output(image())))[-1], events.Succeeded)
