"""Delivery: all outputs of a job to all of its sinks, each retried until it succeeds or fails.

Each client has few deliveries in progress at a time, so that a server that hangs delays only the
client that named it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import aiohttp
from msgspec import Struct

from bridge import logs
from bridge.contract import targets
from bridge.contract.errors import BridgeError, TooLarge, internal
from bridge.contract.messages import OutputInfo
from bridge.contract.sinks import Delivered
from bridge.contract.targets import FolderTarget, HttpTarget, Target, TopicTarget
from bridge.jobs.job import Job, OutputSink
from bridge.media.download import AllowedHosts, passes
from bridge.retry import Backoff, retry
from bridge.sinks import http, schedule
from bridge.sinks.folder import FolderWriter
from bridge.sinks.http import Body, Source
from bridge.sinks.schedule import DeliveryRefused
from bridge.text import problem_of

log = logging.getLogger(__name__)

# How many outputs of a client are delivered at a time.
AT_ONCE = 4
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0

# Yields an output's bytes, by its SHA-256 and its size.
Read = Callable[[str, int], AsyncIterator[bytes]]
# Publishes bytes of a Content Type to a topic, for a job; returns once the broker has them.
# Raises TooLarge, Forbidden, and OSError if there is no broker for the moment.
PublishTopic = Callable[[Job, OutputInfo, str, bytes], Awaitable[None]]
# Returns the addresses that a client may reach with a target. Raises Forbidden or BadRequest.
Check = Callable[[str, OutputSink, Target], AllowedHosts]


class NamedFolder(Struct, frozen=True):
    """A folder of the operator's, and the template of its files' paths."""

    path: Path
    file: str


class Deliveries:
    """Delivers what jobs put out. All methods are for the event loop's thread."""

    def __init__(
        self,
        *,
        check: Check,
        read: Read,
        folders: Mapping[str, NamedFolder],
        publish: PublishTopic,
        within_s: float,
        max_topic: int = 16 * 1024 * 1024,
    ) -> None:
        """`within_s`: no attempt begins more than this many seconds after the first.

        `max_topic` bounds the bytes of an output for a topic: it has to be in memory whole.
        """
        self._check = check
        self._read = read
        self._folders = folders
        self._publish = publish
        self._within_s = within_s
        self._max_topic = max_topic
        self._writer = FolderWriter()
        # Held by those of a client that wait or are at work.
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._under_way: Counter[str] = Counter()

    def under_way(self, client: str) -> int:
        """Return how many jobs of a client are being delivered."""
        return self._under_way[client]

    async def deliver(self, job: Job, outputs: Sequence[OutputInfo]) -> list[Delivered]:
        """Deliver outputs to all sinks of their job; returns the outcome of each.

        Never raises for a sink's failure. Cancelling this stops the deliveries.
        """
        client = job.key.client
        self._under_way[client] += 1
        try:
            slots = self._slots.setdefault(client, asyncio.Semaphore(AT_ONCE))
            async with asyncio.TaskGroup() as tasks:
                going = [
                    tasks.create_task(self._one(job, sink, target, info, slots))
                    for sink in job.envelope.put
                    for target in [targets.read(sink.url)]
                    for info in targets.chosen(target, sink.output, outputs)
                ]
            missing = [
                _lacking(sink, len(outputs))
                for sink in job.envelope.put
                if sink.output is not None and sink.output >= len(outputs)
            ]
            return [each.result() for each in going] + missing
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]

    def close(self) -> None:
        """Write no more files."""
        self._writer.close()

    async def _one(
        self,
        job: Job,
        sink: OutputSink,
        target: Target,
        info: OutputInfo,
        slots: asyncio.Semaphore,
    ) -> Delivered:
        values = targets.facts(
            info,
            (time.strftime("%Y-%m-%d"), time.strftime("%H%M%S")),
            client=job.key.client,
            job_id=job.key.job_id,
            workflow=job.workflow,
            set_id=job.envelope.set_id,
        )
        where, work = self._work(job, sink, target, info, values)
        shown = targets.shown(where)
        with logs.about(job.key.client, job.key.job_id):
            try:
                async with slots, asyncio.timeout(schedule.longest(info.size, self._within_s)):
                    await self._tried(work, shown)
            except BridgeError as error:
                log.warning("cannot deliver output %d: %s", info.index, error.message)
                return Delivered(output=info.index, url=shown, error=error.wire())
            except TimeoutError:
                late = schedule.failed("it takes too long", shown, attempts=1)
                log.warning("cannot deliver output %d: %s", info.index, late.message)
                return Delivered(output=info.index, url=shown, error=late.wire())
            except Exception as error:
                # A defect of ours costs this delivery, not what the job put out.
                log.exception("defect in the bridge")
                return Delivered(output=info.index, url=shown, error=internal(error).wire())
        return Delivered(output=info.index, url=shown)

    async def _tried(self, work: Callable[[], Awaitable[None]], shown: str) -> None:
        """Try until it succeeds or is given up. Raises BridgeError."""
        attempts = 0
        asked_s: float | None = None

        async def attempt() -> None:
            nonlocal attempts, asked_s
            if asked_s is not None:
                await asyncio.sleep(asked_s)
            attempts += 1
            asked_s = None
            try:
                await work()
            except DeliveryRefused as refused:
                asked_s = refused.after_s
                raise

        try:
            await retry(
                attempt,
                _passes,
                backoff=Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S),
                within_s=self._within_s,
            )
        except DeliveryRefused as refused:
            raise schedule.failed(
                str(refused), shown, attempts=attempts, status=refused.status
            ) from None
        except TimeoutError:
            problem = f"nothing moved for {schedule.STALL_S:g} s"
            raise schedule.failed(problem, shown, attempts=attempts) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _problem(error)
            raise schedule.failed(problem, shown, attempts=attempts) from None

    def _work(
        self,
        job: Job,
        sink: OutputSink,
        target: Target,
        info: OutputInfo,
        values: Mapping[str, str],
    ) -> tuple[str, Callable[[], Awaitable[None]]]:
        """Return the place that an output goes to, and the function that delivers it."""

        def source() -> AsyncIterator[bytes]:
            return self._read(info.sha256, info.size)

        match target:
            case HttpTarget():
                url = targets.url_for(target, values)
                return url, lambda: self._put(
                    job, sink, target, url, Body(source, info.size, info.content_type)
                )
            case FolderTarget(name=name):
                known = self._folders.get(name)
                file = "" if known is None else targets.filled(known.file, values)
                return f"{sink.url}/{file}", lambda: self._write(job, sink, target, file, source)
            case TopicTarget():
                topic = targets.filled(target.topic, values)
                to = TopicTarget(topic)
                return f"mqtt:{topic}", lambda: self._to_topic(job, sink, to, info, source)

    async def _put(
        self, job: Job, sink: OutputSink, target: HttpTarget, url: str, body: Body
    ) -> None:
        reach = self._check(job.key.client, sink, target)
        try:
            await http.put(url, sink.headers, body, reach)
        except DeliveryRefused as refused:
            if not refused.missing:
                raise
            await http.make_folders(url, sink.headers, reach)
            await http.put(url, sink.headers, body, reach)

    async def _write(
        self, job: Job, sink: OutputSink, target: FolderTarget, file: str, source: Source
    ) -> None:
        self._check(job.key.client, sink, target)
        await self._writer.write(self._folders[target.name].path, file, source)

    async def _to_topic(
        self, job: Job, sink: OutputSink, target: TopicTarget, info: OutputInfo, source: Source
    ) -> None:
        self._check(job.key.client, sink, target)
        if info.size > self._max_topic:
            raise TooLarge(
                f"a topic takes {self._max_topic} bytes at most",
                size=info.size,
                limit=self._max_topic,
            )
        data = b"".join([chunk async for chunk in source()])
        await self._publish(job, info, target.topic, data)


def _lacking(sink: OutputSink, count: int) -> Delivered:
    index = sink.output or 0
    shown = targets.shown(sink.url)
    error = schedule.failed(f"the job put out {count}, and none at {index}", shown, attempts=1)
    return Delivered(output=index, url=shown, error=error.wire())


def _passes(error: BaseException) -> bool:
    """True if another attempt may succeed; False if the bytes to send are gone."""
    if isinstance(error, DeliveryRefused):
        return error.passes
    if isinstance(error, FileNotFoundError):
        return False
    return isinstance(error, TimeoutError) or passes(error)


def _problem(error: BaseException) -> str:
    """Return an error in words, without the folders of this machine."""
    return problem_of((isinstance(error, OSError) and error.strerror) or error)
