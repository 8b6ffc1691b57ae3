"""What a run leaves: outputs collected from our nodes' frames, and from files that nodes list."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from bridge.comfyui.events import Executed, NodeOutput, SocketImage
from bridge.contract.messages import OutputInfo
from bridge.contract.retained import OutputDefinition
from bridge.media.sniff import Sniffed, sniff

# Our nodes' own entry in a `ui` output: their bytes come over the socket.
OUR_ENTRY = "comfy2mqtt"

# Fetches one file: (filename, subfolder, type) -> bytes.
View = Callable[[str, str, str], Coroutine[Any, Any, bytes]]


class Output(Struct, frozen=True):
    """One output, with its bytes; `offered`: its publication was decided already."""

    info: OutputInfo
    data: bytes | memoryview
    offered: bool = False


# Decides on an output's publication as soon as its place among all is certain.
Offer = Callable[[Output], Output]


class _Found(Struct, frozen=True):
    """An output on its way; `order` is its place within its node."""

    node: str
    order: tuple[int, int]
    data: asyncio.Task[bytes] | bytes | memoryview
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
        header = event if isinstance(event, NodeOutput) else None
        found = _Found(event.node, (0, event.index), event.data, header=header)
        self._found.append(found)
        if len(self._found) == event.index + 1:
            self._offer_early(event.index, found, event.data)

    def executed(self, event: Executed) -> None:
        """Take what an output node lists: files, and texts."""
        for rank, (key, items) in enumerate(event.output.items()):
            if key == OUR_ENTRY or not isinstance(items, Sequence) or isinstance(items, str):
                continue
            for index, item in enumerate(items):
                self._item(event.node, (rank, index), key, item)

    def _offer_early(self, index: int, found: _Found, data: bytes | memoryview) -> None:
        """Offer an output of the only output node at once: nothing can come before it."""
        if set(self._definitions) == {found.node}:
            self._offered[index] = self._offer(self._output(index, found, data))

    async def all(self) -> list[Output]:
        """Wait for the files, and return all outputs, in the order of the nodes and batches.

        Raises what fetching a file raised.
        """
        place = {node: index for index, node in enumerate(self._definitions)}
        self._found.sort(key=lambda found: (place.get(found.node, len(place)), found.order))
        outputs = []
        for index, found in enumerate(self._found):
            data = await found.data if isinstance(found.data, asyncio.Task) else found.data
            if index in self._offered:
                outputs.append(self._offered[index])
                continue
            outputs.append(self._output(index, found, data))
        return outputs

    def _item(self, node: str, order: tuple[int, int], key: str, item: Any) -> None:
        match item:
            case {"filename": str(filename), **rest}:
                self.saved_files = True
                subfolder, kind = rest.get("subfolder") or "", rest.get("type") or "output"
                found = _Found(node, order, b"", filename)
                viewing = self._view(filename, str(subfolder), str(kind))
                fetching = self._tasks.create_task(self._fetch(len(self._found), found, viewing))
                self._found.append(replace(found, data=fetching))
            case str() if key == "text":
                self._found.append(_Found(node, order, item.encode()))

    async def _fetch(self, index: int, found: _Found, viewing: Coroutine[Any, Any, bytes]) -> bytes:
        data = await viewing
        self._offer_early(index, found, data)
        return data

    def _output(self, index: int, found: _Found, data: bytes | memoryview) -> Output:
        definition = self._definitions.get(found.node)
        name = definition.name if definition else found.node
        header = found.header
        if header is not None:
            # Our nodes told all of it, and the hash was made where the bytes were.
            seen = Sniffed(
                definition.kind if definition else header.content_type.partition("/")[0],
                header.content_type,
                "",
                header.width or None,
                header.height or None,
            )
            name, sha256 = header.name or name, header.sha256
        else:
            seen, sha256 = sniff(data), hashlib.sha256(data).hexdigest()
            if seen.kind == "file" and definition is not None:
                # The bytes tell nothing: a latent, most often.
                seen = replace(seen, kind=definition.kind)
        info = OutputInfo(
            index=index,
            name=name,
            kind=seen.kind,
            content_type=seen.content_type,
            size=len(data),
            sha256=sha256,
            width=UNSET if seen.width is None else seen.width,
            height=UNSET if seen.height is None else seen.height,
            filename=UNSET if found.filename is None else found.filename,
        )
        return Output(info, data)
