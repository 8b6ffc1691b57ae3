"""Displays: publishes the last image for each one, retained, in the format that it takes.

A display that sleeps most of its time need not be awake when its image is made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from bridge.adapters.mqtt.encoder import about, facts
from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained_images import RetainedImage, RetainedImages
from bridge.config import ConfigError
from bridge.config.tables import Display
from bridge.contract.errors import BadRequest, BridgeError, Busy, ExecutionError, TooLarge
from bridge.contract.messages import Dither, Format, Output, OutputInfo, Shown, or_unset
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics
from bridge.jobs import outputs
from bridge.jobs.job import Job
from bridge.media import profile
from bridge.media.profile import Profile
from bridge.media.transcode import CannotTranscode, Transcoder
from bridge.mqtt import Connection, PacketTooLarge
from bridge.requests.permissions import EVERYBODY, Permissions
from bridge.text import in_quotes, plain_problem

log = logging.getLogger(__name__)

# Returns the address of a display's image over HTTP; None if there is none.
DisplayUrl = Callable[[str], str | None]


class Displays(Extension):
    """The operator's displays."""

    def __init__(
        self,
        tables: Sequence[Display],
        *,
        images: RetainedImages,
        publisher: Publisher,
        topics: Topics,
        rights: Permissions,
        transcoder: Transcoder,
        url_of: DisplayUrl = lambda _: None,
    ) -> None:
        """Raise ConfigError for a format that no image can have."""
        self._tables = {table.name: table for table in tables}
        self._forms = {table.name: form_of(table) for table in tables}
        self._images = images
        self._publisher = publisher
        self._topics = topics
        self._rights = rights
        self._transcoder = transcoder
        self._url_of = url_of

    def check(self, client: str, name: str) -> None:
        """Raise BadRequest or Forbidden unless a client may use a display."""
        check_show(self._tables, self._rights, client, name)

    async def show(self, job: Job, name: str, found: Sequence[outputs.CollectedOutput]) -> Shown:
        """Publish the first image of a job's outputs to a display; returns what became of it."""
        try:
            self.check(job.key.client, name)
            image = await self._image_for(name, job, found)
            await self._put(name, image)
        except BridgeError as error:
            self._publish_failure(error, name, client=job.key.client, job_id=job.key.job_id)
            return Shown(display=name, error=error.wire())
        topic, url = self._topics.display_image(name), self._url_of(name)
        self._publish_url(name)
        return Shown(display=name, topic=topic, url=or_unset(url))

    async def connected(self, _connection: Connection) -> None:
        """Publish all images, and clear those of displays that are gone."""
        for name in await self._images.publish_all(self._tables, self._refused):
            self._publisher.publish(self._topics.display_url(name), None, retain=True)
        for name in self._tables:
            if await self._images.get(name) is not None:
                self._publish_url(name)

    async def _image_for(
        self, name: str, job: Job, found: Sequence[outputs.CollectedOutput]
    ) -> RetainedImage:
        """Return the first image, transcoded for a display. Raises ExecutionError."""
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
        return RetainedImage(data, info.content_type, [*about(job), *facts(info), made])

    async def _in_form(
        self, form: Profile | None, image: outputs.CollectedOutput
    ) -> tuple[OutputInfo, bytes]:
        if form is None:
            return image.info, bytes(image.data)
        info, data = await self._transcoder.in_form(form, image.info, image.data)
        # The file that ComfyUI wrote holds another image than this one.
        info = info if info is image.info else replace(info, filename=UNSET)
        return info, bytes(data)

    async def _put(self, name: str, image: RetainedImage) -> None:
        """Keep and publish it. Raises TooLarge, Busy."""
        try:
            await self._images.put(name, image)
        except PacketTooLarge as error:
            raise self._too_large(name, error) from None
        except OSError as error:
            raise Busy(f"the picture cannot be kept: {error.strerror}", display=name) from None

    def _refused(self, name: str, error: PacketTooLarge) -> None:
        self._publish_failure(self._too_large(name, error), name)

    def _too_large(self, name: str, error: PacketTooLarge) -> TooLarge:
        return TooLarge(
            f"the picture for {name!r} is larger than the broker takes: {error}",
            display=name,
            size=error.size,
            limit=error.limit,
            setting="display.max_bytes",
        )

    def _publish_failure(self, error: BridgeError, name: str, **concerned: str) -> None:
        log.warning("display %s keeps its picture: %s", name, error.message)
        data = {"display": name, "code": error.code, **concerned}
        event = BridgeEvent(type="display_failed", message=error.message, data=data)
        self._publisher.publish(self._topics.event, event)

    def _publish_url(self, name: str) -> None:
        url = self._url_of(name)
        if url is not None:
            self._publisher.publish(self._topics.display_url(name), url.encode(), retain=True)


def check_show(
    displays: Mapping[str, Display], rights: Permissions, client: str, name: str
) -> None:
    """Raise BadRequest or Forbidden unless a client may use a display; `displays` are by name."""
    table = displays.get(name)
    if table is None:
        raise BadRequest(f"there is no display {name!r}", field="show", allowed=sorted(displays))
    if client not in table.clients and EVERYBODY not in table.clients:
        rights.check_display(client, name)


def form_of(table: Display) -> Profile | None:
    """Return the profile of the images that a display takes. Raises ConfigError."""
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
        problem, _, where = str(error).partition(" - at `$.")
        field = where.rstrip("`")
        place = ("display", table.name, field.removeprefix("max_") if field in _SIDES else field)
        problem_text = plain_problem(problem)
        if "enum" in problem:
            problem_text = f"expected one of {', '.join(_CHOICES[field])}"
        raise ConfigError(f"{in_quotes(str(wanted[field]))}: {problem_text}", *place) from None
    except BridgeError as error:
        field = str(error.details.get("field", "")).removeprefix("output.")
        problem_text = error.message.removeprefix(f"output.{field}: ").replace("output.", "")
        raise ConfigError(problem_text, "display", table.name, field) from None


# A display's own names for what a request gives as `max_width` and `max_height`.
_SIDES = ("max_width", "max_height")
_CHOICES = {"format": get_args(Format), "dither": get_args(Dither)}
