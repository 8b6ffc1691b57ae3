"""The server of agents, as the SDK's own client sees it, on a bridge in memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import mcp
import mcp_types as types
import pytest
from mcp.client.streamable_http import streamable_http_client

from bridge.agents.server import Agents
from bridge.client.testing import InMemoryBridge
from bridge.contract.errors import ExecutionError
from tests.support.definitions import PNG, definition

# The SDK takes more than a second to import, in each process that collects these tests.
pytestmark = pytest.mark.slow

VERSIONS = ["2025-11-25", "2026-07-28"]


@pytest.fixture
def bridge() -> InMemoryBridge:
    bridge = InMemoryBridge()
    for name in ("demo", "secret", "broken"):
        bridge.workflows[name] = definition(name, runnable=name != "broken")
        bridge.outputs[name] = [("image/png", PNG)]
    bridge.forbidden.add("secret")
    return bridge


@asynccontextmanager
async def agent(bridge: InMemoryBridge, **options: Any) -> AsyncIterator[mcp.Client]:
    async with (
        bridge.client("agent") as client,
        mcp.Client(Agents(client).server, **options) as found,
    ):
        yield found


async def test_a_tool_is_each_workflow_that_runs_and_that_the_client_may_use(
    bridge: InMemoryBridge,
) -> None:
    async with agent(bridge) as found:
        (tool,) = (await found.list_tools()).tools
    assert (tool.name, tool.title) == ("demo", "The demo")
    assert tool.input_schema["required"] == ["prompt"]
    assert bridge.submitted == []


async def test_a_bridge_that_does_not_answer_is_asked_once_for_all_rights(
    bridge: InMemoryBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def never(name: str) -> None:
        asked.append(name)
        await asyncio.Event().wait()

    monkeypatch.setattr("bridge.agents.server.ANSWER_S", 0.0)
    async with bridge.client("agent") as client:
        monkeypatch.setattr(client, "dry_run", never)
        async with mcp.Client(Agents(client).server) as found:
            offered = (await found.list_tools()).tools
    assert ({each.name for each in offered}, len(asked)) == ({"demo", "secret"}, 1)


async def test_a_call_runs_a_job_and_gives_its_picture(bridge: InMemoryBridge) -> None:
    async with agent(bridge) as found:
        result = await found.call_tool("demo", {"prompt": "a fox", "steps": 3})
    assert not result.is_error
    image, about = result.content
    assert isinstance(image, types.ImageContent)
    assert isinstance(about, types.TextContent)
    assert image.mime_type == "image/png"
    assert bridge.submitted[0].inputs == {"prompt": "a fox", "steps": 3}
    assert bridge.submitted[0].output.format == "webp"
    assert result.structured_content is not None
    assert about.text == f"job_id: {result.structured_content['job_id']}"


async def test_progress_is_reported_to_who_asks_for_it(bridge: InMemoryBridge) -> None:
    heard: list[tuple[float, str | None]] = []

    async def progress(
        progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        assert total == 100.0
        heard.append((progress, message))

    async with agent(bridge) as found:
        await found.call_tool("demo", {"prompt": "x"}, progress_callback=progress)
    assert heard[0] == (0.0, "running")


async def test_a_job_that_fails_is_an_error_that_says_why(bridge: InMemoryBridge) -> None:
    bridge.failures["demo"] = ExecutionError("the sampler is gone")
    async with agent(bridge) as found:
        result = await found.call_tool("demo", {"prompt": "x"})
        refused = await found.call_tool("secret", {"prompt": "x"})
        with pytest.raises(mcp.MCPError, match="none"):
            await found.call_tool("none", {})
    assert result.is_error
    assert text(result) == "execution_error: the sampler is gone"
    assert refused.is_error
    assert text(refused).startswith("forbidden: ")


def text(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


async def test_a_call_that_is_cancelled_cancels_its_job(bridge: InMemoryBridge) -> None:
    bridge.held.add("demo")
    async with agent(bridge, **how(VERSIONS[0])) as found:
        calling = asyncio.create_task(found.call_tool("demo", {"prompt": "x"}))
        while not bridge.submitted:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0)
        job_id = str(bridge.submitted[0].job_id)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        while bridge.state_of_job("agent", job_id) != "cancelled":  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_person_is_asked_for_a_required_input(bridge: InMemoryBridge, version: str) -> None:
    asked: list[Any] = []

    async def answer(
        _context: Any, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        asked.append(params)
        return types.ElicitResult(action="accept", content={"prompt": "a fox"})

    async with agent(bridge, elicitation_callback=answer, **how(version)) as found:
        result = await found.call_tool("demo", {"steps": 3})
    assert not result.is_error
    assert list(asked[0].requested_schema["properties"]) == ["prompt"]
    assert [each.inputs for each in bridge.submitted] == [{"steps": 3, "prompt": "a fox"}]


@pytest.mark.parametrize("version", VERSIONS)
async def test_nothing_is_run_where_the_person_declines(
    bridge: InMemoryBridge, version: str
) -> None:
    async def answer(_context: Any, _params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="decline")

    async with agent(bridge, elicitation_callback=answer, **how(version)) as found:
        result = await found.call_tool("demo", {})
    assert result.is_error
    assert text(result).startswith("nothing was run")
    assert bridge.submitted == []


def how(version: str) -> dict[str, Any]:
    """Return the options for a client that speaks this version of the protocol."""
    return {"mode": "legacy" if version < "2026" else version}


async def test_who_can_ask_nobody_gets_the_bridges_word(bridge: InMemoryBridge) -> None:
    async with agent(bridge) as found:
        await found.call_tool("demo", {})
    assert bridge.submitted[0].inputs == {}


@asynccontextmanager
async def served(bridge: InMemoryBridge, host: str, token: str | None) -> AsyncIterator[str]:
    """Serve HTTP to agents; gives the address once something answers there."""
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    url = f"http://{host}:{port}/mcp"
    async with bridge.client("agent") as client:
        serving = asyncio.create_task(Agents(client).serve_http(host, port, token))
        try:
            async with httpx2.AsyncClient() as http:
                while True:
                    try:
                        await http.get(url)
                    except httpx2.ConnectError:
                        await asyncio.sleep(0)
                    else:
                        break
            yield url
        finally:
            serving.cancel()
            with anyio.move_on_after(5):
                await asyncio.gather(serving, return_exceptions=True)


async def test_it_serves_http_to_who_has_the_token(bridge: InMemoryBridge) -> None:
    async with served(bridge, "127.0.0.1", "sesame") as url:
        async with httpx2.AsyncClient() as http:
            assert (await http.post(url, json={})).status_code == 401
        headers = {"authorization": "Bearer sesame"}
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = streamable_http_client(url, http_client=http)
            async with mcp.Client(transport) as found:
                result = await found.call_tool("demo", {"prompt": "x"})
                assert isinstance(result.content[0], types.ImageContent)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
async def test_without_a_token_no_page_from_elsewhere_reaches_it(
    bridge: InMemoryBridge, host: str
) -> None:
    async with served(bridge, host, None) as url, httpx2.AsyncClient() as http:
        rebound = await http.post(url, json={}, headers={"host": "site.example"})
        assert rebound.status_code == 421
        foreign = await http.post(url, json={}, headers={"origin": "http://site.example"})
        assert foreign.status_code == 403
        async with mcp.Client(streamable_http_client(url, http_client=http)) as found:
            assert [each.name for each in (await found.list_tools()).tools] == ["demo"]
