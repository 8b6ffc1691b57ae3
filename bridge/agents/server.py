"""The server that agents speak to: a tool for each workflow, over stdio or HTTP."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import mcp_types as types
import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from msgspec import UNSET

from bridge import __version__
from bridge.agents import tools
from bridge.agents.tools import ToolContent, ToolSpec
from bridge.client import Client, Job
from bridge.contract import messages
from bridge.contract.errors import BridgeError, Forbidden, UnknownWorkflow
from bridge.contract.retained import Definition

log = logging.getLogger(__name__)

# How long it is remembered what the client may use, in seconds.
RIGHTS_S = 60.0
# How long the bridge has to answer that.
ANSWER_S = 5.0
# How long a cancelled call waits for the bridge to take it, in seconds.
CANCEL_S = 5.0
# Where what a person was asked for comes back.
_FORM = "inputs"
_NOTHING = "nothing was run: an input is missing, and the person who was asked did not give it"
# From this version of the protocol on a tool asks by its answer, and is called again.
_ASKS_BY_ANSWER = "2026-07-28"

_Context = ServerRequestContext[Any]


class Agents:
    """Answers agents as one client of the bridge; the client has to be open."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._may: dict[str, tuple[float, bool]] = {}
        self.server: Server[Any] = Server(
            "comfy2mqtt",
            version=__version__,
            title="ComfyUI by comfy2mqtt",
            instructions="Each tool runs a workflow of ComfyUI and gives what it makes. A picture "
            'of an earlier result can be an input: {"job": its job_id, "output": 0}.',
            on_list_tools=self._list,
            on_call_tool=self._call,
        )

    async def serve_stdio(self) -> None:
        """Serve the program that started this one, until it closes standard input."""
        async with stdio_server() as (incoming, outgoing):
            options = self.server.create_initialization_options()
            await self.server.run(incoming, outgoing, options)

    async def serve_http(self, host: str, port: int, token: str | None) -> None:
        """Serve streamable HTTP at `/mcp`, until cancelled; with a token, who sends it alone.

        Without one, requests have to name this machine: a page of a site that has its own name
        resolve to this address does not.
        """
        security = None if token is not None else _of_names(host)
        app: Any = self.server.streamable_http_app(host=host, transport_security=security)
        if token is not None:
            app = _guarded(app, token)
        config = uvicorn.Config(app, host=host, port=port, log_config=None, access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.ensure_future(server.serve())
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise

    # What agents ask.

    async def _list(
        self, _context: _Context, _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        definitions = await self._client.workflows()
        offered = [each for each in definitions.values() if tools.is_offered(each)]
        await self._learn_rights([each.name for each in offered])
        found = [_tool(tools.tool_of(each)) for each in offered if self._may_use(each.name)]
        return types.ListToolsResult(tools=found)

    async def _call(
        self, context: _Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        arguments = dict(params.arguments or {})
        try:
            definition = await self._client.workflow(params.name)
            asked = await self._complete(context, params, definition, arguments)
            if asked is not None:
                return asked
            return await self._run(context, definition, arguments)
        except UnknownWorkflow as error:
            raise MCPError(code=types.INVALID_PARAMS, message=error.message) from None
        except BridgeError as error:
            return _failure(tools.problem(error))

    def _may_use(self, name: str) -> bool:
        """False if the bridge said that this client may not run a workflow."""
        return self._may.get(name, (0.0, True))[1]

    async def _learn_rights(self, names: Sequence[str]) -> None:
        """Ask the bridge which workflows this client may run, unless it has just said so.

        One that does not answer is not asked for the next ones: each call would take as long.
        """
        for name in names:
            now = time.monotonic()
            if name in self._may and self._may[name][0] > now:
                continue
            may = True
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._client.dry_run(name)
            except TimeoutError:
                return
            except Forbidden:
                may = False
            except BridgeError:
                pass  # something else is wrong: a required input that is not given
            self._may[name] = (now + RIGHTS_S, may)

    # Inputs that are missing.

    async def _complete(
        self,
        context: _Context,
        params: types.CallToolRequestParams,
        definition: Definition,
        arguments: dict[str, Any],
    ) -> types.CallToolResult | types.InputRequiredResult | None:
        """Add what a person was asked for, or ask; returns what is to be answered instead."""
        answered = (params.input_responses or {}).get(_FORM)
        if isinstance(answered, types.ElicitResult):
            if answered.action != "accept":
                return _failure(_NOTHING)
            arguments |= answered.content or {}
        schema = tools.missing(definition, arguments)
        if schema is None or not _can_ask(context):
            return None  # the bridge says what is missing
        request = types.ElicitRequestFormParams(
            message=f"{definition.title} needs: {', '.join(schema['required'])}",
            requested_schema=schema,
        )
        if context.protocol_version >= _ASKS_BY_ANSWER:
            return types.InputRequiredResult(
                input_requests={_FORM: types.ElicitRequest(params=request)}
            )
        found = await context.session.elicit_form(
            request.message, schema, related_request_id=context.request_id
        )
        if found.action != "accept":
            return _failure(_NOTHING)
        arguments |= found.content or {}
        return None

    # Jobs.

    async def _run(
        self, context: _Context, definition: Definition, arguments: dict[str, Any]
    ) -> types.CallToolResult:
        job = await self._client.submit(definition.name, arguments, output=tools.OUTPUT)
        try:
            async for event in job:
                await _report(context, event)
            result = await job.result()
            outputs = await job.outputs()
        except anyio.get_cancelled_exc_class():
            await _cancel(job)
            raise
        facts = tools.facts(result)
        content = [_block(each) for each in tools.contents(outputs)]
        about = types.TextContent(type="text", text=f"job_id: {job.id}")
        return types.CallToolResult(content=[*content, about], structured_content=facts)


async def _cancel(job: Job) -> None:
    """Cancel a job whose agent does not want it any more."""
    with anyio.move_on_after(CANCEL_S, shield=True):
        try:
            await job.cancel()
        except BridgeError as error:
            log.info("cannot cancel job %s: %s", job.id, error)


async def _report(context: _Context, event: object) -> None:
    """Report how far a job is, to an agent that asked for that."""
    match event:
        case messages.JobStatus(state=state, position=position):
            place = f", {position} before it" if position not in (UNSET, 0) else ""
            await context.session.report_progress(0.0, 100.0, f"{state}{place}")
        case messages.Progress(percent=percent, node=node):
            about = None if node is UNSET else node
            await context.session.report_progress(percent, 100.0, about)


def _can_ask(context: _Context) -> bool:
    """True if the agent's host can show a form to a person."""
    capabilities = context.session.client_capabilities
    asking = None if capabilities is None else capabilities.elicitation
    return asking is not None and (asking.form is not None or asking.url is None)


def _tool(spec: ToolSpec) -> types.Tool:
    return types.Tool(
        name=spec.name,
        title=spec.title,
        description=spec.description,
        input_schema=spec.schema,
    )


def _block(content: ToolContent) -> types.ContentBlock:
    if content.text is not None:
        return types.TextContent(type="text", text=content.text)
    kind = content.content_type
    if content.data is None:
        return types.ResourceLink(
            type="resource_link",
            uri=content.url or "",
            name=content.name,
            mime_type=kind,
            size=content.size,
        )
    if kind.startswith("image/"):
        return types.ImageContent(type="image", data=content.data, mime_type=kind)
    return types.AudioContent(type="audio", data=content.data, mime_type=kind)


def _failure(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


_App = Callable[[Any, Any, Any], Awaitable[None]]


def _of_names(host: str) -> TransportSecuritySettings:
    """Accept requests to and from this machine's own names, of which `host` is one."""
    given = f"[{host}]" if ":" in host else host
    names = [f"{name}:*" for name in ("127.0.0.1", "localhost", "[::1]", given)]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=names,
        allowed_origins=[f"http://{name}" for name in names],
    )


def _guarded(app: _App, token: str) -> _App:
    """Accept requests with the bearer token; others get 401."""
    wanted = f"Bearer {token}".encode()

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not secrets.compare_digest(given, wanted):
                headers = [(b"www-authenticate", b"Bearer"), (b"content-length", b"0")]
                await send({"type": "http.response.start", "status": 401, "headers": headers})
                await send({"type": "http.response.body", "body": b""})
                return
        await app(scope, receive, send)

    return guarded
