"""An operator's commands to a group: who carries them out, and that one answer comes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psycopg
import pytest

from bridge.mosquitto import Mosquitto
from tests.end_to_end import graphs
from tests.end_to_end.group import BRIDGE, Commands, Start, is_usable, member
from tests.end_to_end.test_faults import children, is_comfyui
from tests.end_to_end.test_supervision import faulty, with_faults
from tests.support.bridge import BridgeProcess
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]

WORKFLOWS = {
    "colour": graphs.colour(),
    "abort": faulty("TestKill", signal=int(signal.SIGABRT)),
}


def comfyui_of(bridge: BridgeProcess) -> int:
    (pid,) = (pid for pid in children(bridge.pid) if is_comfyui(pid))
    return pid


def carried_out(bridge: BridgeProcess, verb: str) -> int:
    """Return how often a bridge has carried out a command, as its log says."""
    return bridge.log.count(f"operator command: {verb} ")


async def passed_on(journal: str) -> None:
    """Wait until a command for other bridges is in the journal."""
    async with (
        asyncio.timeout(PATIENCE_S),
        await psycopg.AsyncConnection.connect(journal, autocommit=True) as database,
    ):
        while True:
            found = await database.execute("SELECT 1 FROM kept WHERE kind = 'command'")
            if await found.fetchone() is not None:
                return
            await asyncio.sleep(0.02)


@pytest.mark.timeout(300)
async def test_each_command_reaches_the_bridges_that_it_is_for_and_is_answered_once(
    start: Start, watcher: Peer, tmp_path: Path
) -> None:
    a = await start("a", comfyui_gpu="card")
    b = await start("b", comfyui_gpu="card", **with_faults(tmp_path))
    commands = Commands(watcher)

    # What names a ComfyUI is carried out and answered by its bridge, which does not take requests.
    before = comfyui_of(b)
    assert list((await commands.done("comfyui/free", "b-default"))["instances"]) == ["b-default"]
    assert list((await commands.done("comfyui/restart", "b-default"))["instances"]) == ["b-default"]
    await watcher.next(f"{BRIDGE}/comfyui/b-default", lambda m: m.json["state"] == "starting")
    await watcher.next(f"{BRIDGE}/comfyui/b-default", is_usable)
    assert comfyui_of(b) != before
    for verb in ("comfyui/free", "comfyui/restart"):
        assert (await commands.refused(verb, "a-default"))["code"] == "forbidden"  # it is attached
        assert (carried_out(a, verb), carried_out(b, verb)) == (1, 1)

    # So is what names a GPU.
    request = {"holder": "games", "gpu": "b-card"}
    lease = (await commands.done("gpu/request", request))["lease"]
    assert (lease["gpu"], lease["holder"]) == ("b-card", "games")
    await watcher.next(f"{BRIDGE}/gpu/b-card", lambda m: m.json.get("holder") == "games")
    lease = (await commands.done("gpu/release", request))["lease"]
    assert lease.get("holder") != "games"
    for verb in ("gpu/request", "gpu/release"):
        assert (carried_out(a, verb), carried_out(b, verb)) == (0, 1)

    # What is for all is carried out by all, and the answer has what all did.
    for verb in ("comfyui/yield", "comfyui/resume"):
        done = await commands.done(verb)
        assert (list(done), sorted(done["instances"])) == (
            ["instances"],
            ["a-default", "b-default"],
        )
    assert (await commands.done("workflows/reload"))["workflows"] == ["colour", "echo", "slow"]
    assert await commands.done("queue/release") == {"released": 0}
    assert await commands.done("log_level", "warning") == {"level": "warning"}
    for verb in ("comfyui/yield", "comfyui/resume", "workflows/reload", "queue/release"):
        assert (carried_out(a, verb), carried_out(b, verb)) == (1, 1)
    await commands.done("workflows/reload")  # of which neither writes a line now
    await commands.done("log_level", "info")
    await commands.done("workflows/reload")
    assert (carried_out(a, "workflows/reload"), carried_out(b, "workflows/reload")) == (2, 2)

    for bridge in (b, a):
        assert await bridge.stop() == 0
    await member(watcher, "a", b"offline")
    commands.assert_one_answer_each()


async def test_a_bridge_that_accepts_no_commands_says_so(start: Start, watcher: Peer) -> None:
    await start("a")
    await start("b", operator_verbs="false")
    commands = Commands(watcher)
    done = await commands.done("log_level", "info")
    refused = await commands.refused("comfyui/free", "b-default")
    for error in (done["failed"]["b"], refused):
        assert error["code"] == "forbidden"
        assert error["details"]["setting"] == "operator_verbs"
    assert done["level"] == "info"


@pytest.mark.timeout(300)
async def test_a_command_is_answered_though_a_bridge_dies_while_its_report_is_due(
    start: Start, watcher: Peer, journal: str
) -> None:
    a, b, c = [await start(name) for name in "abc"]
    commands = Commands(watcher)

    # For all of them, when one that has it to do is killed.
    c.signal(signal.SIGSTOP)
    asked = asyncio.create_task(commands.give("comfyui/yield"))
    await passed_on(journal)
    assert not asked.done()
    await c.kill()
    answer = await asked
    assert sorted(answer["data"]["instances"]) == ["a-default", "b-default"]
    assert {name: each["code"] for name, each in answer["data"]["failed"].items()} == {
        "c": "comfyui_unavailable"
    }

    # For one of them, when that one is killed.
    b.signal(signal.SIGSTOP)
    asked = asyncio.create_task(commands.refused("comfyui/resume", "b-default"))
    await passed_on(journal)
    assert not asked.done()
    await b.kill()
    error = await asked
    assert (error["code"], error["details"]) == ("comfyui_unavailable", {"member": "b"})

    # And a bridge alone has nobody to wait for.
    assert list((await commands.done("comfyui/resume"))["instances"]) == ["a-default"]
    assert await a.stop() == 0
    commands.assert_one_answer_each()


@pytest.mark.timeout(300)
async def test_a_command_is_carried_out_again_if_the_bridge_that_takes_requests_dies(
    start: Start, watcher: Peer, journal: str
) -> None:
    a, b = [await start(name) for name in "ab"]
    commands = Commands(watcher)
    b.signal(signal.SIGSTOP)
    asked = asyncio.create_task(commands.give("comfyui/yield"))
    await passed_on(journal)
    await a.kill()
    b.signal(signal.SIGCONT)
    answer = await asked
    assert list(answer["data"]["instances"]) == ["b-default"]
    assert await b.stop() == 0
    commands.assert_one_answer_each()


@pytest.mark.timeout(300)
async def test_a_quarantine_outlives_the_intake_and_commands_for_the_dead_are_answered(
    start: Start, broker: Mosquitto, watcher: Peer, tmp_path: Path
) -> None:
    a = await start("a", workflows=WORKFLOWS)
    b = await start("b", workflows=WORKFLOWS, **with_faults(tmp_path))
    commands = Commands(watcher)
    async with Peer(broker.url) as peer:
        await peer.listen()
        topic = f"{BRIDGE}/comfyui/b-default"
        await commands.done("comfyui/yield", "a-default")
        assert (await peer.ask("run/abort/one"))["status"] == "ok"
        result = await peer.result("one")
        assert (result["error"]["code"], result["attempts"]) == ("quarantined", 2)
        for _ in range(2):
            await watcher.next(topic, lambda m: m.json["state"] == "restarting")
        await watcher.next(topic, lambda m: m is watcher.all(topic)[-1] and is_usable(m))
        survivor = comfyui_of(b)

        # The bridge that takes requests does not know; the one that ran it does not run it again.
        assert (await peer.ask("run/abort/two"))["status"] == "ok"
        assert (await peer.result("two"))["error"]["code"] == "quarantined"
        await a.kill()
        await member(watcher, "a", b"offline")
        assert (await peer.ask("run/abort/three"))["error"]["code"] == "quarantined"
        assert comfyui_of(b) == survivor
        assert (await peer.ask("run/colour/four"))["status"] == "ok"
        assert (await peer.result("four"))["instance"] == "b-default"
        assert await commands.done("queue/release") == {"released": 1}

        # Whoever takes requests answers for a bridge that is gone, whose nodes are known for a day.
        error = await commands.refused("comfyui/resume", "a-default")
        assert (error["code"], error["details"]["instance"]) == ("comfyui_unavailable", "a-default")
        assert (await commands.refused("comfyui/resume", "c-default"))["code"] == "bad_request"
    assert await b.stop() == 0
    commands.assert_one_answer_each()
