from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from yarl import URL

from tests.custom_nodes.comfyui import MEDIA_BYTES, OUTPUT_BYTES
from tests.custom_nodes.graphs import image_graph, noise
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.custom_nodes.comfyui import ComfyUI

pytestmark = pytest.mark.comfyui

HASH = hashlib.sha256(b"x").hexdigest()

EVERY_ROUTE = [
    ("GET", "/comfy2mqtt/hello"),
    ("PUT", f"/comfy2mqtt/media/{HASH}"),
    ("HEAD", f"/comfy2mqtt/media/{HASH}"),
    ("GET", "/comfy2mqtt/outputs/some-prompt"),
    ("GET", "/comfy2mqtt/outputs/some-prompt/1/0"),
    ("DELETE", "/comfy2mqtt/outputs/some-prompt"),
    ("POST", "/comfy2mqtt/uploads/remove"),
]


async def status(comfyui: ComfyUI, method: str, path: str, data: bytes | None = None) -> int:
    async with comfyui.http.request(method, path, data=data) as response:
        return response.status


async def test_hello_says_who_is_here(comfyui: ComfyUI) -> None:
    async with comfyui.http.get("/comfy2mqtt/hello") as response:
        answer = await response.json()
    assert answer["protocol"] == 1
    assert answer["version"]
    assert answer["pid"] == comfyui.server.pid
    assert len(answer["process"]) == 32
    assert answer["worker"] is True
    assert "Comfy2MQTTImageOutput" in answer["nodes"]
    assert answer["missing"] == {}
    assert answer["outputs"]["budget"] == OUTPUT_BYTES


async def test_hello_counts_what_is_held(comfyui: ComfyUI) -> None:
    async def totals() -> tuple[int, int]:
        async with comfyui.http.get("/comfy2mqtt/hello") as response:
            outputs = (await response.json())["outputs"]
        return outputs["count"], outputs["bytes"]

    run = await comfyui.run(image_graph(noise(seed=30, width=8, height=8)))
    count, size = await totals()
    await comfyui.confirm(run.prompt_id)
    assert await totals() == (count - 1, size - run.outputs[0].header["size"])


@pytest.mark.parametrize(("method", "path"), EVERY_ROUTE)
@pytest.mark.parametrize("headers", [{}, {"X-Comfy2MQTT-Secret": "guess"}])
async def test_without_the_secret_no_route_answers(
    comfyui: ComfyUI, method: str, path: str, headers: dict[str, str]
) -> None:
    async with (
        comfyui.stranger(headers) as session,
        session.request(method, path) as response,
    ):
        assert response.status == 403


async def test_media_is_new_once_and_then_held(comfyui: ComfyUI) -> None:
    data = b"new media"
    path = f"/comfy2mqtt/media/{hashlib.sha256(data).hexdigest()}"
    assert await status(comfyui, "HEAD", path) == 404
    assert await status(comfyui, "PUT", path, data) == 201
    assert await status(comfyui, "HEAD", path) == 200
    assert await status(comfyui, "PUT", path, data) == 200


async def test_media_under_another_hash_is_refused(comfyui: ComfyUI) -> None:
    path = f"/comfy2mqtt/media/{hashlib.sha256(b'other').hexdigest()}"
    assert await status(comfyui, "PUT", path, b"bytes") == 400
    assert await status(comfyui, "HEAD", path) == 404


@pytest.mark.parametrize("name", ["photo.png", HASH.upper(), HASH[1:]])
async def test_media_is_named_by_a_hash_only(comfyui: ComfyUI, name: str) -> None:
    assert await status(comfyui, "PUT", f"/comfy2mqtt/media/{name}", b"x") == 400


async def test_media_above_the_budget_is_refused(comfyui: ComfyUI) -> None:
    data = bytes(MEDIA_BYTES + 1)
    path = f"/comfy2mqtt/media/{hashlib.sha256(data).hexdigest()}"
    assert await status(comfyui, "PUT", path, data) == 413


async def test_media_of_unknown_length_is_bounded_too(comfyui: ComfyUI) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield bytes(MEDIA_BYTES // 2)

    data = bytes(MEDIA_BYTES // 2) * 3
    path = f"/comfy2mqtt/media/{hashlib.sha256(data).hexdigest()}"
    async with comfyui.http.put(path, data=chunks()) as response:
        assert response.status == 413


async def test_the_media_used_least_recently_makes_room(comfyui: ComfyUI) -> None:
    third = MEDIA_BYTES // 3
    names = [await comfyui.put_media(bytes([number]) * third) for number in range(3)]
    await comfyui.put_media(b"\xff" * third)
    found = [await status(comfyui, "HEAD", f"/comfy2mqtt/media/{name}") for name in names]
    assert found == [404, 200, 200]


async def test_confirmed_outputs_are_freed(comfyui: ComfyUI) -> None:
    run = await comfyui.run(image_graph(noise(seed=31)))
    await comfyui.confirm(run.prompt_id)
    assert await comfyui.held(run) == []
    path = f"/comfy2mqtt/outputs/{run.prompt_id}/2/0"
    assert await status(comfyui, "GET", path) == 404


async def test_an_unknown_prompt_is_confirmed_and_has_no_outputs(comfyui: ComfyUI) -> None:
    await comfyui.confirm("never-run")
    async with comfyui.http.get("/comfy2mqtt/outputs/never-run") as response:
        assert (response.status, await response.json()) == (200, [])


async def test_an_evicted_output_is_gone_and_not_unknown(comfyui: ComfyUI) -> None:
    first = await comfyui.run(image_graph(noise(seed=32, width=250, height=250)))
    last = await comfyui.run(image_graph(noise(seed=33, width=300, height=300)))
    path = f"/comfy2mqtt/outputs/{first.prompt_id}"
    assert await status(comfyui, "GET", path) == 410
    assert await status(comfyui, "GET", f"{path}/2/0") == 410
    assert await comfyui.held(last) == [last.outputs[0].header]
    async with asyncio.timeout(PATIENCE_S):  # ComfyUI's log is written by a thread of its own
        while f"the outputs of prompt {first.prompt_id}" not in comfyui.server.log():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "path", ["2/1", "3/0", "2/x", "2/-1", "2/\N{ARABIC-INDIC DIGIT ZERO}", f"2/{10**20}"]
)
async def test_a_stranger_among_the_outputs_is_not_found(comfyui: ComfyUI, path: str) -> None:
    run = await comfyui.run(image_graph(noise(seed=34)))
    assert await status(comfyui, "GET", f"/comfy2mqtt/outputs/{run.prompt_id}/{path}") == 404


async def test_a_node_id_with_a_colon_or_a_slash_is_found_percent_encoded(comfyui: ComfyUI) -> None:
    graph = image_graph(noise(seed=35))
    graph["58:4/3"] = graph.pop("2")
    run = await comfyui.run(graph)
    path = URL(f"/comfy2mqtt/outputs/{run.prompt_id}/58%3A4%2F3/0", encoded=True)
    async with comfyui.http.get(path) as response:
        assert await response.read() == run.outputs[0].data
