"""Gathers what a job depends on before it can be queued: other jobs' outputs, URLs, topics.

A job that waits is in the journal like any other. When all of its bytes are here they are put into
its prompt, the journal notes it, and the job is queued.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bridge.aio import sha256_of
from bridge.contract.errors import (
    DependencyFailed,
    Expired,
    InvalidInput,
    UnknownJob,
)
from bridge.contract.expansion import of_job_id
from bridge.contract.sources import JobOutput, Topic, Url
from bridge.jobs.input_bounds import InputBounds
from bridge.jobs.job import Blob, MediaInput, Plan
from bridge.jobs.journal import Journal, Stored
from bridge.jobs.queue import Key
from bridge.jobs.state import is_outcome
from bridge.media.extents import MediaLimits
from bridge.media.files import INLINE_LIMIT, Files, read_kept
from bridge.media.sniff import sniff
from bridge.media.transcode import Transcoder
from bridge.workflows.binding import place, takes
from bridge.workflows.graph import NodeInput


class Sources(Struct, frozen=True):
    """Fetch bytes for a client. Each raises BridgeError for what cannot be fetched."""

    url: Callable[[str, Url], Awaitable[bytes]]
    topic: Callable[[str, Topic], Awaitable[bytes]]


class Dependencies:
    """Gathers what jobs depend on."""

    def __init__(
        self,
        journal: Journal,
        files: Files,
        sources: Sources,
        transcoder: Transcoder,
        limits: MediaLimits = MediaLimits(),  # noqa: B008 - it never changes
    ) -> None:
        """`limits` bound inputs once unpacked; the transcoder measures those that take long."""
        self._journal = journal
        self._files = files
        self._sources = sources
        self.bounds = InputBounds(journal, files, limits, transcoder)
        """The bounds of what inputs unpack to."""
        self._endings: dict[Key, asyncio.Event] = {}

    def ended(self, key: Key) -> None:
        """Wake those who wait for a job, to look at it again: it may have ended."""
        event = self._endings.pop(key, None)
        if event is not None:
            event.set()

    def awaited(self) -> set[Key]:
        """Return the jobs that others wait for."""
        return set(self._endings)

    async def gather(self, key: Key, plan: Plan) -> tuple[Plan, dict[str, bytes]]:
        """Wait for all of a plan's bytes; returns the complete plan, and the new bytes by SHA-256.

        The caller has to store the large ones before the row that names them.
        Raises DependencyFailed, InvalidInput for what unpacks to more than it may, and what the
        sources raise. Cancelling it leaves nothing behind.
        """
        new: dict[str, bytes] = {}
        media = [await self._complete(key.client, each, new) for each in plan.media]
        self.bounds.check_sum(item for each in media for item in each.items)
        prompt = {
            node: {**spec, "inputs": dict(spec["inputs"])} for node, spec in plan.prompt.items()
        }
        inputs = dict(plan.inputs)
        for each in media:
            put(prompt, inputs, each)
        return replace(plan, media=media, prompt=prompt, inputs=inputs), new

    async def _complete(self, client: str, media: MediaInput, new: dict[str, bytes]) -> MediaInput:
        items: list[Blob | JobOutput | Url | Topic] = []
        for item in media.items:
            match item:
                case Blob():
                    items.append(item)
                case JobOutput():
                    items.append(await self._output(client, media, item))
                case Url():
                    data = await self._sources.url(client, item)
                    items.append(await self._taken(client, media, data, new))
                case Topic():
                    data = await self._sources.topic(client, item)
                    items.append(await self._taken(client, media, data, new))
        return replace(media, items=items)

    async def _taken(
        self, client: str, media: MediaInput, data: bytes, new: dict[str, bytes]
    ) -> Blob:
        blob = await self.taken(client, media.name, media.kind, data)
        new[blob.sha256] = data
        return blob

    async def _output(self, client: str, media: MediaInput, wanted: JobOutput) -> Blob:
        key = Key(client, wanted.job)
        try:
            while True:
                ending = self._endings.setdefault(key, asyncio.Event())
                blob = await self.output(client, media.name, media.kind, wanted)
                if blob is not None:
                    return blob
                await ending.wait()
        finally:
            self.ended(key)  # others may wait for it: they look again

    async def output(self, client: str, name: str, kind: str, wanted: JobOutput) -> Blob | None:
        """Return another job's output; None while that job has not ended.

        Raises DependencyFailed if the job ended without it, Expired if it is no longer kept, and
        InvalidInput if it is of another kind or the job is unknown.
        """
        details: dict[str, Any] = {"input": name, "job": wanted.job}
        try:
            record = await self._journal.get(Key(client, wanted.job))
        except UnknownJob as error:
            if await self._is_to_come(Key(client, wanted.job), details):
                return None
            raise InvalidInput(f"input {name!r}: {error.message}", **details) from None
        if not is_outcome(record.job.state):
            return None
        if record.job.state != "succeeded":
            raise DependencyFailed(
                f"input {name!r}: job {wanted.job!r} {record.job.state}",
                **details,
                state=record.job.state,
            )
        stored = await self._journal.output(Key(client, wanted.job), wanted.output)
        head = None if stored is None else await self._head(stored)
        if stored is None or head is None:
            raise Expired(
                f"input {name!r}: output {wanted.output} of job {wanted.job!r} is not kept",
                **details,
                output=wanted.output,
            )
        found = sniff(head)
        check_kind(name, kind, found.kind, found.content_type)
        blob = Blob(stored.sha256, stored.size, stored.content_type, found.extension)
        await self.bounds.check(client, name, kind, blob, stored.data)
        return blob

    async def taken(self, client: str, name: str, kind: str, data: bytes) -> Blob:
        """Return the blob of the bytes for a client's input `name`.

        Raises InvalidInput if they are of another kind, or too large once unpacked.
        """
        blob = await _blob_of(name, kind, data)
        await self.bounds.check(client, name, kind, blob, data)
        return blob

    async def _is_to_come(self, key: Key, details: dict[str, Any]) -> bool:
        """True if it is a job of a set that is yet to be made.

        Raises DependencyFailed if the set was cancelled before that.
        """
        found = of_job_id(key.job_id)
        if found is None:
            return False
        set_id, index = found
        with suppress(UnknownJob):
            record = await self._journal.sets.get(Key(key.client, set_id))
            if index >= record.total:
                return False
            if record.ended:
                raise DependencyFailed(
                    f"input {details['input']!r}: job {key.job_id!r} was cancelled with its set",
                    **details,
                    state="cancelled",
                )
            return True
        return False

    async def _head(self, stored: Stored) -> bytes | None:
        """Return the first bytes of an output; None if they are lost."""
        try:
            return await read_kept(self._files, stored.sha256, stored.data, 0, INLINE_LIMIT)
        except FileNotFoundError:
            return None


async def _blob_of(name: str, kind: str, data: bytes) -> Blob:
    found = sniff(data)
    check_kind(name, kind, found.kind, found.content_type)
    sha256 = await sha256_of(data)
    return Blob(sha256, len(data), found.content_type, found.extension)


def check_kind(name: str, kind: str, found: str, content_type: str) -> None:
    """Raise InvalidInput unless an input of this kind takes such bytes."""
    if not takes(kind, found):
        raise InvalidInput(
            f"input {name!r}: the bytes are no {kind}", input=name, type=kind, found=content_type
        )


def put(prompt: Mapping[str, dict[str, Any]], inputs: dict[str, Any], media: MediaInput) -> None:
    """Put a media input into a prompt, and among the inputs as resolved, once all of it is here."""
    blobs = media.blobs
    if len(blobs) < len(media.items):
        return
    place(
        prompt,
        NodeInput(media.node, media.input),
        media.via,
        [blob.sha256 for blob in blobs],
        blobs[0].extension,
    )
    shown = [
        {"sha256": blob.sha256, "size": blob.size, "content_type": blob.content_type}
        for blob in blobs
    ]
    inputs[media.name] = shown[0] if len(shown) == 1 else shown
