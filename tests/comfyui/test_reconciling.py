from __future__ import annotations

from aiohttp import web

from bridge.comfyui import events, frames
from bridge.comfyui.events import Event
from bridge.comfyui.execution import Execution
from bridge.comfyui.following import Follower, Followers
from bridge.comfyui.reconciling import Reconciler
from tests.support.answering import answering, saying

LISTED = {
    "node": "9",
    "index": 0,
    "name": "image",
    "content_type": "image/png",
    "size": 3,
    "sha256": "00",
}


def without_its_output(followers: Followers) -> Follower:
    """A prompt of which all was heard but the bytes."""
    follower = followers.follow("p", Execution(), blind=False)
    followers.submitted(follower)
    followers.take(frames.NodeExecuted("p", "9", "9", {"comfy2mqtt": [LISTED]}))
    followers.take(frames.ExecutionSuccess("p"))
    followers.take(frames.Executing(None, "p"))
    return follower


async def told(follower: Follower) -> list[Event]:
    return [event async for event in follower.events()]


async def test_an_output_that_did_not_come_is_fetched() -> None:
    followers = Followers(silence_s=10)
    follower = without_its_output(followers)
    async with answering(saying(b"png")) as client:
        await Reconciler(client, followers).settle(followers.doubtful())
    executed, output, end = await told(follower)
    assert isinstance(executed, events.Executed)
    assert isinstance(output, events.NodeOutput)
    assert output.data == b"png"
    assert isinstance(end, events.Succeeded)


async def test_an_output_that_had_to_go_makes_the_prompt_lost() -> None:
    followers = Followers(silence_s=10)
    follower = without_its_output(followers)
    async with answering(saying("", 410)) as client:
        await Reconciler(client, followers).settle(followers.doubtful())
    assert isinstance((await told(follower))[-1], events.Lost)


async def test_a_prompt_that_nobody_waits_for_any_more_is_left_alone() -> None:
    followers = Followers(silence_s=10)
    earlier = without_its_output(followers)
    doubtful = followers.doubtful()

    async def meanwhile(_: web.Request) -> web.Response:
        followers.drop(earlier)
        followers.follow("p", Execution(), blind=False)
        return web.Response(body=b"png")

    async with answering(meanwhile) as client:
        await Reconciler(client, followers).settle(doubtful)
    present = followers.get("p")
    assert present is not None
    assert not present.execution.ended
