"""Requests that the bridge, or the broker, does not take; and what an absent client costs."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET
from PIL import Image

from bridge.adapters.web import broker as module
from bridge.contract.messages import encode, ok
from bridge.contract.retained_pages import WorkflowsReport
from bridge.mosquitto import Mosquitto
from tests.adapters.web.conftest import Serve, Standing
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.confined import Confined
from tests.support.definitions import definition
from tests.support.peer import Peer
from tests.support.strict_proxy import PROFILES, StrictProxy

pytestmark = pytest.mark.broker


async def test_a_request_that_nobody_answers_is_answered_that_it_may_be_asked_again(
    server: Standing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    async with server.visitor() as alice:
        answer = await alice.ask("status", job_id="j")
        assert (answer["error"]["code"], answer["error"]["details"]) == ("busy", {"retry": True})


async def test_a_request_that_the_broker_does_not_take_is_answered_with_its_limit(
    serve: Serve,
) -> None:
    async with serve(max_message=64_000_000) as server, server.visitor() as alice:
        answer = await alice.ask("upload", bytes(34_000_000), upload="u")
        assert answer["error"]["code"] == "too_large"
        assert answer["error"]["details"]["limit"] == 33_554_432
        answer = await alice.ask("upload", b"x", upload="u", content_type="a\nb")
        assert answer["error"]["code"] == "bad_request"


async def test_a_broker_that_lets_the_adapter_ask_for_nobody_is_logged(
    serve: Serve, tmp_path: Path
) -> None:
    async with (
        Confined(tmp_path / "confined", "bob") as confined,
        serve(confined.url_of("bob")) as server,
        server.visitor() as alice,
    ):
        answer = await alice.ask("status", job_id="j")
        assert answer["error"]["code"] == "forbidden"


async def test_answers_and_parts_that_others_asked_for_are_nobodys_here(
    server: Standing, broker: Mosquitto
) -> None:
    async with server.visitor() as alice, Peer(broker.url) as bridge:
        await bridge.subscribe("comfy2mqtt/client/+/request/#")
        waiting = asyncio.create_task(alice.ask("fetch", job_id="j"))
        asked = await bridge.next("comfy2mqtt/client/alice/request/fetch")
        mark = asked.properties["CorrelationData"]
        tree = "comfy2mqtt/client"
        # Not for it: another's, without a mark, unreadable, of another client.
        other = {"CorrelationData": mark[:-1] + b"?"}
        mine = {"CorrelationData": mark}
        bridge.publish(f"{tree}/alice/response/fetch", b'{"status":"ok","data":1}')
        bridge.publish(f"{tree}/alice/response/fetch", b'{"status":"ok","data":2}', **other)
        bridge.publish(f"{tree}/bob/response/fetch", b'{"status":"ok","data":3}', **mine)
        bridge.publish(f"{tree}/alice/response/fetch", b"\xff", **mine)
        bridge.publish(f"{tree}/alice/job/j/part/0/0", b"other", **other)
        bridge.publish(f"{tree}/alice/job/j/part/x/0", b"wrong", **mine)
        bridge.publish(f"{tree}/alice/job/j/part/0/0", b"bytes", **mine)
        bridge.publish(f"{tree}/alice/response/fetch", b'{"status":"ok","data":4}', **mine)
        assert (await waiting)["data"] == 4
        assert [each.data for each in alice.all("part")] == [b"bytes"]


async def test_what_concerns_an_absent_client_is_not_even_sent_here(
    server: Standing, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LINGER_S", 0.0)
    async with Peer(broker.url) as bridge:
        async with server.visitor() as alice, server.visitor("bob") as bob:
            for name in ("alice", "bob"):
                bridge.publish(f"comfy2mqtt/client/{name}/job/j/progress", b'{"percent":1}')
            await asyncio.gather(alice.next("progress"), bob.next("progress"))
        async with server.visitor() as alice:
            bridge.publish("comfy2mqtt/client/alice/job/j/progress", b'{"percent":2}')
            assert (await alice.next("progress"))["percent"] == 2


async def test_what_a_client_that_comes_back_gets_is_acked_only_as_far_as_it_asked(
    server: Standing, broker: Mosquitto
) -> None:
    async with Peer(broker.url) as bridge:
        bridge.publish("comfy2mqtt/bridge/state", b"online", retain=True)
        await bridge.subscribe("comfy2mqtt/client/+/request/list")
        async with server.visitor(after=7) as alice:
            for n, more in ((8, True), (9, True), (10, False)):
                asked = await bridge.next("comfy2mqtt/client/alice/request/list")
                assert (asked.json["after"], asked.json.get("peek", False)) == (n - 1, n > 8)
                # Meanwhile the bridge publishes newer messages: they are sent on in their turn.
                live = {"job_id": f"live-{n}", "n": n + 10, "state": "queued"}
                bridge.publish(f"comfy2mqtt/client/alice/job/live-{n}/status", live)
                job = {"job_id": f"j{n}", "workflow": "w", "n": n, "state": "running"}
                job |= {"attempt": 1, "accepted_at": 0.0}
                bridge.publish(
                    "comfy2mqtt/client/alice/response/list",
                    {"status": "ok", "data": {"jobs": [job], "more": more}},
                    CorrelationData=asked.properties["CorrelationData"],
                )
            assert (await alice.next("resumed"))["n"] == 20
            assert [each["n"] for each in alice.all("status")] == [8, 9, 10, 18, 19, 20]


async def test_what_cannot_be_listed_is_not_asked_for_again(
    server: Standing, broker: Mosquitto
) -> None:
    async with Peer(broker.url) as bridge:
        bridge.publish("comfy2mqtt/bridge/state", b"online", retain=True)
        await bridge.subscribe("comfy2mqtt/client/+/request/list")
        async with server.visitor(after=7) as alice:
            for code in ("busy", "forbidden"):
                asked = await bridge.next("comfy2mqtt/client/alice/request/list")
                error: dict[str, Any] = {"code": code, "message": "no", "details": {}}
                bridge.publish(
                    "comfy2mqtt/client/alice/response/list",
                    {"status": "error", "error": error},
                    CorrelationData=asked.properties["CorrelationData"],
                )
            assert (await alice.next("resumed"))["n"] == 7


async def test_what_the_broker_does_not_send_of_what_is_retained_is_asked_for_once(
    serve: Serve, broker: Mosquitto
) -> None:
    async with (
        StrictProxy(broker.url, **PROFILES["rabbitmq"]) as proxy,
        Peer(broker.url) as bridge,
    ):
        bridge.publish("comfy2mqtt/bridge/state", b"online", retain=True)
        bridge.publish("comfy2mqtt/workflow/demo", encode(definition("demo")), retain=True)
        await bridge.subscribe("comfy2mqtt/client/+/request/workflows")
        async with serve(proxy.url) as server, server.visitor() as alice:
            for after, name, more in (
                (None, "demo", "workflow/demo"),
                ("workflow/demo", "z", None),
            ):
                asked = await bridge.next("comfy2mqtt/client/alice/request/workflows")
                assert asked.json.get("after") == after
                page = WorkflowsReport(workflows=[definition(name)], next=more or UNSET)
                bridge.publish(
                    "comfy2mqtt/client/alice/response/workflows",
                    encode(ok(page)),
                    CorrelationData=asked.properties["CorrelationData"],
                )
                assert (await alice.next("workflow"))["name"] == name
            async with server.visitor("bob") as bob:
                assert {(await bob.next("workflow"))["name"] for _ in range(2)} == {"demo", "z"}
                await bob.ask("ping")
            assert not bridge.all("comfy2mqtt/client/bob/request/workflows")


async def test_where_the_broker_grants_few_filters_one_for_all_clients_is_used(
    serve: Serve, broker: Mosquitto
) -> None:
    async with (
        StrictProxy(broker.url, **PROFILES["emqx-serverless"]) as proxy,
        serve(proxy.url) as server,
        Peer(broker.url) as bridge,
        server.visitor() as alice,
        server.visitor("bob") as bob,
    ):
        for name in ("alice", "bob", "carol"):
            bridge.publish(f"comfy2mqtt/client/{name}/job/{name}/progress", b'{"percent":1}')
        for name, visitor in (("alice", alice), ("bob", bob)):
            await visitor.next("progress")
            await visitor.ask("ping")
            assert len(visitor.all("progress")) == 1, name
        assert proxy.refused


async def test_jobs_and_uploads_go_over_a_broker_of_either_version(
    detached: StartBridge, either: Standing
) -> None:
    workflows = {"colour": graphs.colour(), "echo": graphs.echo()}
    await detached(workflows)
    picture = io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    async with either.visitor() as alice:
        await alice.next("workflow", lambda each: each["name"] == "echo")
        ran = await alice.ask("run", workflow="colour", job_id="j", inputs={"colour": 5})
        assert (ran["verb"], ran["data"]["job_id"]) == ("run", "j")
        sent = [alice.ask("upload", picture.getvalue(), upload=f"u{number}") for number in range(3)]
        uploads = await asyncio.gather(*sent, alice.ask("status", job_id="j"))
        assert [each["data"].get("upload") for each in uploads] == ["u0", "u1", "u2", None]
        begun = await alice.ask("upload", upload="parts", size=2, sha256="0" * 64)
        assert begun["data"]["held"] == 0
        assert (await alice.ask("upload", b"12", upload="parts", offset=0))["data"]["held"] == 2
        assert (await alice.ask("upload", upload="parts", fin=True))["status"] == "error"
        inputs = {"picture": {"upload": "u1"}}
        assert (await alice.ask("run", workflow="echo", job_id="e", inputs=inputs))[
            "status"
        ] == "ok"
        refused = await alice.ask("run", workflow="none", job_id="n")
        assert refused["error"]["code"] == "unknown_workflow"
        assert (await alice.ask("cancel", job_id="j"))["status"] == "ok"
        assert (await alice.result("j"))["state"] == "cancelled"


async def test_over_mqtt_3_1_1_fetches_of_one_part_come_one_after_the_other(
    serve: Serve, broker: Mosquitto
) -> None:
    fetch, status = (f"comfy2mqtt/client/alice/request/{verb}" for verb in ("fetch", "status"))
    async with (
        StrictProxy(broker.url, mqtt_5="refuse") as proxy,
        serve(proxy.url) as server,
        server.visitor() as alice,
        Peer(broker.url) as bridge,
    ):
        await bridge.subscribe("comfy2mqtt/client/+/request/#")
        for number in (1, 2, 3):
            asked = {"type": "fetch", "transaction": number, "job_id": "j", "width": number}
            await alice.say(asked)
        await alice.say({"type": "status", "transaction": 4, "job_id": "j"})
        await bridge.next(status)
        for number in (1, 2, 3):
            request = await bridge.next(fetch)
            assert request.json["width"] == number
            # The next one is not there, though the request behind it is.
            assert len([each for each in bridge.messages if each.topic == fetch]) == number
            bridge.publish("comfy2mqtt/client/alice/job/j/part/0/0", bytes(number))
            mark = request.json["transaction"]
            answer = {"status": "ok", "data": {"count": number}, "transaction": mark}
            bridge.publish("comfy2mqtt/client/alice/response/fetch", answer)
            told = await alice.next("response")
            assert (told["transaction"], told["data"]["count"]) == (number, number)
        assert [len(each.data or b"") for each in alice.all("part")] == [1, 2, 3]
