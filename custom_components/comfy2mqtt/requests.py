"""Requests to a bridge by Home Assistant's MQTT connection, and what goes and comes in parts.

Home Assistant hands on no MQTT 5 properties. So each request carries a `transaction`, by which its
answer is known; a part of an upload is bytes alone, and known by the upload's name.

All methods run in Home Assistant's event loop.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypedDict, TypeVar
from uuid import uuid4

from homeassistant.components import mqtt
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError

from .const import DOMAIN, LOGGER
from .protocol.decode import MalformedError
from .protocol.messages import (
    PART,
    Limits,
    Output,
    Page,
    RefusedError,
    Response,
    inline,
    read_page,
    read_part,
    read_response,
    request,
)
from .protocol.topics import Topics

P = ParamSpec("P")
T = TypeVar("T")
Ask = Callable[..., Awaitable[Mapping[str, Any]]]
# An answer takes milliseconds; a request that is not answered is sent again.
ANSWER_S = 5.0
TRIES = 3
# The error of a bridge that is online and does not answer.
SILENCE = "no_answer"
# That of an answer that cannot be read.
MALFORMED = "malformed"
# Jobs in a page of a list.
PAGE = 100
# So many requests a list or an output takes at most: whoever answers could go on for ever.
MOST_REQUESTS = 10_000


@dataclass(frozen=True)
class Media:
    """Bytes for an input of a workflow."""

    data: bytes
    content_type: str


def failure(key: str, **placeholders: Any) -> HomeAssistantError:
    """Return an error that Home Assistant can say in the user's language."""
    return HomeAssistantError(
        translation_domain=DOMAIN,
        translation_key=key,
        translation_placeholders={name: str(value) for name, value in placeholders.items()},
    )


def decoded(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return a decoded answer. Raises HomeAssistantError if it is malformed."""
    try:
        return read(*args, **kwargs)
    except MalformedError as error:
        raise failure(MALFORMED, error=error) from None


def requests_left() -> Iterator[int]:
    """Return an item for each request that one list or output may still take."""
    return iter(range(MOST_REQUESTS))


async def pages(
    ask: Ask,
    after: int,
    *,
    acknowledges: bool = False,
    left: Iterator[int] | None = None,
    **fields: Any,
) -> AsyncIterator[Page]:
    """Yield the list of the jobs that follow a number, page by page.

    With `acknowledges` its first request acknowledges what came up to there. Each page takes one of
    `left`, where several lists share their requests. Raises as `ask`, and HomeAssistantError for a
    list that has more pages than that.
    """
    following = after
    for _ in left or requests_left():
        peek = not acknowledges or following != after
        data = await ask("list", after=following, peek=peek, limit=PAGE, **fields)
        page = decoded(read_page, data, following)
        yield page
        if page.after is None:
            return
        following = page.after
    raise failure(MALFORMED, error="a list without end")


class ErrorText(TypedDict):
    """The text of an error, by its key; without a key for an error of another integration."""

    translation_domain: str | None
    translation_key: str | None
    translation_placeholders: dict[str, str] | None


def error_text(error: HomeAssistantError | RefusedError) -> ErrorText:
    """Return the key and placeholders by which an error is shown in the user's language."""
    if isinstance(error, RefusedError):
        return ErrorText(
            translation_domain=DOMAIN,
            translation_key="request_refused",
            translation_placeholders={"error": error.sentence, "code": error.code},
        )
    return ErrorText(
        translation_domain=error.translation_domain,
        translation_key=error.translation_key,
        translation_placeholders=error.translation_placeholders,
    )


async def mqtt_is_there(hass: HomeAssistant) -> bool:
    """Wait for Home Assistant's MQTT integration; False if there is none, or it does not start."""
    # Without any entry the integration's own function fails.
    return bool(
        hass.config_entries.async_entries(mqtt.DOMAIN)
    ) and await mqtt.async_wait_for_mqtt_client(hass)


def end(future: asyncio.Future[Any]) -> None:
    """Tell whoever waits for a future that nothing comes; nobody may be there."""
    if not future.done():
        future.set_exception(failure("stopped"))
        future.exception()


class Requests:
    """Requests in one client's name. `is_available`: whether they can be answered now."""

    def __init__(
        self, hass: HomeAssistant, topics: Topics, is_available: Callable[[], bool]
    ) -> None:
        self._hass = hass
        self._topics = topics
        self._is_available = is_available
        self.limits = Limits()
        self._answers: dict[str, asyncio.Future[Response]] = {}
        self._upload_turn = asyncio.Lock()
        self._upload: tuple[str, asyncio.Future[Response]] | None = None

    def stop(self) -> None:
        """Tell whoever waits for an answer that there will be none."""
        for answer in self._answers.values():
            end(answer)

    async def ask(self, verb: str, *names: str, **fields: Any) -> Mapping[str, Any]:
        """Send a request until it is answered; return the data of its answer.

        Raises RefusedError for what the bridge refuses, HomeAssistantError without an answer.
        """
        return await self._ask(self._topics.request(verb, *names), fields, SILENCE)

    async def command(self, verb: str, **fields: Any) -> Mapping[str, Any]:
        """Send an operator's command, which the broker may not let Home Assistant send.

        Returns and raises as `ask`.
        """
        topics = self._topics
        # Answers to operators are not for everybody: they are subscribed to while one is expected.
        response = topics.command_response(verb)
        stop = await mqtt.async_subscribe(self._hass, response, self.take, qos=1, encoding=None)
        try:
            await self._subscribed(response)
            return await self._ask(topics.command(verb), fields, "no_operator")
        finally:
            stop()

    async def _subscribed(self, topic: str) -> None:
        """Wait until the broker has a subscription, since an earlier answer would be lost.

        It may refuse one; then there is no answer either.
        """
        done = asyncio.Event()
        stop = mqtt.async_on_subscribe_done(self._hass, topic, 1, done.set)
        try:
            async with asyncio.timeout(ANSWER_S):
                await done.wait()
        except TimeoutError:
            LOGGER.debug("the broker has not confirmed a subscription to %s", topic)
        finally:
            stop()

    async def _ask(self, topic: str, fields: Mapping[str, Any], silence: str) -> Mapping[str, Any]:
        transaction = uuid4().hex
        payload = request(transaction, fields)
        answer: asyncio.Future[Response] = self._hass.loop.create_future()
        self._answers[transaction] = answer
        try:
            response = await self._answered(topic, payload, answer, silence)
        finally:
            del self._answers[transaction]
        if response.error is not None:
            raise response.error
        return response.data

    async def _answered(
        self,
        topic: str,
        payload: str | bytes,
        answer: asyncio.Future[Response],
        silence: str = SILENCE,
    ) -> Response:
        for _ in range(TRIES):
            if not self._is_available():
                raise failure("not_available", base=self._topics.base)
            await mqtt.async_publish(self._hass, topic, payload, qos=1)
            done, _ = await asyncio.wait((answer,), timeout=ANSWER_S)
            if done:
                return answer.result()
        raise failure(silence, base=self._topics.base, client=self._topics.client)

    async def output(self, job_id: str, output: Output, width: int | None = None) -> Media:
        """Fetch the bytes of an output, or with `width` a WebP of a picture, so wide at most.

        Raises as `ask`, and HomeAssistantError for bytes that are not those of the result.
        """
        parts: list[bytes] = []
        following = 0
        content_type = output.content_type
        for _ in requests_left():
            data = await self.ask(
                "fetch",
                job_id=job_id,
                output=output.index,
                offset=following,
                count=PART,
                width=width,
                inline=True,
            )
            part = decoded(read_part, data, following)
            content_type = part.content_type or content_type
            parts.append(part.data)
            if part.next is None:
                break
            following = part.next
            if width is None and following >= output.size:
                raise failure("damaged", job_id=job_id)
        else:
            raise failure(MALFORMED, error="an output without end")
        whole = b"".join(parts)
        if width is None:
            digest = await self._hass.async_add_executor_job(_sha256, whole)
            if digest != output.sha256:
                raise failure("damaged", job_id=job_id)
        return Media(whole, content_type)

    # Media that goes with a job.

    async def sendable(self, value: Any) -> Any:
        """Return an input's value with its `Media` sent, in it or before it. Raises as `ask`."""
        if isinstance(value, Media):
            return await self._sent(value)
        if isinstance(value, list) and any(isinstance(each, Media) for each in value):
            return [await self.sendable(each) for each in value]
        return value

    async def _sent(self, media: Media) -> dict[str, str]:
        limits = self.limits
        if limits.fits_inline(len(media.data)):
            return inline(media.data, media.content_type)
        if len(media.data) > limits.max_upload:
            raise failure("too_large", size=len(media.data), limit=limits.max_upload)
        upload = f"ha-{uuid4().hex}"
        digest = await self._hass.async_add_executor_job(_sha256, media.data)
        async with self._upload_turn:
            await self.ask(
                "upload",
                upload,
                size=len(media.data),
                sha256=digest,
                content_type=media.content_type,
            )
            for offset in range(0, len(media.data), limits.part):
                await self._part(upload, offset, media.data[offset : offset + limits.part])
            await self.ask("upload", upload, "fin")
        return {"upload": upload}

    async def _part(self, upload: str, offset: int, data: bytes) -> None:
        """Send a part. It carries no transaction: one upload after the other is on its way."""
        answer: asyncio.Future[Response] = self._hass.loop.create_future()
        self._upload = (upload, answer)
        try:
            response = await self._answered(
                self._topics.request("upload", upload, str(offset)), data, answer
            )
        finally:
            self._upload = None
        if response.error is not None:
            raise response.error

    @callback
    def take(self, message: mqtt.ReceiveMessage) -> None:
        """Take an answer."""
        try:
            response = read_response(message.payload)
        except MalformedError as error:
            LOGGER.warning("%s: %s", message.topic, error)
            return
        answer = self._answers.get(response.transaction or "")
        if answer is None and self._upload is not None and response.transaction is None:
            upload, part = self._upload
            is_upload = self._topics.verb_of(message.topic) == "upload"
            if is_upload and (response.error or response.data.get("upload") == upload):
                answer = part
        if answer is not None and not answer.done():
            answer.set_result(response)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
