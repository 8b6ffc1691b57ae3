"""Every way by which a media input's bytes come, on the real stack."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, saved
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


def png(size: tuple[int, int] = (40, 30), *, noise: float = 90.0) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, noise).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = png()
LARGE = png((400, 300))
SHA = hashlib.sha256(PICTURE).hexdigest()


def pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB").tobytes()


async def comes_back(peer: Peer, job_id: str, data: bytes) -> dict[str, Any]:
    """The job succeeds, and its output is the picture that went in."""
    result: dict[str, Any] = await peer.result(job_id)
    assert result["state"] == "succeeded", str(result)
    output = await peer.job(job_id, "output/0")
    assert pixels(output.payload) == pixels(data)
    return result


@pytest.fixture
async def peer(attached: StartBridge, broker: Mosquitto) -> AsyncIterator[Peer]:
    load = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "none.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    await attached(
        {"echo": graphs.echo(), "load": load, "slow": graphs.slow(1.0), "saved": saved(image())},
        max_inline_input=200_000,
        max_upload=1_000_000,
        clients={
            "*": {"max_uploads": 1_200_000},
            "alice": {"input_topics": ["cameras/+/snapshot"], "url_hosts": ["localhost"]},
        },
        url_timeout_s="10",
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        yield peer


async def test_base64_goes_to_our_node_and_to_comfyuis_own(peer: Peer) -> None:
    given = {"base64": base64.b64encode(PICTURE).decode()}
    peer.request("run/echo/j1", {"picture": given})
    result = await comes_back(peer, "j1", PICTURE)
    assert result["inputs"]["picture"] == {
        "sha256": SHA,
        "size": len(PICTURE),
        "content_type": "image/png",
    }
    peer.request("run/load/j2", {"1.image": given})
    await comes_back(peer, "j2", PICTURE)


async def test_an_upload_whole_or_in_parts_is_an_input(peer: Peer) -> None:
    report = await peer.ask("upload/whole", PICTURE)
    assert report["data"].items() >= {"complete": True, "sha256": SHA, "held": len(PICTURE)}.items()
    await peer.ask("run/echo/j1", {"picture": {"upload": "whole"}})
    await comes_back(peer, "j1", PICTURE)

    digest = hashlib.sha256(LARGE).hexdigest()
    begin = {"size": len(LARGE), "sha256": digest}
    assert (await peer.ask("upload/parts", begin))["data"]["held"] == 0
    half = len(LARGE) // 2
    assert (await peer.ask("upload/parts/0", LARGE[:half]))["data"]["held"] == half
    # A part twice, one too early, the end too early: nothing is lost.
    assert (await peer.ask("upload/parts/0", LARGE[:half]))["data"]["held"] == half
    early = await peer.ask(f"upload/parts/{half + 5}", LARGE[half + 5 :])
    assert (early["error"]["code"], early["error"]["details"]["held"]) == ("conflict", half)
    unfinished = await peer.ask("upload/parts/fin")
    assert unfinished["error"]["details"]["held"] == half
    refused = await peer.ask("run/echo", {"picture": {"upload": "parts"}})
    assert refused["error"]["code"] == "invalid_input"
    # Resumed: begin again tells where to go on.
    assert (await peer.ask("upload/parts", begin))["data"]["held"] == half
    assert (await peer.ask(f"upload/parts/{half}", LARGE[half:]))["data"]["held"] == len(LARGE)
    for _ in range(2):  # sent twice, done once
        finished = (await peer.ask("upload/parts/fin"))["data"]
        assert (finished["complete"], finished["sha256"]) == (True, digest)
    peer.request("run/echo/j2", {"picture": {"upload": "parts"}})
    await comes_back(peer, "j2", LARGE)


async def test_uploads_have_bounds(peer: Peer) -> None:
    begin = {"size": 2_000_000, "sha256": SHA}
    assert (await peer.ask("upload/u1", begin))["error"]["code"] == "too_large"
    assert (await peer.ask("upload/u2", b""))["error"]["code"] == "bad_request"
    assert (await peer.ask("upload/u/x/y", b"x"))["error"]["code"] == "bad_request"
    assert (await peer.ask("upload/never/0", b"x"))["error"]["code"] == "invalid_input"
    wrong = {"size": 3, "sha256": "0" * 64}
    await peer.ask("upload/u3", wrong)
    assert (await peer.ask("upload/u3/0", b"four"))["error"]["code"] == "too_large"
    await peer.ask("upload/u3/0", b"abc")
    assert (await peer.ask("upload/u3/fin"))["error"]["code"] == "invalid_input"
    # What is announced counts, though not a byte of it is here.
    begin = {"size": 900_000, "sha256": SHA, "transaction": "t"}
    assert (await peer.ask("upload/u6", begin))["transaction"] == "t"
    assert (await peer.ask("upload/u7", begin))["error"]["code"] == "quota_exceeded"
    assert (await peer.ask("upload/u6", {"size": 10, "sha256": SHA}))["data"]["held"] == 0
    assert (await peer.ask("upload/u4", bytes(900_000)))["data"]["complete"] is True
    assert (await peer.ask("upload/u5", bytes(900_000)))["error"]["code"] == "quota_exceeded"
    refused = await peer.ask("run/echo", {"picture": {"upload": "u4"}})
    assert refused["error"]["details"]["found"] == "application/octet-stream"
    async with Peer(peer.url, client="bob") as bob:
        await bob.listen()
        theirs = await bob.ask("run/echo", {"picture": {"upload": "u4"}})
        assert theirs["error"]["code"] == "invalid_input"


async def test_another_jobs_output_is_an_input_also_before_it_is_there(peer: Peer) -> None:
    peer.request("run/slow/first")
    chained = {"picture": {"job": "first", "output": 0}}
    answer = await peer.ask("run/echo/second", chained)
    first_answer, second_answer = answer, (await peer.response("run")).json
    states = {
        each["data"]["job_id"]: each["data"]["state"] for each in (first_answer, second_answer)
    }
    assert states == {"first": "queued", "second": "waiting"}
    peer.request("run/echo/third", {"picture": {"job": "second"}})
    first = await peer.job("first", "output/0")
    await comes_back(peer, "second", first.payload)
    await comes_back(peer, "third", first.payload)
    reported = [message.json["state"] for message in peer.of_job("second", "status")]
    assert reported == ["waiting", "queued", "running"]
    peer.request("run/echo/fourth", chained)  # now it is there at once
    await comes_back(peer, "fourth", first.payload)


async def test_a_job_whose_dependency_fails_fails_with_it(peer: Peer) -> None:
    await peer.ask("run/slow/first")
    for job_id in ("second", "third"):
        await peer.ask(f"run/echo/{job_id}", {"picture": {"job": "first"}})
    await peer.ask("cancel", b"third")
    assert (await peer.result("third"))["state"] == "cancelled"
    await peer.ask("cancel", b"first")
    result = await peer.result("second")
    assert (result["state"], result["error"]["code"]) == ("failed", "dependency_failed")
    late = await peer.ask("run/echo/late", {"picture": {"job": "first"}})
    assert late["error"]["code"] == "dependency_failed"
    unknown = await peer.ask("run/echo/x", {"picture": {"job": "nobody"}})
    assert unknown["error"]["code"] == "invalid_input"


async def test_a_waiting_job_survives_a_killed_bridge(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"echo": graphs.echo(), "slow": graphs.slow(1.5)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/slow/first")
        await peer.ask("run/echo/second", {"picture": {"job": "first"}})
        await bridge.kill()
        await bridge.start()
        first = await peer.job("first", "output/0")
        await comes_back(peer, "second", first.payload)


async def test_a_cameras_last_snapshot_is_an_input(peer: Peer) -> None:
    topic = "cameras/door/snapshot"
    forbidden = await peer.ask("run/echo", {"picture": {"topic": "cameras/door/secret"}})
    assert forbidden["error"]["details"]["setting"] == "clients.alice.input_topics"
    # The event comes before the picture: the job waits for it.
    await peer.ask("run/echo/early", {"picture": {"topic": topic, "max_age_s": 5, "wait_s": 30}})
    await peer.job("early", "status", lambda message: message.json["state"] == "waiting")
    peer.publish(topic, PICTURE)
    await comes_back(peer, "early", PICTURE)
    # The picture came before the event.
    await peer.ask("run/echo/late", {"picture": {"topic": topic, "max_age_s": 60}})
    await comes_back(peer, "late", PICTURE)
    await peer.ask("run/echo/none", {"picture": {"topic": "cameras/garden/snapshot"}})
    result = await peer.result("none")
    assert result["error"]["code"] == "dependency_failed"


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """A web server on loopback: /picture, /recovering, /redirect, /missing, /endless; its port."""

    async def picture(_: web.Request) -> web.Response:
        return web.Response(body=PICTURE, content_type="text/plain")  # the bytes decide

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["to"])

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(100_000))

    busy = iter((503, 429))

    async def recovering(request: web.Request) -> web.Response:
        status = next(busy, 200)
        return web.Response(status=status) if status > 200 else await picture(request)

    application = web.Application()
    application.router.add_get("/recovering", recovering)
    application.router.add_get("/picture", picture)
    application.router.add_get("/redirect", redirect)
    application.router.add_get("/endless", endless)
    runner = web.AppRunner(application, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_url_is_an_input_with_a_backup_and_within_bounds(peer: Peer, server: int) -> None:
    ours, loopback = f"http://localhost:{server}", f"http://127.0.0.1:{server}"
    good: dict[str, dict[str, str]] = {
        "plain": {"url": f"{ours}/picture"},
        "recovering": {"url": f"{ours}/recovering"},
        "redirected": {"url": f"{ours}/redirect?to=/picture"},
        "backup": {"url": f"{ours}/missing", "backup_url": f"{ours}/picture"},
    }
    for job_id, source in good.items():
        await peer.ask(f"run/echo/{job_id}", {"picture": source})
        await comes_back(peer, job_id, PICTURE)
    bad = {
        "loopback": (f"{loopback}/picture", "forbidden"),
        "mapped": (f"http://[::ffff:127.0.0.1]:{server}/picture", "forbidden"),
        "redirected-away": (f"{ours}/redirect?to={loopback}/picture", "forbidden"),
        "file": ("file:///etc/passwd", "forbidden"),
        "missing": (f"{ours}/missing", "dependency_failed"),
        "endless": (f"{ours}/endless", "too_large"),
        "no-server": ("http://localhost:1/x", "dependency_failed"),
    }
    for job_id, (url, code) in bad.items():
        await peer.ask(f"run/echo/{job_id}", {"picture": {"url": url}})
        result = await peer.result(job_id)
        assert (result["state"], result["error"]["code"]) == ("failed", code), (job_id, result)
