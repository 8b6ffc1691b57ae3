"""Collects the outputs of an attempt: from our nodes' frames, and from files that nodes list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from bridge.comfyui.events import Executed, NodeOutput, SocketImage
from bridge.contract.messages import OutputInfo
from bridge.contract.retained import OutputDefinition
from bridge.media.digest import sha256_of
from bridge.media.sniff import Sniffed, sniff

# Our nodes' own entry in a `ui` output: their bytes come over the socket.
OUR_ENTRY = "comfy2mqtt"

# Fetches one file: (filename, subfolder, type) -> bytes.
View = Callable[[str, str, str], Coroutine[Any, Any, bytes]]


class Output(Struct, frozen=True):
    """One output with its bytes. `offered`: whether to publish it was decided already."""

    info: OutputInfo
    data: bytes | memoryview
    offered: bool = False


# Decides whether to publish an output, as soon as its index among all is certain.
Offer = Callable[[Output], Output]


class _Content(Struct, frozen=True):
    """The bytes of an output, and their SHA-256 in hexadecimal."""

    data: bytes | memoryview
    sha256: str


class _Found(Struct, frozen=True):
    """An output on its way; `order` is its place within its node."""

    node: str
    order: tuple[int, int]
    content: asyncio.Task[_Content] | _Content
    filename: str | None = None
    header: NodeOutput | None = None


class Collector:
    """Gathers one run's outputs as its events come; files are fetched at once, side by side."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        view: View,
        definitions: Sequence[OutputDefinition],
        offer: Offer,
    ) -> None:
        self._tasks = tasks
        self._view = view
        self._definitions = {definition.node: definition for definition in definitions}
        self._offer = offer
        self._offered: dict[int, Output] = {}
        self._found: list[_Found] = []
        self.saved_files = False

    def received(self, event: NodeOutput | SocketImage) -> None:
        """Take an output whose bytes came over the socket."""
        order = (0, event.index)
        if not isinstance(event, NodeOutput):
            self._add(_Found(event.node, order, _NOTHING), _given(event.data))
            return
        # The hash was made where the bytes were.
        content = _Content(event.data, event.sha256)
        found = _Found(event.node, order, content, header=event)
        self._found.append(found)
        if len(self._found) == event.index + 1:
            self._offer_early(event.index, found, content)

    def executed(self, event: Executed) -> None:
        """Take what an output node lists: files, and texts."""
        for rank, (key, items) in enumerate(event.output.items()):
            if key == OUR_ENTRY or not isinstance(items, Sequence) or isinstance(items, str):
                continue
            for index, item in enumerate(items):
                self._item(event.node, (rank, index), key, item)

    def _offer_early(self, index: int, found: _Found, content: _Content) -> None:
        """Offer an output of the only output node at once: nothing can come before it."""
        if set(self._definitions) == {found.node}:
            self._offered[index] = self._offer(self._output(index, found, content))

    async def all(self) -> list[Output]:
        """Wait for the files, and return all outputs, in the order of the nodes and batches.

        Raises what fetching a file raised.
        """
        place = {node: index for index, node in enumerate(self._definitions)}
        self._found.sort(key=lambda found: (place.get(found.node, len(place)), found.order))
        outputs = []
        for index, found in enumerate(self._found):
            content = found.content
            if isinstance(content, asyncio.Task):
                content = await content
            if index in self._offered:
                outputs.append(self._offered[index])
                continue
            outputs.append(self._output(index, found, content))
        return outputs

    def _item(self, node: str, order: tuple[int, int], key: str, item: Any) -> None:
        match item:
            case {"filename": str(filename), **rest}:
                self.saved_files = True
                subfolder, kind = rest.get("subfolder") or "", rest.get("type") or "output"
                viewing = self._view(filename, str(subfolder), str(kind))
                self._add(_Found(node, order, _NOTHING, filename), viewing)
            case str() if key == "text":
                self._add(_Found(node, order, _NOTHING), _given(item.encode()))

    def _add(self, found: _Found, getting: Coroutine[Any, Any, bytes | memoryview]) -> None:
        task = self._tasks.create_task(self._get(len(self._found), found, getting))
        self._found.append(replace(found, content=task))

    async def _get(
        self,
        index: int,
        found: _Found,
        getting: Coroutine[Any, Any, bytes | memoryview],
    ) -> _Content:
        data = await getting
        content = _Content(data, await sha256_of(data))
        self._offer_early(index, found, content)
        return content

    def _output(self, index: int, found: _Found, content: _Content) -> Output:
        data = content.data
        definition = self._definitions.get(found.node)
        name = definition.name if definition else found.node
        header = found.header
        if header is not None:
            # Our nodes sent all of this with the bytes.
            seen = Sniffed(
                definition.kind if definition else header.content_type.partition("/")[0],
                header.content_type,
                "",
                header.width or None,
                header.height or None,
            )
            name = header.name or name
        else:
            seen = sniff(data)
            if seen.kind == "file" and definition is not None:
                # The bytes have no known form: a latent, most often.
                seen = replace(seen, kind=definition.kind)
        info = OutputInfo(
            index=index,
            name=name,
            kind=seen.kind,
            content_type=seen.content_type,
            size=len(data),
            sha256=content.sha256,
            width=UNSET if seen.width is None else seen.width,
            height=UNSET if seen.height is None else seen.height,
            filename=UNSET if found.filename is None else found.filename,
        )
        return Output(info, data)


_NOTHING = _Content(b"", "")


async def _given(data: bytes | memoryview) -> bytes | memoryview:
    return data
