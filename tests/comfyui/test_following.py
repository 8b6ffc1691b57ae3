from __future__ import annotations

import pytest

from bridge.comfyui import events, frames
from bridge.comfyui.errors import AlreadyFollowed
from bridge.comfyui.events import Event
from bridge.comfyui.execution import Execution
from bridge.comfyui.following import Follower, Followers


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def followers(clock: Clock) -> Followers:
    return Followers(silence_s=10, clock=clock)


def follow(followers: Followers, prompt_id: str = "p", *, submitted: bool = True) -> Follower:
    follower = followers.follow(prompt_id, Execution(preview=True), blind=False)
    if submitted:
        followers.submitted(follower)
    return follower


async def told(follower: Follower) -> list[Event]:
    return [event async for event in follower.events()]


def test_a_prompt_is_followed_once(followers: Followers) -> None:
    follower = follow(followers)
    with pytest.raises(AlreadyFollowed):
        follow(followers)
    followers.drop(follower)
    assert "p" not in followers
    follow(followers)


def test_dropping_an_earlier_follower_leaves_the_present_one(followers: Followers) -> None:
    earlier = follow(followers)
    followers.drop(earlier)
    present = follow(followers)
    followers.drop(earlier)
    assert followers.get("p") is present


async def test_a_frame_goes_to_its_prompt(followers: Followers) -> None:
    first, second = follow(followers, "a"), follow(followers, "b")
    for prompt_id in ("a", "b", "somebody's"):
        followers.take(frames.ExecutionStart(prompt_id))
        followers.take(frames.ExecutionSuccess(prompt_id))
        followers.take(frames.Executing(None, prompt_id))
    for follower in (first, second):
        assert await told(follower) == [events.Started(), events.Succeeded({})]


async def test_a_frame_that_names_no_prompt_belongs_to_the_one_that_runs(
    followers: Followers,
) -> None:
    preview = frames.PreviewImage("image/png", memoryview(b"png"))
    ours = follow(followers, "ours")
    followers.take(preview)
    followers.take(frames.Executing("1", "somebody's"))
    followers.take(preview)
    followers.take(frames.Executing("3", "ours"))
    followers.take(preview)
    followers.take(frames.ExecutionSuccess("ours"))
    followers.take(frames.Executing(None))
    assert await told(ours) == [
        events.Started(),
        events.NodeStarted("3", "3"),
        events.Preview("3", "image/png", memoryview(b"png")),
        events.Succeeded({}),
    ]


def test_an_end_without_a_reason_is_a_doubt(followers: Followers) -> None:
    follower = follow(followers)
    followers.take(frames.Executing(None, "p"))
    assert followers.doubtful() == [follower]
    assert followers.doubt.is_set()


def test_what_is_not_submitted_is_not_asked_about(followers: Followers) -> None:
    follower = follow(followers, submitted=False)
    followers.question_all()
    assert followers.doubtful() == []
    followers.doubt.clear()
    followers.submitted(follower)
    assert followers.doubtful() == [follower]
    assert followers.doubt.is_set()


def test_silence_is_a_doubt(followers: Followers, clock: Clock) -> None:
    follower = follow(followers)
    clock.now = 9
    assert followers.doubtful() == []
    followers.take(frames.ExecutionStart("p"))
    clock.now = 18
    assert followers.doubtful() == []
    assert followers.silence("p") == 9
    clock.now = 19
    assert followers.doubtful() == [follower]
    assert followers.silence("unknown") is None


def test_a_queue_that_ran_empty_is_a_doubt_for_what_has_not_started(followers: Followers) -> None:
    waiting, running = follow(followers, "waiting"), follow(followers, "running")
    followers.take(frames.ExecutionStart("running"))
    followers.queue_changed(1)
    assert followers.doubtful() == []
    followers.queue_changed(0)
    assert followers.doubtful() == [waiting]
    followers.cut()
    followers.queue_changed(1)
    assert followers.doubtful() == [waiting, running]


async def test_a_lost_comfyui_ends_all_but_what_is_known(followers: Followers) -> None:
    done, running = follow(followers, "done"), follow(followers, "running")
    followers.take(frames.ExecutionSuccess("done"))
    followers.lose("it was killed")
    assert await told(done) == [events.Succeeded({})]
    assert await told(running) == [events.Lost("it was killed")]
