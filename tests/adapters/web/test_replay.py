"""Replay of what was missed, from a bridge that is busy, away, or not understood."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from msgspec import Raw

from bridge.adapters.web import replay as module
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.hub import Hub
from bridge.adapters.web.replay import Replay
from bridge.adapters.web.requests import Reply
from tests.adapters.web.test_hub import Wire, result, session
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)


class Bridge:
    """Lists jobs 1 to `last`, two on a page, but first answers what stands in `first`."""

    def __init__(self, last: int, *first: Reply) -> None:
        self.last = last
        self.first = list(first)
        self.asked: list[dict[str, Any]] = []
        self.came_back = asyncio.Event()

    async def request(self, _client: str, verb: str, payload: bytes) -> Reply:
        assert verb == "list"
        await asyncio.sleep(0)
        asked = json.loads(payload)
        self.asked.append(asked)
        if self.first:
            return self.first.pop(0)
        numbers = range(asked["after"] + 1, self.last + 1)
        data = {"jobs": [_view(n) for n in numbers[:2]], "more": len(numbers) > 2}
        return Reply("ok", data=Raw(json.dumps(data).encode()))


def _view(n: int) -> dict[str, Any]:
    view: dict[str, Any] = {"job_id": f"j{n}", "workflow": "w", "n": n, "state": "running"}
    view |= {"attempt": 1, "accepted_at": 0.0}
    if n % 2:
        view |= {"state": "succeeded", "result": {"job_id": f"j{n}", "n": n}}
    return view


def error(code: str) -> Reply:
    return Reply("error", error=Raw(json.dumps({"code": code, "message": code}).encode()))


def online() -> Hub:
    hub = Hub()
    hub.on_public("state", None, b"online")
    return hub


async def resumed(bridge: Bridge, hub: Hub, after: int) -> Wire:
    wire = Wire()
    back = session(wire)
    back.n = after
    back.hold_back()
    hub.add(back)
    wire.written.clear()
    await Replay(cast("Broker", bridge), hub).resume(back, after)
    return wire


async def test_who_comes_back_is_sent_results_and_states_by_rising_number() -> None:
    bridge = Bridge(8)
    wire = await resumed(bridge, online(), 3)
    assert [(each["type"], each["n"]) for each in wire.texts] == [
        ("status", 4),
        ("result", 5),
        ("status", 6),
        ("result", 7),
        ("status", 8),
        ("resumed", 8),
    ]
    # Only what the client says that it has is acked.
    assert [(each["after"], each.get("peek", False)) for each in bridge.asked] == [
        (3, False),
        (5, True),
        (7, True),
    ]


@pytest.mark.parametrize("code", ["busy", "quota_exceeded"])
async def test_a_refusal_that_passes_is_asked_again(code: str) -> None:
    bridge = Bridge(2, error(code), error(code))
    assert [each["n"] for each in (await resumed(bridge, online(), 0)).texts] == [1, 2, 2]


@pytest.mark.parametrize(
    "answer", [error("forbidden"), Reply("error"), Reply("ok", data=Raw(b'{"jobs": 7}'))]
)
async def test_what_cannot_be_listed_is_given_up_and_live_messages_go_on(answer: Reply) -> None:
    hub = online()
    bridge = Bridge(5, answer)
    wire = await resumed(bridge, hub, 4)
    assert ([each["type"] for each in wire.texts], len(bridge.asked)) == (["resumed"], 1)
    result(hub, 9)
    assert wire.texts[-1]["n"] == 9


async def test_nothing_is_asked_while_the_bridge_is_away() -> None:
    hub, bridge = Hub(), Bridge(1)
    waiting = asyncio.create_task(resumed(bridge, hub, 0))
    for _ in range(5):
        await asyncio.sleep(0)
    assert bridge.asked == []
    hub.on_public("state", None, b"online")
    async with asyncio.timeout(PATIENCE_S):
        assert [each.get("n") for each in (await waiting).texts] == [None, 1, 1]


async def test_after_a_time_without_broker_each_session_is_sent_what_it_missed() -> None:
    hub, bridge = online(), Bridge(4)
    wires = {}
    for n in (2, 3, None):
        wires[n] = Wire()
        new = session(wires[n])
        hub.add(new)
        new.n = n
        wires[n].written.clear()
    following = asyncio.create_task(Replay(cast("Broker", bridge), hub).follow())
    bridge.came_back.set()  # the first connection: nothing was missed
    for _ in range(5):
        await asyncio.sleep(0)
    assert bridge.asked == []
    bridge.came_back.set()
    for _ in range(20):
        await asyncio.sleep(0)
    following.cancel()
    assert [[each["n"] for each in wires[n].texts] for n in (2, 3, None)] == [[3, 4], [4], []]
    assert all(each["peek"] for each in bridge.asked)


async def test_a_client_that_nobody_answers_keeps_no_other_from_what_it_missed() -> None:
    hub, bridge = online(), Bridge(4)
    never = asyncio.Event()

    async def request(_client: str, verb: str, payload: bytes) -> Reply:
        if _client == "bob":
            await never.wait()
        return await Bridge.request(bridge, _client, verb, payload)

    bridge.request = request  # type: ignore[method-assign]
    wires = {name: Wire() for name in ("alice", "bob")}
    for name, wire in wires.items():
        new = session(wire, name)
        hub.add(new)
        new.n = 2
        wire.written.clear()
    following = asyncio.create_task(Replay(cast("Broker", bridge), hub).follow())
    for last in (0, 4, 6):
        bridge.last = last
        bridge.came_back.set()
        for _ in range(20):
            await asyncio.sleep(0)
    assert [each["n"] for each in wires["alice"].texts] == [3, 4, 5, 6]
    never.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [each["n"] for each in wires["bob"].texts] == [3, 4, 5, 6]
    following.cancel()
