"""A client can do what the operator's table allows it, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.client import Client
from bridge.client.inputs import PART_BYTES
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer

pytestmark = pytest.mark.broker


async def test_each_client_is_held_to_its_table(detached: StartBridge, broker: Mosquitto) -> None:
    await detached(
        {"colour": graphs.colour(), "plain": graphs.plain(), "echo": graphs.echo()},
        clients={
            "*": {"max_queue": 2, "max_uploads": 1000},
            "bob": {
                "workflows": ["col*", "echo"],
                "inline": True,
                "input_topics": ["cameras/+"],
                "max_priority": 0,
            },
        },
    )
    topic = {"picture": {"topic": "cameras/door", "wait_s": 60}}
    wrong: list[tuple[str, str, Any, str]] = [
        ("alice", "submit", {"prompt": graphs.plain()}, "inline"),
        ("alice", "run/echo", topic, "input_topics"),
        ("bob", "run/echo", {"picture": {"topic": "cameras/door/x"}}, "input_topics"),
        ("bob", "run/plain", b"", "workflows"),
        ("bob", "submit", {"workflow": "plain", "dry_run": True}, "workflows"),
        ("bob", "run/colour", {"$priority": 1}, "max_priority"),
        ("alice", "upload/u1", bytes(1001), "max_uploads"),
    ]
    right: list[tuple[str, str, Any]] = [
        ("alice", "run/plain/a1", {"$priority": 100}),
        ("bob", "run/colour/b1", b""),
        ("bob", "submit", {"prompt": graphs.plain(), "job_id": "b2"}),
    ]
    async with Peer(broker.url) as alice, Peer(broker.url, client="bob") as bob:
        peers = {"alice": alice, "bob": bob}
        for peer in peers.values():
            await peer.listen()
        for client, verb, payload, field in wrong:
            error = (await peers[client].ask(verb, payload))["error"]
            assert error["code"] == ("quota_exceeded" if verb.startswith("upload") else "forbidden")
            assert error["details"]["setting"] == f"clients.{client}.{field}", error
        for client, verb, payload in right:
            answer = await peers[client].ask(verb, payload)
            assert answer["status"] == "ok", answer
        full = (await bob.ask("run/echo/b3", topic))["error"]
        assert full["code"] == "quota_exceeded"
        assert full["details"]["setting"] == "clients.bob.max_queue"


async def test_a_workflow_with_a_node_that_is_not_allowed_says_so_and_is_refused(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached(
        {"colour": graphs.colour(), "plain": graphs.plain()},
        deny_nodes="Save*",
        clients={"*": {"inline": True}},
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/workflow/+")
        plain = (await peer.next("comfy2mqtt/workflow/plain")).json
        assert (plain["runnable"], plain["forbidden"]) == (False, ["SaveImage"])
        assert plain["nodes"] == ["EmptyImage", "SaveImage"]
        assert "forbidden" not in (await peer.next("comfy2mqtt/workflow/colour")).json
        for verb, payload in (
            ("run/plain", {}),
            ("submit", {"prompt": graphs.plain()}),
            ("submit", {"workflow": "plain", "dry_run": True}),
            ("submit", {"workflow": "plain", "workflow_version": plain["version"]}),
        ):
            error = (await peer.ask(verb, payload))["error"]
            assert error["code"] == "forbidden"
            assert error["details"] == {"setting": "deny_nodes", "nodes": ["SaveImage"]}
        assert (await peer.ask("run/colour"))["status"] == "ok"


async def test_a_client_above_its_rate_is_answered_when_to_come_again(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()}, clients={"alice": {"requests_per_s": 0.2}})
    async with Peer(broker.url) as alice, Peer(broker.url, client="bob") as bob:
        await alice.listen()
        await bob.listen()
        assert [(await alice.ask("list"))["status"] for _ in range(2)] == ["ok", "ok"]
        error = (await alice.ask("list", {"transaction": 7}, CorrelationData=b"c"))["error"]
        assert error["code"] == "quota_exceeded"
        assert error["details"]["setting"] == "clients.alice.requests_per_s"
        assert 0 < error["details"]["retry_after_s"] <= 5
        for _ in range(5):
            assert (await bob.ask("list"))["status"] == "ok"


async def test_the_python_client_uploads_as_fast_as_it_may(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"echo": graphs.echo()}, clients={"alice": {"requests_per_s": 5}})
    # More parts than are granted at once.
    data = bytes(PART_BYTES * 55)
    async with Client(broker.url, client="alice") as client:
        assert await client.upload(data, "large") == {"upload": "large"}
