"""Collects the outputs of an attempt: from our nodes' frames, and from files that nodes list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from bridge.aio import sha256_of
from bridge.comfyui.errors import ComfyUIError, NotFound, ReplyTooLarge, UnexpectedAnswer
from bridge.comfyui.events import Executed, NodeOutput, SocketImage
from bridge.comfyui.frames import OutputHeader
from bridge.contract.errors import ExecutionError
from bridge.contract.messages import MissingOutput, OutputInfo, or_unset
from bridge.contract.retained import OutputDefinition
from bridge.jobs import ui_output
from bridge.jobs.ui_output import FileItem, TextItem
from bridge.media.sniff import UNKNOWN, Sniffed, is_text_instead, sniff
from bridge.text import bare_filename, without_folders

# Fetches one file: (filename, subfolder, type) -> bytes.
View = Callable[[str, str, str], Coroutine[Any, Any, bytes]]


class CollectedOutput(Struct, frozen=True):
    """One output with its bytes. `offered`: it was published, or is not to be."""

    info: OutputInfo
    data: bytes | memoryview
    offered: bool = False


# Decides whether to publish an output, as soon as its index among all is certain.
Offer = Callable[[CollectedOutput], CollectedOutput]


class _Content(Struct, frozen=True):
    """The bytes of an output and their SHA-256 in hexadecimal, or why there are none."""

    data: bytes | memoryview
    sha256: str
    error: ComfyUIError | None = None


class _FoundOutput(Struct):
    """An output on its way; `order` is its place within its node.

    `known` is its type if the bytes must not decide it: a text may begin like an image.
    """

    node: str
    order: tuple[int, int]
    content: _Content | None = None
    filename: str | None = None
    header: OutputHeader | None = None
    known: Sniffed | None = None
    preview: bool = False


class Collector:
    """Gathers the outputs of an attempt from its events; fetches files concurrently."""

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
        self._offered: list[CollectedOutput] = []  # the first ones, in their order
        self._getting: list[asyncio.Task[None]] = []
        self._found: list[_FoundOutput] = []
        self.saved_files = False
        self.missing: list[MissingOutput] = []  # complete once `all` has returned

    def received(self, event: NodeOutput | SocketImage) -> None:
        """Take an output whose bytes came over the socket."""
        if isinstance(event, NodeOutput):
            header = event.header
            # The hash was made where the bytes were.
            content = _Content(event.data, header.sha256)
            self._found.append(_FoundOutput(header.node, (0, header.index), content, header=header))
            self._offer_ready()
        else:
            self._get(_FoundOutput(event.node, (0, event.index)), _completed(event.data))

    def executed(self, event: Executed) -> None:
        """Take the files and texts that an output node lists."""
        for place, item in enumerate(ui_output.items(event.output)):
            found = _FoundOutput(event.node, (1, place))
            match item:
                case FileItem(filename, subfolder, type_):
                    self.saved_files = True
                    found.filename, found.preview = filename, type_ == "temp"
                    self._get(found, self._fetched(found, filename, subfolder, type_))
                case TextItem(text, is_json):
                    found.known = _JSON if is_json else _TEXT
                    self._get(found, _completed(text.encode("utf-8", "replace")))

    def _get(self, found: _FoundOutput, getting: Coroutine[Any, Any, bytes | memoryview]) -> None:
        self._found.append(found)
        task = self._tasks.create_task(self._got(found, getting))
        # One that is cancelled before its first step never comes to await it.
        task.add_done_callback(lambda _: getting.close())
        self._getting.append(task)

    async def _fetched(
        self, found: _FoundOutput, filename: str, subfolder: str, type_: str
    ) -> bytes:
        """Fetch a file; if its folder is not given, from the first one that has it."""
        *others, last = [type_] if type_ else ui_output.FOLDERS
        for folder in others:
            with suppress(NotFound):
                data = await self._view(filename, subfolder, folder)
                found.preview = folder == "temp"
                return data
        return await self._view(filename, subfolder, last)

    async def _got(
        self, found: _FoundOutput, getting: Coroutine[Any, Any, bytes | memoryview]
    ) -> None:
        try:
            data = await getting
        except (UnexpectedAnswer, ReplyTooLarge) as error:
            if isinstance(error, UnexpectedAnswer) and error.status >= _SERVER_FAULT:
                raise
            # It is not there, or cannot be read: that costs this output, not the others.
            found.content = _Content(b"", "", error)
        else:
            found.content = _Content(data, await sha256_of(data), _fault(data, found.filename))
        self._offer_ready()

    def _offer_ready(self) -> None:
        """Offer outputs of the only output node at once: nothing can come before them."""
        while len(self._offered) < len(self._found):
            index = len(self._offered)
            found = self._found[index]
            content = found.content
            if content is None or content.error is not None or found.preview:
                return
            if set(self._definitions) != {found.node} or found.order[1] != index:
                return
            self._offered.append(self._offer(self._output(index, found, content)))

    async def all(self) -> list[CollectedOutput]:
        """Wait for the files, and return all outputs: saved ones first, in the order of the nodes.

        Outputs that ComfyUI no longer has are then in `missing`. Raises other errors of a fetch.
        """
        if len(self._offered) == len(self._found):
            return self._offered
        await asyncio.gather(*self._getting)
        place = {node: index for index, node in enumerate(self._definitions)}

        def order(found: _FoundOutput) -> tuple[bool, int, tuple[int, int]]:
            return self._is_preview(found), place.get(found.node, len(place)), found.order

        outputs = [*self._offered]
        for found in sorted(self._found, key=order)[len(outputs) :]:
            content = found.content or _NOTHING
            if content.error is None:
                outputs.append(self._output(len(outputs), found, content))
            else:
                self.missing.append(self._missing(found, content.error))
        return outputs

    def _missing(self, found: _FoundOutput, error: ComfyUIError) -> MissingOutput:
        name = without_folders(found.filename or "")
        text = f"ComfyUI does not give the file {name!r} ({error.code})"
        return MissingOutput(
            name=self._name(found),
            filename=or_unset(name or None),
            error=ExecutionError(text, reason=error.code).wire(),
        )

    def _is_preview(self, found: _FoundOutput) -> bool:
        """True if ComfyUI only previews it, by its folder or its kind of node."""
        definition = self._definitions.get(found.node)
        return found.preview or (definition is not None and definition.preview is True)

    def _name(self, found: _FoundOutput) -> str:
        definition = self._definitions.get(found.node)
        return definition.name if definition else found.node

    def _output(self, index: int, found: _FoundOutput, content: _Content) -> CollectedOutput:
        data = content.data
        definition = self._definitions.get(found.node)
        name = self._name(found)
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
            seen = found.known or sniff(data, found.filename or "")
            if seen.content_type == UNKNOWN and definition is not None:
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
            # Clients save under it: it leads nowhere, whatever a node says.
            filename=or_unset(bare_filename(found.filename or "")),
            preview=True if self._is_preview(found) else UNSET,
        )
        return CollectedOutput(info, data)


_NOTHING = _Content(b"", "")
_TEXT = Sniffed("text", "text/plain; charset=utf-8", "txt")
_JSON = Sniffed("text", "application/json", "json")
_SERVER_FAULT = 500


def _fault(data: bytes | memoryview, filename: str | None) -> UnexpectedAnswer | None:
    """Return what is wrong with a file's bytes, if they cannot be what its name says."""
    if filename is None or not is_text_instead(data, filename):
        return None
    return UnexpectedAnswer(
        "GET /view", status=200, excerpt=bytes(data[:100]).decode(errors="replace")
    )


async def _completed(data: bytes | memoryview) -> bytes | memoryview:
    return data
