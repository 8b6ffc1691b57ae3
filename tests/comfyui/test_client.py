"""The HTTP client against the real ComfyUI, and against servers that answer as none should."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import web

from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import (
    ComfyUIError,
    ComfyUIForbidden,
    ComfyUIUnreachable,
    NotFound,
    OutputGone,
    PromptRejected,
    ReplyTooLarge,
    UnexpectedAnswer,
)
from bridge.workflows.objectinfo import ObjectInfo
from tests.support.answering import answering, saying
from tests.support.comfyui import Server, image, installed, new_id, our_output, saved

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


@pytest.fixture
async def client(comfyui: Server) -> AsyncIterator[ComfyClient]:
    async with ComfyClient(comfyui.url, secret=comfyui.secret) as client:
        yield client


async def ran(client: ComfyClient) -> str:
    """Run a prompt whose events nobody receives; returns its id."""
    prompt_id = new_id()
    await client.submit(our_output(image()), prompt_id, "nobody")
    while prompt_id in await client.queue():
        pass
    return prompt_id


# -- the real ComfyUI ---------------------------------------------------------------------------


@pytest.mark.comfyui
async def test_the_server_describes_itself(client: ComfyClient) -> None:
    system = (await client.system_stats())["system"]
    assert system["comfyui_version"]
    assert isinstance(await client.features(), dict)
    assert "SaveImage" in json.loads(await client.object_info())
    # An older server does not know the route.
    assert (await client.node_replacements())[:1] in (b"", b"{")


@pytest.fixture
def odd_file() -> Iterator[str]:
    """A file of ComfyUI's input folder whose name is not UTF-8; gives that as it is shown."""
    name = f"m\udcfcller-{new_id()}.png"  # as Python names the byte of a Latin ü
    odd = installed()[0] / "input" / name
    odd.write_bytes(PNG)
    yield name.replace("\udcfc", "?")
    odd.unlink()


@pytest.mark.comfyui
async def test_a_file_whose_name_is_not_utf_8_hides_no_node_class(
    client: ComfyClient, odd_file: str
) -> None:
    loads = ObjectInfo.decode(await client.object_info()).get("LoadImage")
    assert loads is not None
    assert odd_file in (loads.inputs[0].choices or ())


@pytest.mark.comfyui
async def test_our_nodes_greet(client: ComfyClient, comfyui: Server) -> None:
    hello = await client.hello()
    assert hello is not None
    assert (hello.protocol, hello.pid) == (1, comfyui.running.pid)
    assert "Comfy2MQTTImageOutput" in hello.nodes


@pytest.mark.comfyui
async def test_our_nodes_turn_away_who_does_not_know_the_secret(comfyui: Server) -> None:
    for secret in (None, "wrong"):
        async with ComfyClient(comfyui.url, secret=secret) as stranger:
            with pytest.raises(ComfyUIForbidden):
                await stranger.hello()
            assert await stranger.system_stats()


@pytest.mark.comfyui
async def test_a_file_goes_up_and_comes_down_again(client: ComfyClient) -> None:
    name = f"{new_id()}.png"
    held = await client.upload_image(PNG, name, "some folder/below", type="temp")
    assert held == {"name": name, "subfolder": "some folder/below", "type": "temp"}
    assert await client.view(name, "some folder/below", "temp") == PNG
    other = await client.upload_image(PNG + b"1", name, "some folder/below", type="temp")
    assert other["name"] != name
    again = await client.upload_image(
        PNG + b"2", name, "some folder/below", type="temp", overwrite=True
    )
    assert again["name"] == name
    assert await client.view(name, "some folder/below", "temp") == PNG + b"2"
    with pytest.raises(ReplyTooLarge) as caught:
        await client.view(name, "some folder/below", "temp", limit=10)
    assert caught.value.limit == 10
    with pytest.raises(NotFound):
        await client.view("nothing.png", "", "temp")


@pytest.mark.comfyui
async def test_media_are_held_by_their_hash(client: ComfyClient) -> None:
    data = PNG + new_id().encode()
    sha256 = hashlib.sha256(data).hexdigest()
    assert not await client.has_media(sha256)
    await client.put_media(sha256, data, "image/png")
    assert await client.has_media(sha256)
    with pytest.raises(UnexpectedAnswer) as caught:
        await client.put_media(sha256[::-1], data, "image/png")
    assert caught.value.status == 400


@pytest.mark.comfyui
async def test_outputs_are_held_until_they_are_confirmed(client: ComfyClient) -> None:
    prompt_id = await ran(client)
    (header,) = await client.held_outputs(prompt_id)
    data = await client.held_output(prompt_id, header.node, header.index)
    assert hashlib.sha256(data).hexdigest() == header.sha256
    await client.confirm_outputs(prompt_id)
    with pytest.raises(NotFound):
        await client.held_output(prompt_id, header.node, header.index)
    await client.confirm_outputs(new_id())


@pytest.mark.comfyui
async def test_a_history_entry_can_be_deleted(client: ComfyClient) -> None:
    prompt_id = await ran(client)
    await client.forget_history((prompt_id,))
    assert await client.history(prompt_id) is None


@pytest.mark.comfyui
async def test_memory_can_be_freed(client: ComfyClient) -> None:
    await client.free(unload_models=True, free_memory=True)


@pytest.mark.comfyui
async def test_a_refusal_names_nodes_and_problems(client: ComfyClient) -> None:
    graph = saved(image(size=-1))
    graph["1"]["inputs"]["kind"] = "no such kind"
    with pytest.raises(PromptRejected) as caught:
        await client.submit(graph, new_id(), "nobody")
    assert caught.value.error.type == "prompt_outputs_failed_validation"
    problems = caught.value.node_errors["1"]
    assert problems.dependent_outputs == ("2",)
    assert {(one.type, one.extra_info["input_name"]) for one in problems.errors} == {
        ("value_smaller_than_min", "width"),
        ("value_smaller_than_min", "height"),
        ("value_not_in_list", "kind"),
    }


@pytest.mark.comfyui
@pytest.mark.parametrize(
    ("graph", "kind"),
    [
        ({}, "prompt_no_outputs"),
        ({"1": {"class_type": "NoSuchNode", "inputs": {}}}, "invalid_prompt"),
        ({"1": {"inputs": {}}}, "invalid_prompt"),
    ],
)
async def test_a_graph_that_is_none_is_refused(
    client: ComfyClient, graph: dict[str, object], kind: str
) -> None:
    with pytest.raises(PromptRejected) as caught:
        await client.submit(graph, new_id(), "nobody")
    assert caught.value.error.type in (kind, "missing_node_type")


# -- servers that are none ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ComfyUIForbidden),
        (403, ComfyUIForbidden),
        (404, NotFound),
        (410, OutputGone),
        (302, UnexpectedAnswer),
        (500, UnexpectedAnswer),
        (502, UnexpectedAnswer),
    ],
)
async def test_a_bad_status_is_reported_with_the_beginning_of_the_body(
    status: int, kind: type[UnexpectedAnswer]
) -> None:
    async with answering(saying("x" * 5000, status)) as client:
        with pytest.raises(kind) as caught:
            await client.held_output("p", "58:43", 0)
    assert (caught.value.status, len(caught.value.excerpt)) == (status, 200)


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "3", "null", '{"queue_running": 1}', b"\xff", '{"x": ' + "[" * 5000],
)
async def test_a_body_that_cannot_be_read_is_reported(body: bytes | str) -> None:
    async with answering(saying(body)) as client:
        with pytest.raises(UnexpectedAnswer):
            await client.queue()
        with pytest.raises(UnexpectedAnswer):
            await client.held_outputs("p")


@pytest.mark.parametrize(
    "page", ["", "<html>", '{"detail": "Not Found"}', b"\xff", "[" * 5000, "x" * 2**21]
)
async def test_a_proxys_page_in_the_place_of_a_greeting_is_none(page: bytes | str) -> None:
    async with answering(saying(page)) as client:
        assert await client.hello() is None


async def test_a_comfyui_without_our_nodes_has_no_greeting() -> None:
    async with answering(saying("", 404)) as client:
        assert await client.hello() is None
        assert await client.features() == {}
        assert await client.node_replacements() == b""


@pytest.mark.parametrize("status", [403, 500])
async def test_a_proxy_that_refuses_to_list_replacements_counts_as_none(status: int) -> None:
    async with answering(saying("no", status)) as client:
        assert await client.node_replacements() == b""


async def test_a_prompt_is_withdrawn_without_interrupting_anothers() -> None:
    asked: list[tuple[str, str, object]] = []
    ours, theirs = [1, "ours", {}, {}, []], [0, "theirs", {}, {}, []]
    # What runs and what waits, at each look at the queue: a ComfyUI before 0.3.57 would interrupt
    # whatever runs, so ours must be seen to run first.
    looks = iter([([theirs], [ours]), ([ours], []), ([], [])])

    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            running, waiting = next(looks)
            asked.append(("GET", request.path, running[0][1] if running else None))
            return web.json_response({"queue_running": running, "queue_pending": waiting})
        asked.append(("POST", request.path, await request.json()))
        return web.json_response({})

    async def at_once() -> None: ...

    async with answering(answer) as client:
        assert await client.withdraw("ours", pause=at_once)
    assert asked == [
        ("POST", "/queue", {"delete": ["ours"]}),
        ("GET", "/queue", "theirs"),
        ("POST", "/queue", {"delete": ["ours"]}),  # it waits nevertheless
        ("GET", "/queue", "ours"),
        ("POST", "/interrupt", {"prompt_id": "ours"}),
        ("GET", "/queue", None),
    ]


async def test_a_reply_without_end_is_cut_off() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with answering(endless) as client:
        with pytest.raises(ReplyTooLarge):
            await client.view("a.png", limit=1_000_000)


async def test_a_server_that_hangs_up_may_have_the_request() -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with answering(hang_up) as client:
        with pytest.raises(ComfyUIUnreachable) as caught:
            await client.submit({}, "p", "c")
    assert caught.value.sent


async def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()

    async def wait(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with answering(wait) as client:
        monkeypatch.setattr("bridge.comfyui.client._PATIENCE_S", 0.05)
        with pytest.raises(ComfyUIUnreachable) as caught:
            await client._get("/queue", limit=1, within_s=0.05)
        release.set()
    assert caught.value.sent


async def test_nobody_at_the_port_means_it_was_not_sent() -> None:
    async with answering(saying("")) as client:
        url = str(client.base_url)
    async with ComfyClient(url) as client:
        with pytest.raises(ComfyUIUnreachable) as caught:
            await client.queue()
    assert not caught.value.sent


async def test_a_closed_client_says_so() -> None:
    with pytest.raises(ComfyUIUnreachable):
        await ComfyClient("http://127.0.0.1:1").queue()


async def test_passwords_stay_out_of_messages() -> None:
    seen: list[str] = []

    async def refuse(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.Response(status=500)

    async with answering(refuse) as plain:
        url = f"http://user:password@127.0.0.1:{plain.base_url.port}/proxied/"
        async with ComfyClient(url) as client:
            with pytest.raises(ComfyUIError) as answered:
                await client.queue()
    async with ComfyClient(url) as client:
        with pytest.raises(ComfyUIError) as refused:
            await client.queue()
    assert seen[0].startswith("Basic ")
    assert "/proxied/queue" in str(answered.value)
    assert "password" not in f"{answered.value} {refused.value}"


async def test_a_name_cannot_leave_its_place_in_the_path() -> None:
    seen: list[str] = []

    async def note(request: web.Request) -> web.Response:
        seen.append(request.raw_path)
        return web.Response(body=b"{}")

    async with answering(note) as client:
        await client.held_output("../queue?a=b#c", "../7", 0)
        await client.history("a/b%2Fc")
    assert seen == [
        "/comfy2mqtt/outputs/..%2Fqueue%3Fa%3Db%23c/..%2F7/0",
        "/history/a%2Fb%252Fc",
    ]


async def test_a_refusal_in_a_sentence_is_understood() -> None:
    body = json.dumps({"error": "no", "node_errors": []})
    async with answering(saying(body, 400)) as client:
        with pytest.raises(PromptRejected) as caught:
            await client.submit({}, "p", "c")
    assert caught.value.error.message == "no"
    assert caught.value.node_errors == {}
