"""Jobs by the web adapter: the real bridge, the real ComfyUI, and the adapter beside them."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.adapters.web.conftest import LINK_KEY, Serve, Standing
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import Graph, image, our_output
from tests.support.peer import Peer
from tests.support.tcpproxy import TcpProxy
from tests.support.visitor import Visitor

pytestmark = pytest.mark.comfyui


def prompted() -> Graph:
    """Node 1: noise; a text input `prompt` that nothing but its name depends on."""
    graph = our_output(image(size=64))
    graph["9"] = {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "prompt", "text": ""}}
    return graph


def demo() -> Graph:
    found: Graph = json.loads(Path("workflows/demo.json").read_text())
    return found


async def test_a_job_runs_with_progress_output_and_result(
    attached: StartBridge, either: Standing
) -> None:
    await attached({"slow": graphs.slow(0.5)})
    async with either.visitor() as alice:
        definition = await alice.next("workflow", lambda each: each["name"] == "slow")
        assert "seed" in definition["definition"]["inputs"]["properties"]
        answer = await alice.ask("run", workflow="slow", job_id="j1", inputs={"seed": 7}, meta=[1])
        assert (answer["status"], answer["verb"]) == ("ok", "run")
        assert answer["data"]["job_id"] == "j1"
        assert (await alice.next("status"))["meta"] == [1]
        await alice.next("progress", lambda each: 0 < each["percent"] < 100)
        result = await alice.result("j1")
        assert (result["state"], result["inputs"]["seed"]) == ("succeeded", 7)
        output = await alice.next("output")
        assert output.data is not None
        (listed,) = result["outputs"]
        assert hashlib.sha256(output.data).hexdigest() == listed["sha256"]
        assert (output["index"], output["content_type"]) == (0, "image/png")
        if either.mqtt == "5":
            assert (output["sha256"], output["width"]) == (listed["sha256"], 64)
        types = [each.type for each in alice.frames if each.header.get("job_id") == "j1"]
        assert types.index("output") < types.index("result") == len(types) - 1


async def test_two_clients_cannot_see_each_other_and_one_clients_connections_all_get_its_jobs(
    attached: StartBridge, either: Standing
) -> None:
    await attached({"colour": graphs.colour()})
    async with (
        either.visitor("alice") as alice,
        either.visitor("alice") as phone,
        either.visitor("bob") as bob,
    ):
        await alice.ask("run", workflow="colour", job_id="mine", inputs={"colour": 5})
        await alice.result("mine")
        await phone.result("mine")
        assert not phone.all("response")
        refused = await bob.ask("status", job_id="mine")
        assert refused["error"]["code"] == "unknown_job"
        assert not bob.all("status")
        assert not bob.all("result")
        assert not bob.all("output")


async def test_an_upload_in_parts_becomes_an_input(attached: StartBridge, either: Standing) -> None:
    await attached({"echo": graphs.echo(), "noise": our_output(image(size=256))})
    async with either.visitor() as alice:
        await alice.ask("run", workflow="noise", job_id="noise")
        picture = (await alice.next("output")).data
        assert picture is not None
        digest = hashlib.sha256(picture).hexdigest()
        begun = await alice.ask("upload", upload="u1", size=len(picture), sha256=digest)
        assert begun["data"]["held"] == 0
        half = len(picture) // 2
        for offset, part in ((0, picture[:half]), (half, picture[half:])):
            held = await alice.ask("upload", part, upload="u1", offset=offset)
            assert held["data"]["held"] == offset + len(part)
        assert (await alice.ask("upload", upload="u1", fin=True))["data"]["complete"]
        if either.mqtt == "5":
            # And one whole, though it looks like the announcement of another.
            whole = await alice.ask("upload", b'{"size": 1}', upload="u2")
            assert whole["data"]["size"] == 11
        await alice.ask("run", workflow="echo", job_id="e", inputs={"picture": {"upload": "u1"}})
        assert (await alice.result("e"))["state"] == "succeeded"


async def test_text_goes_to_the_main_input_whatever_its_name(
    attached: StartBridge, either: Standing
) -> None:
    await attached({"prompted": prompted()})
    async with either.visitor() as alice:
        await alice.ask("run", workflow="prompted", job_id="j", text='{"a lighthouse"', meta="m")
        result = await alice.result("j")
        assert (result["inputs"]["prompt"], result["meta"]) == ('{"a lighthouse"', "m")


async def test_who_comes_back_gets_what_it_missed_in_order_and_the_rest_live(
    attached: StartBridge, either: Standing
) -> None:
    await attached({"colour": graphs.colour(), "slow": graphs.slow(60)})
    key = either.key()
    async with Visitor(either.socket, key) as alice:
        await alice.ask("run", workflow="colour", job_id="seen", inputs={"colour": 11})
        n = (await alice.result("seen"))["n"]
        for index in range(3):
            job = f"missed-{index}"
            await alice.say(
                {"type": "run", "workflow": "colour", "job_id": job, "inputs": {"colour": index}}
            )
        await alice.say({"type": "run", "workflow": "slow", "job_id": "running"})
    async with Visitor(either.socket, key) as other:
        await other.next("progress", lambda each: each["job_id"] == "running")
        # A new connection gets the newest state, not those before.
        async with Visitor(either.socket, key, after=n) as alice:
            resumed = await alice.next("resumed")
            told = [each for each in alice.frames if "n" in each.header and each is not resumed]
            assert [each["n"] for each in told] == sorted(each["n"] for each in told)
            results = [each["job_id"] for each in told if each.type == "result"]
            # Jobs start in their order; two that are at ComfyUI at once may end in either.
            assert sorted(results) == ["missed-0", "missed-1", "missed-2"]
            states = {each["state"] for each in told if each["job_id"] == "running"}
            assert states == {"running"}
            await alice.next("progress", lambda each: each["job_id"] == "running")
            # What it says it has is acked: no more, no less.
            jobs = (await alice.ask("list", limit=100))["data"]["jobs"]
            assert {each["job_id"] for each in jobs if each["acked"]} == {"seen"}
            await alice.ask("cancel", job_id="running")
            assert (await alice.result("running"))["state"] == "cancelled"


async def test_a_link_gives_an_output_whole_in_ranges_and_smaller(
    attached: StartBridge, either: Standing, tmp_path: Path
) -> None:
    key_file = tmp_path / "shared.key"
    key_file.write_text(LINK_KEY.hex())
    public = {"public_url": "https://pictures.example.org/", "link_key_file": key_file}
    await attached({"noise": our_output(image(size=512))}, **public)
    async with (
        either.visitor() as alice,
        aiohttp.ClientSession() as web,
    ):
        asked = {"deliver": "fetch"}
        await alice.ask("run", workflow="noise", job_id="j", output=asked)
        (listed,) = (await alice.result("j"))["outputs"]
        assert listed["url"].startswith("https://pictures.example.org/o/")
        signed = either.http + listed["url"].removeprefix("https://pictures.example.org")
        made = (await alice.ask("link", job_id="j"))["data"]
        picture, tag = b"", ""
        for url in (signed, either.http + made["url"]):
            async with web.get(url) as answer:
                picture = await answer.read()
                assert (answer.status, answer.content_type) == (200, "image/png")
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                tag = answer.headers["ETag"]
            assert hashlib.sha256(picture).hexdigest() == listed["sha256"]
        async with web.head(signed) as answer:
            assert (answer.status, answer.content_length) == (200, len(picture))
            assert answer.headers["Accept-Ranges"] == "bytes"
        async with web.get(signed, headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        async with web.get(signed, headers={"Range": "bytes=300000-300099"}) as answer:
            assert (answer.status, await answer.read()) == (206, picture[300_000:300_100])
            assert answer.headers["Content-Range"] == f"bytes 300000-300099/{len(picture)}"
        async with web.get(signed, headers={"Range": "bytes=-5"}) as answer:
            assert (answer.status, await answer.read()) == (206, picture[-5:])
        async with web.get(signed, headers={"Range": "bytes=99999999-"}) as answer:
            assert answer.status == 416
        async with web.get(f"{signed}?width=64") as answer:
            small = await answer.read()
            assert (answer.status, answer.content_type) == (200, "image/webp")
            assert small[8:12] == b"WEBP"
            assert len(small) < len(picture) / 10
        async with web.get(f"{signed}?width=0") as answer:
            assert answer.status == 400
        await alice.ask("forget", job_id="j")
        async with web.get(signed) as answer:
            assert answer.status == 410
        await alice.ask("submit", workflow="noise", repeat=1, set_id="s1", collect=["zip"])
        (listed,) = (await alice.next("set_result"))["outputs"]
        made = (await alice.ask("link", set_id="s1"))["data"]
        for url in (listed["url"].removeprefix("https://pictures.example.org"), made["url"]):
            async with web.get(either.http + url) as answer:
                assert (answer.status, answer.content_type) == (200, "application/zip")
                assert hashlib.sha256(await answer.read()).hexdigest() == listed["sha256"]


async def test_a_job_and_its_connection_outlive_a_killed_bridge_and_a_killed_broker(
    attached: StartBridge, broker: Mosquitto, server: Standing
) -> None:
    bridge = await attached({"slow": graphs.slow(3)})
    async with server.visitor() as alice:
        await alice.next("bridge", lambda each: each["state"] == "online")
        await alice.ask("run", workflow="slow", job_id="j1")
        await alice.next("progress")
        await bridge.kill()
        await alice.next("bridge", lambda each: each["state"] == "offline")
        await bridge.start(ready=False)
        await alice.next("bridge", lambda each: each["state"] == "online")
        assert (await alice.result("j1"))["state"] == "succeeded"

        await alice.ask("run", workflow="slow", job_id="j2")
        await alice.next("status", lambda each: each["job_id"] == "j2")
        await broker.kill()
        await alice.next("bridge", lambda each: each["state"] == "unreachable")
        refused = await alice.ask("status", job_id="j2")
        assert refused["error"]["code"] == "busy"
        assert refused["error"]["details"] == {"retry": True}
        await broker.start()
        assert (await alice.result("j2"))["state"] == "succeeded"
        await alice.next("bridge", lambda each: each["state"] == "online")
        # Nothing was acked on the way: nobody said that it has it.
        jobs = (await alice.ask("list", peek=True))["data"]["jobs"]
        assert {each["job_id"]: each["acked"] for each in jobs} == {"j1": False, "j2": False}


async def test_what_the_adapter_itself_missed_is_sent_when_it_has_its_broker_again(
    attached: StartBridge, broker: Mosquitto, serve: Serve
) -> None:
    await attached({"colour": graphs.colour()})
    async with (
        TcpProxy(broker.url) as line,
        Peer(broker.url) as peer,
        serve(line.url.replace("http:", "mqtt:")) as server,
        server.visitor() as alice,
        server.visitor() as other,
    ):
        await peer.listen()
        await alice.ask("run", workflow="colour", job_id="seen", inputs={"colour": 21})
        n = (await alice.result("seen"))["n"]
        line.close()
        await alice.next("bridge", lambda each: each["state"] == "unreachable")
        # The bridge is well, and has no reason to say anything twice.
        for index in range(3):
            await peer.ask(f"run/colour/missed-{index}", {"colour": index})
            await peer.result(f"missed-{index}")
        line.open()
        missed = [await alice.result(f"missed-{index}") for index in range(3)]
        assert [each["n"] for each in missed] == sorted(each["n"] for each in missed)
        assert missed[0]["n"] > n
        await other.result("missed-2")
        jobs = (await peer.ask("list", {"peek": True}))["data"]["jobs"]
        assert not any(each["acked"] for each in jobs)


async def test_previews_come_where_they_were_asked_for(
    attached: StartBridge, either: Standing
) -> None:
    await attached({"demo": demo()})
    async with either.visitor() as alice:
        inputs = {"prompt": "a red barn", "width": 256, "height": 256, "steps": 20}
        await alice.ask("run", workflow="demo", job_id="j", inputs=inputs, preview=True)
        preview = await alice.next("preview")
        assert preview.data is not None
        assert preview["content_type"] in ("image/jpeg", "image/png")
        Image.open(io.BytesIO(preview.data)).load()
        assert (await alice.result("j"))["state"] == "succeeded"


async def test_what_is_fetched_comes_to_who_asked_for_it_alone(
    attached: StartBridge, either: Standing
) -> None:
    await attached({"noise": our_output(image(size=512))})
    async with either.visitor() as alice, either.visitor() as phone:
        await alice.ask("run", workflow="noise", job_id="j", output={"deliver": "fetch"})
        (listed,) = (await phone.result("j"))["outputs"]
        picture = b""
        offset: int | None = 0
        while offset is not None:
            answer = await alice.ask("fetch", job_id="j", offset=offset)
            # The bytes come before the answer that tells of them.
            part = alice.all("part")[-1]
            assert part.data is not None
            assert (part["offset"], part["transaction"]) == (offset, answer["transaction"])
            picture += part.data
            offset = answer["data"].get("next")
        assert hashlib.sha256(picture).hexdigest() == listed["sha256"]
        inline = await phone.ask("fetch", job_id="j", count=8, inline=True)
        assert base64.b64decode(inline["data"]["base64"]) == picture[:8]
        assert phone.all("part") == []


async def test_a_picture_on_a_display_is_at_the_address_in_the_result(
    attached: StartBridge, either: Standing
) -> None:
    display = [{"name": "hall", "clients": ["*"], "format": "bmp"}]
    public = "https://pictures.example.org"
    await attached({"colour": graphs.colour()}, display=display, public_url=public)
    async with either.visitor() as alice, aiohttp.ClientSession() as web:
        await alice.ask("run", workflow="colour", job_id="j", inputs={"colour": 31}, show="hall")
        shown = (await alice.result("j"))["shown"]
        assert shown["url"] == f"{public}/d/hall.png"
        address = either.http + shown["url"].removeprefix(public)
        async with web.get(address, params={"key": either.key("hall")}) as answer:
            assert (answer.status, answer.content_type) == (200, "image/bmp")
            assert Image.open(io.BytesIO(await answer.read())).getpixel((0, 0)) == (0, 0, 31)
