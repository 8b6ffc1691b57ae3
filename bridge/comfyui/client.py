"""A client of ComfyUI's HTTP interface, and of that of our own nodes inside it.

Every call has a time limit, every reply a size limit, and every failure is a `ComfyUIError`.
Cancelling a call closes its connection at once; ComfyUI may have received the request nevertheless.
No message contains secrets or passwords. Sockets have TCP_NODELAY (asyncio sets it).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from bridge.comfyui.connection import reason_of
from bridge.comfyui.errors import (
    ComfyUIError,
    ComfyUIForbidden,
    ComfyUIUnreachable,
    NodeProblems,
    NotFound,
    OutputGone,
    PromptRejected,
    ReplyTooLarge,
    UnexpectedAnswer,
    ValidationProblem,
)
from bridge.comfyui.frames import OutputHeader
from bridge.comfyui.history import HistoryEntry, QueueState, read_history, read_queue
from bridge.contract.reading import UNREADABLE, LenientDecoder

T = TypeVar("T")

SECRET_HEADER = "X-Comfy2MQTT-Secret"  # noqa: S105 - the name of a header, not a secret

_MIB = 2**20
# ComfyUI answers from one thread, which a node's import or a large graph can hold up.
_PATIENCE_S = 30.0
# Bytes in quantity, and validation, which runs the code of custom nodes.
_LONG_PATIENCE_S = 300.0
_CONNECT_S = 10.0
_CONNECTIONS = 16
_EXCERPT = 200
_WITHDRAW_PAUSE_S = 0.5
_WITHDRAW_FAILING_S = 5.0


class Submitted(msgspec.Struct, frozen=True):
    """ComfyUI queued a prompt; `number` is its place in the queue's order, lowest first."""

    number: float


class OutputsHeld(msgspec.Struct, frozen=True):
    """Outputs that our nodes hold until a bridge confirms them; `bytes` of `budget` bytes."""

    count: int = 0
    bytes: int = 0
    budget: int = 0


class Hello(msgspec.Struct, frozen=True):
    """Our nodes inside a ComfyUI: their protocol and version, and the process that they run in."""

    protocol: int
    version: str
    pid: int
    nodes: tuple[str, ...] = ()
    outputs: OutputsHeld = OutputsHeld()
    # Names the process; unlike the pid it is never used again. Empty if it is not reported.
    process: str = ""
    # False once the thread that runs prompts has ended; None if the nodes do not report it.
    worker: bool | None = None
    # Classes that `/object_info` lists as output nodes, and that count as none in a prompt.
    no_outputs: tuple[str, ...] = ()


class _PromptReply(msgspec.Struct, frozen=True):
    number: float = 0
    node_errors: dict[str, NodeProblems] | list[Any] = {}


class _PromptRefusal(msgspec.Struct, frozen=True):
    error: ValidationProblem | str
    node_errors: dict[str, NodeProblems] | list[Any] = {}


class PageLink(msgspec.Struct, frozen=True):
    """A way to the page of a ComfyUI: its path, good once and for `lasts_s`; None: for ever."""

    path: str
    lasts_s: float | None = None


_hello = msgspec.json.Decoder(Hello)
_headers = msgspec.json.Decoder(tuple[OutputHeader, ...])
_link = msgspec.json.Decoder(PageLink)
_object = LenientDecoder(dict[str, Any])
_reply = LenientDecoder(_PromptReply)
_refusal = LenientDecoder(_PromptRefusal)


class ComfyClient:
    """One ComfyUI's routes. An async context manager; use it inside `async with` alone.

    `base_url` is http or https and may hold a user, a password and a path.
    """

    def __init__(self, base_url: str, *, secret: str | None = None) -> None:
        self.base_url = URL(base_url.rstrip("/"))
        self._secret = secret
        self._session: aiohttp.ClientSession | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of each request, and of the WebSocket's handshake."""
        return {} if self._secret is None else {SECRET_HEADER: self._secret}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
            headers=self.headers,
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # -- prompts --------------------------------------------------------------------------------

    async def submit(
        self,
        prompt: Mapping[str, Any],
        prompt_id: str,
        client_id: str,
        extra_data: Mapping[str, Any] | None = None,
    ) -> Submitted:
        """Queue a prompt; its events are sent to the WebSocket of `client_id`.

        `prompt` is the graph in the API format, `prompt_id` a canonical lower-case UUID. Raises
        PromptRejected, even if ComfyUI would run a part of the graph; that part is taken out of
        the queue. Raises ComfyUIUnreachable, with `sent` if ComfyUI may have the prompt.
        """
        request = {
            "prompt": prompt,
            "prompt_id": prompt_id,
            "client_id": client_id,
            "extra_data": extra_data or {},
        }
        async with self._request(
            "POST", "/prompt", json=request, within_s=_LONG_PATIENCE_S
        ) as response:
            if response.status == HTTPStatus.BAD_REQUEST:
                body = await self._body(response, _MIB * 16)
                refusal = self._decoded(_refusal.decode, body, "POST /prompt")
                raise PromptRejected(_problem(refusal.error), _problems(refusal.node_errors))
            body = await self._ok(response, _MIB * 16)
        reply = self._decoded(_reply.decode, body, "POST /prompt")
        node_errors = _problems(reply.node_errors)
        if node_errors:
            # Refused in any case: if that part cannot be stopped, its outputs are not used.
            with suppress(ComfyUIError):
                await self.withdraw(prompt_id)
                await self.forget_history((prompt_id,))
            raise PromptRejected(
                ValidationProblem(
                    type="prompt_outputs_failed_validation",
                    message="some outputs failed validation",
                ),
                node_errors,
            )
        return Submitted(number=reply.number)

    async def queue(self) -> QueueState:
        """Return everybody's prompts that run or wait."""
        return self._decoded(read_queue, await self._get("/queue", limit=_MIB * 256), "GET /queue")

    async def history(self, prompt_id: str) -> HistoryEntry | None:
        """Return the history entry of a prompt; None if it is unknown or has not ended."""
        body = await self._get(f"/history/{_segment(prompt_id)}", limit=_MIB * 256)
        return self._decoded(
            lambda read: read_history(read, prompt_id), body, "GET /history/{prompt_id}"
        )

    async def delete_pending(self, prompt_ids: Collection[str]) -> None:
        """Take prompts out of the queue; one that runs, or is unknown, is left alone."""
        await self._post("/queue", {"delete": list(prompt_ids)})

    async def interrupt(self, prompt_id: str) -> None:
        """Stop the running prompt of that id at its next step or node.

        A ComfyUI before 0.3.57 or so ignores the id and stops whoever runs: look at `queue` first.
        """
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def withdraw(
        self,
        prompt_id: str,
        *,
        within_s: float = 30.0,
        pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(_WITHDRAW_PAUSE_S),
    ) -> bool:
        """Make sure that this prompt neither waits nor runs; others are not touched.

        True once it is so; False if it still runs after `within_s` seconds. Between two looks is a
        `pause`. The interrupt is repeated, because ComfyUI clears its flag as a prompt starts.
        Raises ComfyUIError if requests have failed for `_WITHDRAW_FAILING_S`. Cancelling it leaves
        the prompt as it is.
        """
        failing_since: float | None = None
        pending = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        if pending:
                            await self.delete_pending((prompt_id,))
                        queue = await self.queue()
                        pending = prompt_id in queue.pending
                        if prompt_id in queue.running:
                            await self.interrupt(prompt_id)
                        elif not pending:
                            return True
                        failing_since = None
                    except ComfyUIError:
                        now = time.monotonic()
                        failing_since = failing_since or now
                        if now - failing_since >= _WITHDRAW_FAILING_S:
                            raise
                    await pause()
        return False

    async def forget_history(self, prompt_ids: Collection[str]) -> None:
        """Delete these prompts' entries from the history."""
        await self._post("/history", {"delete": list(prompt_ids)})

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Unload models and drop caches; ComfyUI does it once the running prompt is over."""
        await self._post("/free", {"unload_models": unload_models, "free_memory": free_memory})

    # -- files ----------------------------------------------------------------------------------

    async def view(
        self,
        filename: str,
        subfolder: str = "",
        type: str = "output",  # noqa: A002 - ComfyUI's own word
        *,
        limit: int = _MIB * 1024,
    ) -> bytes:
        """Return a file that a node wrote; `type` is output, temp or input. `limit` in bytes."""
        query = {"filename": filename, "subfolder": subfolder, "type": type}
        return await self._get("/view", limit=limit, query=query, within_s=_LONG_PATIENCE_S)

    async def upload_image(
        self,
        data: bytes,
        filename: str,
        subfolder: str = "",
        type: str = "input",  # noqa: A002 - ComfyUI's own word
        *,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Write a file into ComfyUI's folder of that type.

        Returns ComfyUI's `{name, subfolder, type}`; the name differs where one was taken, unless it
        is to `overwrite`. Cancelled before all bytes are sent, it leaves no file.
        """
        form = aiohttp.FormData()
        form.add_field("image", data, filename=filename, content_type="application/octet-stream")
        form.add_field("subfolder", subfolder)
        form.add_field("type", type)
        form.add_field("overwrite", "true" if overwrite else "false")
        async with self._request(
            "POST", "/upload/image", data=form, within_s=_LONG_PATIENCE_S
        ) as response:
            body = await self._ok(response, _MIB)
        return self._decoded(_object.decode, body, "POST /upload/image")

    # -- the server -----------------------------------------------------------------------------

    async def object_info(self) -> bytes:
        """Return the inputs and outputs of all node classes, as ComfyUI's own JSON text.

        Python wrote it: it may hold Infinity and NaN, which are not JSON.
        """
        return await self._get("/object_info", limit=_MIB * 256, within_s=_LONG_PATIENCE_S)

    async def node_replacements(self) -> bytes:
        """Return which node classes others have replaced, as JSON.

        Empty for a server, or a proxy before it, that does not tell.
        """
        try:
            return await self._get("/node_replacements", limit=_MIB * 16)
        except ComfyUIUnreachable:
            raise
        except ComfyUIError:
            return b""

    async def system_stats(self) -> dict[str, Any]:
        """Return ComfyUI's report on versions, memory and devices."""
        return await self._get_object("/system_stats")

    async def features(self) -> dict[str, Any]:
        """Return the server's feature flags; empty for a server too old to have any."""
        try:
            return await self._get_object("/features")
        except NotFound:
            return {}

    # -- our nodes ------------------------------------------------------------------------------

    async def hello(self) -> Hello | None:
        """Return our nodes' greeting; None if this ComfyUI does not have them."""
        try:
            return _hello.decode(await self._get("/comfy2mqtt/hello", limit=_MIB))
        except (NotFound, ReplyTooLarge, *UNREADABLE):
            # Many a proxy answers with a page of its own, and 200, where ComfyUI has none.
            return None

    async def has_media(self, sha256: str) -> bool:
        """Return whether our image input node holds the bytes with this SHA-256 (hex)."""
        async with self._request("HEAD", f"/comfy2mqtt/media/{_segment(sha256)}") as response:
            if response.status == HTTPStatus.NOT_FOUND:
                return False
            await self._ok(response, _MIB)
            return True

    async def put_media(self, sha256: str, data: bytes, content_type: str) -> None:
        """Upload bytes for our image input node under their SHA-256 (hex), within its budget."""
        async with self._request(
            "PUT",
            f"/comfy2mqtt/media/{_segment(sha256)}",
            data=data,
            headers={"Content-Type": content_type},
            within_s=_LONG_PATIENCE_S,
        ) as response:
            await self._ok(response, _MIB)

    async def held_outputs(self, prompt_id: str) -> tuple[OutputHeader, ...]:
        """Return the outputs of a prompt that our nodes hold; raises NotFound or OutputGone."""
        body = await self._get(f"/comfy2mqtt/outputs/{_segment(prompt_id)}", limit=_MIB * 16)
        return self._decoded(_headers.decode, body, "GET /comfy2mqtt/outputs/{prompt_id}")

    async def held_output(self, prompt_id: str, node: str, index: int) -> bytes:
        """Return an output's bytes; raises NotFound, or OutputGone if the budget took it."""
        path = f"/comfy2mqtt/outputs/{_segment(prompt_id)}/{_segment(node)}/{index}"
        return await self._get(path, limit=_MIB * 1024, within_s=_LONG_PATIENCE_S)

    async def confirm_outputs(self, *prompt_ids: str) -> None:
        """Free these prompts' outputs in our nodes; no error if they hold none."""
        path = f"/comfy2mqtt/outputs/{','.join(map(_segment, prompt_ids))}"
        async with self._request("DELETE", path) as response:
            await self._ok(response, _MIB)

    # -- the guard of one that is the bridge's own ----------------------------------------------

    async def answers_strangers(self) -> bool:
        """Return whether it lets somebody without the secret read its queue."""
        async with ComfyClient(str(self.base_url)) as stranger:
            try:
                await stranger.queue()
            except ComfyUIForbidden:
                return False
            except UnexpectedAnswer:
                return True
        return True

    async def page_link(self) -> PageLink:
        """Return a link that opens the page of one that is guarded, in one browser."""
        async with self._request("POST", "/comfy2mqtt/links") as response:
            body = await self._ok(response, _MIB)
        return self._decoded(_link.decode, body, "POST /comfy2mqtt/links")

    async def remove_uploads(self, names: Collection[str]) -> None:
        """Remove files that `upload_image` wrote into `comfy2mqtt/`, by their names.

        Those that a prompt in the queue names stay. Raises NotFound without our nodes, or with old
        ones.
        """
        await self._post("/comfy2mqtt/uploads/remove", {"names": sorted(names)})

    async def sweep_uploads(self, older_than_s: float, keep: Collection[str]) -> None:
        """Remove such files that are older, but for those of `keep`; raises as the other does."""
        wanted = {"older_than_s": older_than_s, "keep": sorted(keep)}
        await self._post("/comfy2mqtt/uploads/remove", wanted)

    # -- plumbing -------------------------------------------------------------------------------

    async def _get(
        self,
        path: str,
        *,
        limit: int,
        query: Mapping[str, str] | None = None,
        within_s: float = _PATIENCE_S,
    ) -> bytes:
        async with self._request("GET", path, params=query, within_s=within_s) as response:
            return await self._ok(response, limit)

    async def _get_object(self, path: str) -> dict[str, Any]:
        body = await self._get(path, limit=_MIB * 16)
        return self._decoded(_object.decode, body, f"GET {path}")

    async def _post(self, path: str, message: Mapping[str, Any]) -> None:
        async with self._request("POST", path, json=message) as response:
            await self._ok(response, _MIB)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        data: bytes | aiohttp.FormData | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        within_s: float = _PATIENCE_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise ComfyUIUnreachable("the client is closed", sent=False)
        if json is not None:
            data, headers = msgspec.json.encode(json), {"Content-Type": "application/json"}
        # `encoded`: the segments are quoted already, and yarl would turn %2F back into a slash.
        url = URL(f"{self.base_url}{path}", encoded=True)
        limits = aiohttp.ClientTimeout(total=within_s, connect=_CONNECT_S)
        try:
            async with self._session.request(
                method,
                url,
                data=data,
                headers=headers,
                params=params,
                timeout=limits,
                allow_redirects=False,
            ) as response:
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise ComfyUIUnreachable(reason_of(error), sent=False) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ComfyUIUnreachable(f"{method} {path}: {reason_of(error)}", sent=True) from error

    async def _ok(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        if response.status < HTTPStatus.MULTIPLE_CHOICES:
            return await self._body(response, limit)
        excerpt = (await response.content.read(_EXCERPT)).decode(errors="replace")
        kind = _BY_STATUS.get(response.status, UnexpectedAnswer)
        raise kind(_name(response), status=response.status, excerpt=excerpt)

    async def _body(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        if (response.content_length or 0) > limit:
            raise ReplyTooLarge(_name(response), limit=limit)
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > limit:
                raise ReplyTooLarge(_name(response), limit=limit)
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _decoded(self, read: Callable[[bytes], T], body: bytes, what: str) -> T:
        try:
            return read(body)
        except UNREADABLE as error:
            raise UnexpectedAnswer(what, status=HTTPStatus.OK, excerpt=str(error)) from error


_BY_STATUS: Mapping[int, type[UnexpectedAnswer]] = {
    HTTPStatus.UNAUTHORIZED: ComfyUIForbidden,
    HTTPStatus.FORBIDDEN: ComfyUIForbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.GONE: OutputGone,
}


def _segment(text: str) -> str:
    """Quote one path segment; node ids hold colons, and a name from outside may hold anything."""
    return quote(text, safe="")


def _name(response: aiohttp.ClientResponse) -> str:
    return f"{response.method} {response.url.path}"


def _problem(error: ValidationProblem | str) -> ValidationProblem:
    """Return ComfyUI's error; some custom servers and old versions send a bare sentence."""
    return ValidationProblem(message=error) if isinstance(error, str) else error


def _problems(
    node_errors: Mapping[str, NodeProblems] | list[Any],
) -> Mapping[str, NodeProblems]:
    """Return errors by node; ComfyUI sends an empty list if there are none in some cases."""
    return node_errors if isinstance(node_errors, Mapping) else {}


__all__ = ["ComfyClient", "ComfyUIError", "Hello", "Submitted"]
