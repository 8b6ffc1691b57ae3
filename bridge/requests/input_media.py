"""The media inputs of requests: stored or sent bytes are taken at once, others are waited for."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.contract.errors import Expired, TooLarge
from bridge.contract.sources import Inline, JobOutput, Later, Source, Topic, Upload, Url
from bridge.jobs.dependencies import Dependencies, check_kind
from bridge.jobs.job import Blob, MediaInput
from bridge.jobs.uploads import Uploads
from bridge.requests.permissions import Permissions
from bridge.workflows.binding import BoundMedia, BoundPrompt


class InputMedia:
    """Takes the media inputs of requests."""

    def __init__(
        self,
        dependencies: Dependencies,
        uploads: Uploads,
        permissions: Permissions,
        max_inline_input: int,
    ) -> None:
        """`max_inline_input` bounds the bytes of an input that comes within a request."""
        self._dependencies = dependencies
        self._uploads = uploads
        self._permissions = permissions
        self._max_inline_input = max_inline_input

    async def take(
        self, client: str, bound: BoundPrompt
    ) -> tuple[list[MediaInput], dict[str, bytes]]:
        """Return a request's media inputs, and the bytes that came with it by their SHA-256.

        Raises Busy, InvalidInput, TooLarge, Forbidden, DependencyFailed, Expired.
        """
        new: dict[str, bytes] = {}
        if not bound.media:
            return [], new
        media = [await self.take_one(client, each, new) for each in bound.media]
        self.check_sum(media)
        return media, new

    def check_sum(self, media: Iterable[MediaInput]) -> None:
        """Raise TooLarge if the media of one job are too large together once unpacked."""
        self._dependencies.bounds.check_sum(item for each in media for item in each.items)

    def check_room(self, client: str) -> None:
        """Raise Busy for a client whose files take long to measure, while some of them wait."""
        self._dependencies.bounds.check_room(client)

    async def take_one(self, client: str, each: BoundMedia, new: dict[str, bytes]) -> MediaInput:
        """Return one media input; bytes that came with it are put into `new`. Raises as `take`."""
        self.check_room(client)
        spec = each.spec
        items = [await self._item(client, each, source, new) for source in each.sources]
        return MediaInput(
            spec.name, spec.kind, spec.target.node, spec.target.input, spec.via, items
        )

    async def _item(
        self, client: str, media: BoundMedia, source: Source, new: dict[str, bytes]
    ) -> Blob | Later:
        name, kind = media.spec.name, media.spec.kind
        match source:
            case Inline(data=data):
                self._check_size(name, len(data))
                blob = await self._dependencies.taken(client, name, kind, data)
                new[blob.sha256] = data
                return blob
            case Upload(upload=upload):
                found = await self._uploads.get(client, upload)
                check_kind(name, kind, found.kind, found.content_type)
                blob = Blob(found.sha256, found.size, found.content_type, found.extension)
                await self._check_upload(client, name, kind, blob)
                return blob
            case JobOutput():
                return await self._dependencies.output(client, name, kind, source) or source
            case Topic(topic=topic):
                self._permissions.check_topic(client, name, topic)
                return source
            case Url():
                return source

    async def _check_upload(self, client: str, name: str, kind: str, blob: Blob) -> None:
        try:
            await self._dependencies.bounds.check(client, name, kind, blob, None)
        except FileNotFoundError:
            raise Expired(f"input {name!r}: the bytes of its upload are gone", input=name) from None

    def _check_size(self, name: str, size: int) -> None:
        limit = self._max_inline_input
        if size > limit:
            raise TooLarge(
                f"input {name!r} is larger than an inline input may be: upload it",
                input=name,
                size=size,
                limit=limit,
            )
