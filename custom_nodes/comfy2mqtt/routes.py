"""The HTTP routes of these nodes for the bridge, version 1 of their protocol.

    GET    /comfy2mqtt/hello                               who is here, and which protocol
    PUT    /comfy2mqtt/media/{sha256}                      201 new, 200 held, 400 wrong, 413 large
    HEAD   /comfy2mqtt/media/{sha256}                      200 or 404
    GET    /comfy2mqtt/outputs/{prompt_id}                 [header, ...]; 410 evicted
    GET    /comfy2mqtt/outputs/{prompt_id}/{node}/{index}  the bytes; 404 unknown, 410 evicted
    DELETE /comfy2mqtt/outputs/{prompt_id}[,{prompt_id}...]  204: confirmed and freed
    POST   /comfy2mqtt/uploads/remove                      200 {"removed": number}, 400 wrong

The last takes `{"names": [...]}`, or `{"older_than_s": number, "keep": [...]}`: see uploads.py.

Where the ComfyUI process has a COMFY2MQTT_SECRET, each of them demands it in a header (403).
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from aiohttp import web

from .errors import MediaTooLarge
from .guard import SECRET_HEADER
from .held import HeldOutputs, OutputsEvicted
from .media import HeldMedia, Media, is_sha256

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from .uploads import Uploads
    from .worker import Worker

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROTOCOL = 1
VERSION = "0.1.0"

_INDEX = re.compile(r"[0-9]{1,9}")
_OUTPUTS = "/comfy2mqtt/outputs/{prompt_id}"
_MEDIA = "/comfy2mqtt/media/{sha256}"


@dataclass(frozen=True, slots=True)
class Routes:
    """The handlers over the two stores, and over the files that were uploaded.

    The rest is for the greeting: `worker` is the thread that runs prompts, `process` a name that
    no other process has, `nodes` are the class names here, `missing` those that could not be
    loaded, each with the reason, `guarded` whether every route of this ComfyUI is, `classes` are
    all node classes of this ComfyUI.
    """

    outputs: HeldOutputs
    media: HeldMedia
    uploads: Uploads
    secret: str | None
    worker: Worker
    process: str
    nodes: Sequence[str]
    missing: Mapping[str, str]
    guarded: bool
    classes: Mapping[str, type]

    def register(self, table: web.RouteTableDef) -> None:
        """Add every route, guarded, to ComfyUI's table. ComfyUI serves them below /api as well."""
        table.get("/comfy2mqtt/hello")(self._guard(self.hello))
        table.put(_MEDIA)(self._guard(self.put_media))
        table.head(_MEDIA)(self._guard(self.head_media))
        table.get(_OUTPUTS)(self._guard(self.list_outputs))
        table.get(_OUTPUTS + "/{node}/{index}")(self._guard(self.get_output))
        table.delete(_OUTPUTS)(self._guard(self.confirm_outputs))
        table.post("/comfy2mqtt/uploads/remove")(self._guard(self.remove_uploads))

    async def hello(self, _request: web.Request) -> web.Response:
        """Answer with our version and the process id, which proves that the bridge started it."""
        return web.json_response(
            {
                "protocol": PROTOCOL,
                "version": VERSION,
                "pid": os.getpid(),
                "process": self.process,
                "worker": self.worker.alive(),
                "nodes": list(self.nodes),
                "missing": dict(self.missing),
                "guarded": self.guarded,
                "outputs": asdict(self.outputs.totals()),
                "no_outputs": self._no_outputs(),
            }
        )

    def _no_outputs(self) -> list[str]:
        """List the classes with `OUTPUT_NODE = 1`.

        /object_info compares that with True, and lists them as outputs; a prompt is looked through
        for what is True, and runs nothing for them.
        """
        said = {name: getattr(each, "OUTPUT_NODE", False) for name, each in self.classes.items()}
        return [name for name, value in said.items() if value == 1 and value is not True]

    async def put_media(self, request: web.Request) -> web.Response:
        """Take media in, by its hash."""
        name = request.match_info["sha256"]
        if not is_sha256(name):
            return _refusal(400, "The path has to end in a SHA-256 in lower-case hex.")
        if self.media.holds(name):
            return web.Response(status=200)
        try:
            data = await self._read_body(request)
            if sha256(data).hexdigest() != name:
                return _refusal(400, "The bytes have another SHA-256 than the path says.")
            self.media.put(name, Media(data, request.content_type))
        except MediaTooLarge as error:
            return _refusal(413, str(error))
        return web.Response(status=201)

    async def head_media(self, request: web.Request) -> web.Response:
        """Answer whether media is held."""
        held = self.media.holds(request.match_info["sha256"])
        return web.Response(status=200 if held else 404)

    async def list_outputs(self, request: web.Request) -> web.Response:
        """List what a prompt left. A prompt that left nothing has an empty list."""
        try:
            headers = self.outputs.headers(request.match_info["prompt_id"])
        except OutputsEvicted:
            return _evicted()
        return web.json_response([header.as_dict() for header in headers])

    async def get_output(self, request: web.Request) -> web.Response:
        """Answer with the bytes of one output."""
        path = request.match_info
        try:
            # A word where a number belongs names no output: 404, as any other stranger.
            index = int(path["index"]) if _INDEX.fullmatch(path["index"]) else -1
            output = self.outputs.get(path["prompt_id"], path["node"], index)
        except OutputsEvicted:
            return _evicted()
        if output is None:
            return _refusal(404, "There is no such output.")
        header, data = output
        return web.Response(body=data, content_type=header.content_type)

    async def confirm_outputs(self, request: web.Request) -> web.Response:
        """Free what the bridge has."""
        for prompt_id in request.match_info["prompt_id"].split(","):
            self.outputs.confirm(prompt_id)
        return web.Response(status=204)

    async def remove_uploads(self, request: web.Request) -> web.Response:
        """Remove files that were uploaded: some by their names, or all that are old."""
        uploads = self.uploads
        try:
            match await request.json():
                case {"names": [*names]}:
                    removed = await asyncio.to_thread(uploads.remove, set(map(str, names)))
                case {"older_than_s": int() | float() as age, "keep": [*keep]}:
                    removed = await asyncio.to_thread(uploads.sweep, age, set(map(str, keep)))
                case _:
                    return _refusal(400, "Expected names, or older_than_s and keep.")
        except (ValueError, RecursionError):
            return _refusal(400, "The body has to be JSON.")
        return web.json_response({"removed": removed})

    async def _read_body(self, request: web.Request) -> bytes:
        """The whole body. Raises MediaTooLarge as soon as that is known.

        Read as a stream: request.read() is bound by ComfyUI's --max-upload-size.
        """
        size = request.content_length or 0
        chunks = []
        if size <= self.media.budget:
            size = 0
            async for chunk in request.content.iter_any():
                chunks.append(chunk)
                size += len(chunk)
                if size > self.media.budget:
                    break
        if size > self.media.budget:
            raise MediaTooLarge(size, self.media.budget)
        return b"".join(chunks)

    def _guard(self, handler: Handler) -> Handler:
        if self.secret is None:
            return handler
        secret = self.secret.encode()

        async def guarded(request: web.Request) -> web.StreamResponse:
            offered = request.headers.get(SECRET_HEADER, "").encode(errors="surrogateescape")
            if not hmac.compare_digest(offered, secret):
                return _refusal(403, f"The header {SECRET_HEADER} is missing or wrong.")
            return await handler(request)

        return guarded


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)


def _evicted() -> web.Response:
    return _refusal(410, "The outputs were not confirmed in time and made room for newer ones.")
