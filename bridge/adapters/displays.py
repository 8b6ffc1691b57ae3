"""Displays: the last picture for each, in the form that it takes, where it finds it by itself.

A frame that sleeps most of its time need not be awake when its picture is made: it is retained.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from bridge.adapters.mqtt.encoder import about, facts
from bridge.adapters.mqtt.gallery import Gallery, Picture
from bridge.adapters.mqtt.publisher import Publisher
from bridge.config import ConfigError
from bridge.config.tables import Display
from bridge.contract.errors import (
    BadRequest,
    BridgeError,
    Busy,
    ExecutionError,
    TooLarge,
)
from bridge.contract.messages import Output, OutputInfo, Shown, or_unset
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics
from bridge.jobs import outputs
from bridge.jobs.job import Job
from bridge.media import profile
from bridge.media.profile import Profile
from bridge.media.transcode import CannotTranscode, Transcoder
from bridge.mqtt import Connection, Incoming, PacketTooLarge
from bridge.requests.permissions import EVERYBODY, Permissions

log = logging.getLogger(__name__)

# Where a display's picture can be had over HTTP; None where it cannot.
Link = Callable[[str], str | None]


class Displays:
    """The operator's displays; a side of the MQTT door, which publishes them."""

    subscriptions = ()

    def __init__(
        self,
        tables: Sequence[Display],
        *,
        gallery: Gallery,
        publisher: Publisher,
        topics: Topics,
        rights: Permissions,
        transcoder: Transcoder,
        link: Link = lambda _: None,
        alone: bool = True,
    ) -> None:
        """Raise ConfigError for a form that no picture can have.

        `alone`: no other bridge shows on them, so that what is kept here is the last.
        """
        self._tables = {table.name: table for table in tables}
        self._forms = {table.name: form_of(table) for table in tables}
        self._gallery = gallery
        self._publisher = publisher
        self._topics = topics
        self._rights = rights
        self._transcoder = transcoder
        self._link = link
        self._alone = alone

    def check(self, client: str, name: str) -> None:
        """Raise BadRequest or Forbidden unless a client may show on a display."""
        table = self._tables.get(name)
        if table is None:
            raise BadRequest(
                f"there is no display {name!r}", field="show", allowed=sorted(self._tables)
            )
        if client not in table.clients and EVERYBODY not in table.clients:
            self._rights.check_display(client, name)

    async def show(self, job: Job, name: str, found: Sequence[outputs.Output]) -> Shown:
        """Show the first image of a job's outputs, or tell why that cannot be."""
        try:
            self.check(job.key.client, name)
            picture = await self._picture(job, name, found)
            await self._put(name, picture)
        except BridgeError as error:
            self._tell(error, name, client=job.key.client, job_id=job.key.job_id)
            return Shown(display=name, error=error.wire())
        topic, url = self._topics.display_image(name), self._link(name)
        self._publish_url(name)
        return Shown(display=name, topic=topic, url=or_unset(url))

    async def picture(self, name: str) -> Picture | None:
        """Return what a display shows."""
        return await self._gallery.get(name) if name in self._tables else None

    # As a side of the door.

    async def connected(self, _connection: Connection) -> None:
        """Publish all pictures, and clear those of displays that are gone."""
        if not self._alone:
            return
        for name in await self._gallery.publish_all(self._tables, self._refused):
            self._publisher.publish(self._topics.display_url(name), None, retain=True)
        for name in self._tables:
            if await self._gallery.get(name) is not None:
                self._publish_url(name)

    async def take(self, incoming: Incoming, delivery: str | None) -> None:
        """Take nothing: a display is only written to."""

    async def _picture(self, job: Job, name: str, found: Sequence[outputs.Output]) -> Picture:
        """Bring the first image into the display's form. Raises ExecutionError."""
        image = next((each for each in found if each.info.kind == "image"), None)
        if image is None:
            raise ExecutionError("the job has no image to show", display=name)
        try:
            info, data = await self._in_form(self._forms[name], image)
        except CannotTranscode as error:
            raise ExecutionError(
                f"the image cannot be given the form of {name!r}: {error}",
                display=name,
                reason=str(error),
            ) from None
        made = ("at", f"{time.time():.3f}")
        return Picture(data, info.content_type, [*about(job), *facts(info), made])

    async def _in_form(
        self, form: Profile | None, image: outputs.Output
    ) -> tuple[OutputInfo, bytes]:
        if form is None:
            return image.info, bytes(image.data)
        info, data = await self._transcoder.in_form(form, image.info, image.data)
        # The file that ComfyUI wrote holds another picture than this one.
        info = info if info is image.info else replace(info, filename=UNSET)
        return info, bytes(data)

    async def _put(self, name: str, picture: Picture) -> None:
        """Keep and publish it. Raises TooLarge, Busy."""
        try:
            await self._gallery.put(name, picture)
        except PacketTooLarge as error:
            raise self._too_large(name, error) from None
        except OSError as error:
            raise Busy(f"the picture cannot be kept: {error.strerror}", display=name) from None

    def _refused(self, name: str, error: PacketTooLarge) -> None:
        self._tell(self._too_large(name, error), name)

    def _too_large(self, name: str, error: PacketTooLarge) -> TooLarge:
        return TooLarge(
            f"the picture for {name!r} is larger than the broker takes: {error}",
            display=name,
            size=error.size,
            limit=error.limit,
            setting="display.max_bytes",
        )

    def _tell(self, error: BridgeError, name: str, **concerned: str) -> None:
        log.warning("display %s: %s", name, error.message)
        data = {"display": name, "code": error.code, **concerned}
        event = BridgeEvent(type="display_failed", message=error.message, data=data)
        self._publisher.publish(self._topics.event, event)

    def _publish_url(self, name: str) -> None:
        url = self._link(name)
        if url is not None:
            self._publisher.publish(self._topics.display_url(name), url.encode(), retain=True)


def form_of(table: Display) -> Profile | None:
    """Return the form that a display takes. Raises ConfigError."""
    given = {
        "format": table.format,
        "quality": table.quality,
        "max_width": table.width,
        "max_height": table.height,
        "max_bytes": table.max_bytes,
        "dither": table.dither,
    }
    wanted = {name: value for name, value in given.items() if value is not None}
    try:
        return profile.read(msgspec.convert(wanted, Output))
    except msgspec.ValidationError as error:
        raise ConfigError(f"display {table.name!r}: {error}") from None
    except BridgeError as error:
        raise ConfigError(f"display {table.name!r}: {error.message}") from None
