"""Retained images, each kept in a file as well, or in the journal of a group of bridges.

So a broker that lost what it retained gets them back at the next connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path

import msgspec
from msgspec import Struct

from bridge.adapters.mqtt.publisher import Publisher
from bridge.atomicfile import write_file
from bridge.jobs.durable import until_on_disk
from bridge.jobs.journal.adapter_store import AdapterStore
from bridge.mqtt import PacketTooLarge

log = logging.getLogger(__name__)

_SUFFIX = ".picture"


class RetainedImage(Struct, frozen=True):
    """An image as it is published; `about` are its User Properties."""

    data: bytes
    content_type: str
    about: list[tuple[str, str]] = []


_decode = msgspec.msgpack.Decoder(RetainedImage).decode


class RetainedImages:
    """The last image under each name; names are ids. Kept as files of this bridge alone."""

    def __init__(self, folder: Path, publisher: Publisher, topic: Callable[[str], str]) -> None:
        """`topic` returns where the image of a name is published."""
        self._folder = folder
        self._publisher = publisher
        self._topic = topic
        self._changing = asyncio.Lock()

    async def put(self, name: str, image: RetainedImage) -> None:
        """Keep an image and publish it, or neither. Raises PacketTooLarge, OSError."""
        async with self._changing:
            file = self._file(name)
            new = file.with_suffix(".new")
            await asyncio.to_thread(write_file, new, msgspec.msgpack.encode(image))
            try:
                self._publish(name, image)
            except PacketTooLarge:
                await asyncio.to_thread(new.unlink)
                raise
            await asyncio.to_thread(new.replace, file)

    async def remove(self, name: str) -> None:
        """Clear and delete a name's image."""
        async with self._changing:
            self._publisher.publish(self._topic(name), None, retain=True)
            await asyncio.to_thread(self._delete, name)

    async def get(self, name: str) -> RetainedImage | None:
        """Return the last image of a name."""
        try:
            data = await asyncio.to_thread(self._file(name).read_bytes)
            return _decode(data)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("cannot read %s: %s", self._file(name), error)
            return None

    async def publish_all(
        self, names: Collection[str], refused: Callable[[str, PacketTooLarge], None]
    ) -> list[str]:
        """Publish the images of `names`, delete all others; return the names of those.

        `refused` is called for each image that this broker does not take.
        """
        async with self._changing:
            kept = await asyncio.to_thread(self._kept)
            gone = [name for name in kept if name not in names]
            for name in gone:
                self._publisher.publish(self._topic(name), None, retain=True)
                await asyncio.to_thread(self._delete, name)
            for name in kept:
                image = await self.get(name) if name in names else None
                try:
                    if image is not None:
                        self._publish(name, image)
                except PacketTooLarge as error:
                    refused(name, error)
        return gone

    def _publish(self, name: str, image: RetainedImage) -> None:
        topic = self._topic(name)
        self._publisher.image(topic, image.data, image.content_type, image.about)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"

    def _delete(self, name: str) -> None:
        try:
            self._file(name).unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot delete %s: %s", self._file(name), error)

    def _kept(self) -> list[str]:
        try:
            return sorted(path.stem for path in self._folder.iterdir() if path.suffix == _SUFFIX)
        except FileNotFoundError:
            return []
        except OSError as error:
            log.warning("cannot list %s: %s", self._folder, error)
            return []


class SharedImages(RetainedImages):
    """Those that all bridges of a group publish: kept in the journal.

    Several may publish one name at a time: each looks afterwards which one the journal has, and
    publishes that one. So the last one that is published is the one in the journal.
    All raise DatabaseError, but for `put`, which waits for the database.
    """

    def __init__(
        self, store: AdapterStore, kind: str, publisher: Publisher, topic: Callable[[str], str]
    ) -> None:
        """`kind`: what they are, in the journal."""
        super().__init__(Path(), publisher, topic)
        self._store = store
        self._kind = kind

    async def put(self, name: str, image: RetainedImage) -> None:
        """Keep an image and publish it, or neither. Raises PacketTooLarge."""
        room = self._publisher.image_room(self._topic(name), image.content_type, image.about)
        if room is not None and len(image.data) > room:
            raise PacketTooLarge(len(image.data), room)
        data = {name: msgspec.msgpack.encode(image)}
        await until_on_disk(lambda: self._store.keep(self._kind, data))
        self._publish(name, image)
        await until_on_disk(lambda: self._agree(name, image))

    async def remove(self, name: str) -> None:
        """Clear and delete a name's image."""
        await self._store.drop(self._kind, name)
        self._publisher.publish(self._topic(name), None, retain=True)

    async def get(self, name: str) -> RetainedImage | None:
        """Return the last image of a name."""
        data = await self._store.get(self._kind, name)
        try:
            return None if data is None else _decode(data)
        except msgspec.MsgspecError as error:
            log.warning("cannot read the %s of %s: %s", self._kind, name, error)
            return None

    async def publish_all(
        self, names: Collection[str], refused: Callable[[str, PacketTooLarge], None]
    ) -> list[str]:
        """Publish the images of `names`, delete all others; return the names of those.

        `refused` is called for each image that this broker does not take.
        """
        kept = await self._store.names(self._kind)
        gone = [name for name in kept if name not in names]
        for name in gone:
            await self.remove(name)
        for name in kept:
            try:
                await self._agree(name, None)
            except PacketTooLarge as error:
                refused(name, error)
        return gone

    async def _agree(self, name: str, published: RetainedImage | None) -> None:
        """Publish what the journal has until nothing else was published meanwhile."""
        while (kept := await self.get(name)) is not None and kept != published:
            self._publish(name, kept)
            published = kept


def retained_images(
    folder: Path,
    store: AdapterStore | None,
    kind: str,
    publisher: Publisher,
    topic: Callable[[str], str],
) -> RetainedImages:
    """Make the store of one kind of image: in the journal of a group, or else in a folder."""
    if store is None:
        return RetainedImages(folder, publisher, topic)
    return SharedImages(store, kind, publisher, topic)
