"""Faults of a request are reported clearly, and nothing else changes."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, saved, then
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n this is no picture").decode()


def lacking_model() -> dict[str, Any]:
    graph: dict[str, Any] = copy.deepcopy(graphs.colour())
    graph["9"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "gone.ckpt"}}
    return graph


async def test_each_wrong_request_gets_its_error_and_changes_nothing(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached(
        {
            "colour": graphs.colour(),
            "echo": graphs.echo(),
            "plain": graphs.plain(),
            "lacking": lacking_model(),
        },
        max_inline_input=100_000,
    )
    wrong: list[tuple[str, Any, str, dict[str, Any]]] = [
        ("submit", b"not json", "bad_request", {}),
        ("submit", b"{\xff\xfe}", "bad_request", {}),
        ("submit", [1, 2], "bad_request", {}),
        ("submit", {"workflow": 5}, "bad_request", {"field": "workflow"}),
        ("submit", {"workflow": "colour", "priority": "x"}, "bad_request", {"field": "priority"}),
        ("submit", {"workflow": "colour", "job_id": "a/b"}, "bad_request", {"field": "job_id"}),
        ("submit", {"workflow": "colour", "job_id": "+"}, "bad_request", {"field": "job_id"}),
        ("submit", {"prompt": {"1": {}}}, "forbidden", {"setting": "clients.alice.inline"}),
        (
            "run/nothing",
            b"",
            "unknown_workflow",
            {"allowed": ["colour", "echo", "lacking", "plain"]},
        ),
        ("run/colour/a/b", b"", "bad_request", {}),
        ("run/col our", b"", "bad_request", {}),
        (
            "run/colour",
            {"color": 5},
            "invalid_input",
            {"input": "color", "allowed": ["colour", "size"]},
        ),
        ("run/colour", {"colour": "red"}, "invalid_input", {"input": "colour", "minimum": 0}),
        ("run/colour", {"colour": -1}, "invalid_input", {"input": "colour", "minimum": 0}),
        ("run/colour", {"size": 99_999}, "invalid_input", {"input": "size", "maximum": 4096}),
        ("run/colour", b"a text", "invalid_input", {"allowed": ["colour", "size"]}),
        ("run/colour", b'{"colour": ', "bad_request", {}),
        ("run/plain", {"1.width": 0}, "invalid_input", {"input": "width", "minimum": 1}),
        ("run/lacking", b"", "comfyui_unavailable", {}),
        ("run/echo", b"", "invalid_input", {"input": "picture", "type": "image"}),
        ("run/echo", b"\xff\x00\x01 no image", "invalid_input", {"input": "picture"}),
        ("run/echo", {"picture": {"base64": "?"}}, "invalid_input", {"input": "picture"}),
        ("run/echo", b"\x89PNG\r\n\x1a\n" + bytes(100_001), "too_large", {"limit": 100_000}),
        ("cancel", b"nobody", "unknown_job", {"job_id": "nobody"}),
        ("status", {"job_id": "nobody"}, "unknown_job", {"job_id": "nobody"}),
        ("ack", b"{}", "bad_request", {"field": "up_to"}),
        ("list", {"after": -1}, "bad_request", {"field": "after"}),
        # More than the journal's numbers hold.
        ("ack", {"up_to": 2**63}, "bad_request", {"field": "up_to"}),
        ("list", {"after": 10**30}, "bad_request", {"field": "after"}),
        ("fetch", {"job_id": "j", "output": 2**64}, "bad_request", {"field": "output"}),
        ("dance", b"", "bad_request", {}),
    ]
    async with Peer(broker.url) as peer:
        await peer.listen()
        for verb, payload, code, details in wrong:
            answer = await peer.ask(verb, payload, CorrelationData=b"c")
            assert answer["status"] == "error", (verb, payload, answer)
            assert answer["error"]["code"] == code, (verb, payload, answer)
            assert answer["error"]["details"].items() >= details.items(), (verb, payload, answer)
            assert answer["error"]["message"]
            assert answer["transaction"] == "c"
        missing = (await peer.ask("run/lacking"))["error"]["details"]["missing"]
        assert missing["choices"][0].items() >= {"node": "9", "value": "gone.ckpt"}.items()
        page = await peer.ask("list")
        assert page["data"]["jobs"] == []


async def test_a_picture_that_only_looks_like_one_fails_its_job(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"echo": graphs.echo()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/echo/j1", {"picture": {"base64": PNG}})
        result = await peer.result("j1")
        assert result["state"] == "failed"
        assert result["error"]["code"] == "execution_error"
        assert result["error"]["details"]["node"] == "1"
        assert result["attempts"] == 1


@pytest.mark.parametrize("version", [4, 5])
async def test_a_retained_request_never_runs(
    attached: StartBridge, broker: Mosquitto, version: int
) -> None:
    topic = "comfy2mqtt/client/alice/request/run/colour"
    async with Peer(broker.url, version=version) as peer:
        await peer.listen()
        peer.publish(topic, b"", retain=True)  # an empty one clears; this one stays:
        peer.publish(topic, b'{"colour": 1}', retain=True)
        await attached({"colour": graphs.colour()})
        # Stored before the bridge came, it is not even delivered; live, it is refused.
        peer.publish(topic, b'{"colour": 2}', retain=True)
        answer = (await peer.response("run")).json
        assert answer["error"]["code"] == "bad_request"
        assert "retained" in answer["error"]["message"]
        assert (await peer.ask("list"))["data"]["jobs"] == []
        assert len(peer.all("comfy2mqtt/client/alice/response/run")) == 1


async def test_the_same_id_runs_once_and_a_different_request_is_a_conflict(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        request = {"workflow": "colour", "inputs": {"colour": 9}, "job_id": "one"}
        first = await peer.ask("submit", request)
        assert first["data"]["duplicate"] is False
        result = await peer.job("one", "result")
        second = await peer.ask("submit", {**request, "transaction": "again"})
        assert second["data"]["duplicate"] is True
        assert second["data"]["state"] == "succeeded"
        assert second["data"]["result"] == result.json
        assert second["transaction"] == "again"
        for change in ({"inputs": {"colour": 10}}, {"output": {"deliver": "none"}}):
            third = await peer.ask("submit", {**request, **change})
            assert third["error"]["code"] == "conflict"
        other = Peer(broker.url, client="bob")
        async with other as bob:
            await bob.listen()
            assert (await bob.ask("submit", request))["data"]["duplicate"] is False
            await bob.result("one")
        assert len(peer.of_job("one", "result")) == 1


async def test_a_full_queue_says_busy_and_a_client_over_its_share_quota_exceeded(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"slow": graphs.slow(30)}, max_queue=3, clients={"*": {"max_queue": 2}})
    async with Peer(broker.url) as alice, Peer(broker.url, client="bob") as bob:
        await alice.listen()
        await bob.listen()
        # Two are at ComfyUI; what waits behind them counts.
        for index in range(4):
            answer = await alice.ask(f"run/slow/j{index}")
            assert answer["status"] == "ok", answer
            if index < 2:
                await alice.no_position(f"j{index}")
        refused = await alice.ask("run/slow/j4")
        assert refused["error"]["code"] == "quota_exceeded"
        assert refused["error"]["details"]["limit"] == 2
        again = await alice.ask("run/slow/j3")
        assert again["data"]["duplicate"] is True  # what was accepted stands
        assert (await bob.ask("run/slow/b1"))["status"] == "ok"
        busy = await bob.ask("run/slow/b2")
        assert busy["error"]["code"] == "busy"
        for index in range(4):
            alice.request("cancel", f"j{index}".encode())
        bob.request("cancel", b"b1")
        for index in range(4):
            assert (await alice.result(f"j{index}"))["state"] == "cancelled"
        assert (await bob.result("b1"))["state"] == "cancelled"


async def test_a_failing_node_fails_the_job_and_says_where(
    attached: StartBridge, broker: Mosquitto
) -> None:
    failing = then(image(), "TestRaise", message="the paint has run out")
    await attached({"failing": saved(failing)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/failing/j1", {"$transaction": 5})
        result = await peer.result("j1")
        assert (result["state"], result["transaction"]) == ("failed", 5)
        error = result["error"]
        assert error["code"] == "execution_error", error
        assert "the paint has run out" in error["message"]
        assert error["details"]["class_type"] == "TestRaise"
        assert result["attempts"] == 1


async def test_comfyuis_own_refusal_comes_with_the_workflows_names(
    attached: StartBridge, broker: Mosquitto
) -> None:
    graph = graphs.plain()
    # What a link carries is declared as an image: a number is refused by ComfyUI itself.
    graph["2"]["inputs"]["images"] = ["3", 0]
    graph["3"] = {
        "class_type": "Comfy2MQTTIntegerInput",
        "inputs": {"name": "picture", "value": 5},
    }
    await attached({"odd": graph})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/odd/j1")
        result = await peer.result("j1")
        assert result["state"] == "failed"
        assert result["error"]["details"]["node"] == "2"
        assert result["error"]["details"]["problem"] == "return_type_mismatch"


async def test_a_part_that_comfyui_would_drop_fails_the_whole(
    attached: StartBridge, broker: Mosquitto
) -> None:
    graph = graphs.plain()
    graph["3"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "no images"}}
    await attached({"half": graph})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/half/j1")
        result = await peer.result("j1")
        assert result["state"] == "failed"
        assert result["outputs"] == []
        assert json.dumps(result["error"]).count("images")
