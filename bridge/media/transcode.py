"""Transcoding: images into the form that a client asked for, in processes of their own.

They also measure what media of many parts unpack to: in a thread of the bridge, that would hold up
its event loop.

A worker is started when there is something to do, takes one image after another, and is stopped
when there was nothing for a while. One that takes too long is killed, one that dies is replaced.
The bridge itself never decodes an image.
"""

from __future__ import annotations

import asyncio
import io
import math
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO, Self, TypeAlias, cast

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from bridge.aio import sha256_of, succeeded
from bridge.contract.messages import Format, OutputInfo, or_none
from bridge.contract.reading import UNREADABLE
from bridge.media import pipe, profile
from bridge.media.pipe import (
    Answer,
    BytesNeeded,
    Collage,
    Compose,
    ImageMade,
    ImageRefused,
    Measure,
    Measured,
    PipeBroken,
    Task,
    Transcode,
)
from bridge.media.profile import Profile, SourceImage, TargetImage, content_type

MAX_WORKERS = 2
TIMEOUT_S = 60.0
IDLE_S = 60.0
_STOP_S = 1.0
# The environment may hold passwords: a worker gets of it only what an interpreter needs to start.
_ENVIRONMENT = ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")

# Returns so many bytes from an offset on; blocks. Raises FileNotFoundError.
Read: TypeAlias = Callable[[int, int], bytes]

_read_answer = msgspec.json.Decoder(Answer).decode
_encode = msgspec.json.Encoder().encode


class Transcoded(Struct, frozen=True):
    """An image in its new form; width and height in pixels."""

    data: bytes
    sha256: str
    content_type: str
    width: int
    height: int


class CannotTranscode(Exception):
    """An image cannot be given the form asked for; the text says why, for the client."""


class Transcoder:
    """A pool of workers, one for all of a bridge. They end by `close`, or with the event loop."""

    def __init__(
        self,
        *,
        timeout_s: float = TIMEOUT_S,
        idle_s: float = IDLE_S,
    ) -> None:
        self._slots = asyncio.Semaphore(MAX_WORKERS)
        self._timeout_s = timeout_s
        self._idle_s = idle_s
        self._idle: dict[_Worker, asyncio.Task[None]] = {}
        self._closed = False

    async def transcode(self, data: bytes | memoryview, target: TargetImage) -> Transcoded:
        """Return an image in another form. Raises CannotTranscode."""
        return await self._carry_out(Transcode(target, self._seconds), data, target.format)

    async def compose(self, collage: Collage, data: bytes) -> Transcoded:
        """Return a contact sheet or an animation, of the images one after another in `data`.

        Raises CannotTranscode.
        """
        form: Format = "jpeg" if collage.columns else "webp"
        return await self._carry_out(Compose(collage, self._seconds), data, form)

    async def measure(self, size: int, read: Read) -> Measured:
        """Return what media of `size` bytes unpack to; `read` is called in a thread.

        Takes none of the places for images: its caller bounds how many it has measured at a time.
        Raises CannotTranscode, and what `read` does.
        """
        answer, _ = await self._ask(_encode(Measure(size, self._seconds)), b"", read)
        if not isinstance(answer, Measured):
            raise CannotTranscode(_unexpected(answer))
        return answer

    @property
    def _seconds(self) -> int:
        return math.ceil(self._timeout_s)

    async def _carry_out(self, task: Task, data: bytes | memoryview, form: Format) -> Transcoded:
        if len(data) > pipe.MAX_BODY:
            raise CannotTranscode(f"it has {len(data)} bytes, more than {pipe.MAX_BODY}")
        async with self._slots:
            answer, body = await self._ask(_encode(task), data)
        if not isinstance(answer, ImageMade):
            raise CannotTranscode(_unexpected(answer))
        # Hashed here: a worker that was given hostile bytes must not be who names them.
        sha256 = await sha256_of(body)
        return Transcoded(body, sha256, content_type(form), answer.width, answer.height)

    async def in_form(
        self, form: Profile, info: OutputInfo, data: bytes | memoryview
    ) -> tuple[OutputInfo, bytes | memoryview]:
        """Return an output in a form, and what describes it then.

        Both are the same objects as before if it is no image, or has that form already. Raises
        CannotTranscode.
        """
        if info.kind != "image":
            return info, data
        source = SourceImage(
            info.content_type, or_none(info.width), or_none(info.height), info.size
        )
        wanted = profile.target(form, source)
        if wanted is None:
            return info, data
        made = await self.transcode(data, wanted)
        name = info.filename
        changed = replace(
            info,
            content_type=made.content_type,
            size=len(made.data),
            sha256=made.sha256,
            width=made.width,
            height=made.height,
            filename=UNSET if name is UNSET else profile.renamed(name, wanted.format),
        )
        return changed, made.data

    async def close(self) -> None:
        """Stop the workers: those that are idle at once, the others after their work."""
        self._closed = True
        while self._idle:
            worker, retiring = self._idle.popitem()
            retiring.cancel()
            await asyncio.to_thread(worker.stop)

    @property
    def pids(self) -> list[int]:
        """The processes that wait for work."""
        return [worker.pid for worker in self._idle]

    async def _ask(
        self, header: bytes, data: bytes | memoryview, read: Read | None = None
    ) -> tuple[Answer, bytes]:
        try:
            return await self._ask_one(header, data, read)
        except PipeBroken:
            # Something else than this image may have ended it, such as the kernel for its memory.
            try:
                return await self._ask_one(header, data, read)
            except PipeBroken as error:
                raise CannotTranscode(f"the process that decodes it fails: {error}") from None

    async def _ask_one(
        self, header: bytes, data: bytes | memoryview, read: Read | None
    ) -> tuple[Answer, bytes]:
        worker = await self._worker()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await worker.ask(header, data, read)
        except TimeoutError:
            raise CannotTranscode(f"it takes longer than {self._timeout_s:g} s") from None
        if self._closed:
            await asyncio.to_thread(worker.stop)
        else:
            self._idle[worker] = asyncio.create_task(self._retire(worker))
        return answer

    async def _worker(self) -> _Worker:
        while self._idle:
            worker, retiring = self._idle.popitem()
            retiring.cancel()
            if worker.alive:
                return worker
            await asyncio.to_thread(worker.stop)
        starting = asyncio.get_running_loop().run_in_executor(None, _Worker.start)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.to_thread((await starting).stop)
            raise
        except OSError as error:
            raise CannotTranscode(f"no process to decode it can be started: {error}") from None

    async def _retire(self, worker: _Worker) -> None:
        """Stop a worker after a while, or when the event loop ends, unless it was taken again."""
        try:
            await asyncio.sleep(self._idle_s)
        finally:
            if self._idle.pop(worker, None) is not None:
                await asyncio.to_thread(worker.stop)


def _unexpected(answer: Answer) -> str:
    return (
        answer.reason if isinstance(answer, ImageRefused) else "its process answers something else"
    )


class _Worker:
    """One process. Its pipes are blocking ones, used in threads: so they are on every system."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._tasks = cast("BinaryIO", process.stdin)
        self._answers = io.BufferedReader(cast("io.RawIOBase", process.stdout))

    @classmethod
    def start(cls) -> Self:
        """Start one; blocks for some milliseconds. Raises OSError."""
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        process = subprocess.Popen(
            (sys.executable, "-P", "-m", "bridge.media.worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Libraries print what they find in images: nothing that a log should have.
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    async def ask(
        self, header: bytes, data: bytes | memoryview, read: Read | None
    ) -> tuple[Answer, bytes]:
        """Execute a command in the process, which may ask for bytes that `read` returns.

        Unless that succeeds, the process has ended afterwards. Raises Broken, and what `read` does.
        """
        # No task, which the end of the event loop would cancel before its thread has ended.
        exchange = asyncio.get_running_loop().run_in_executor(
            None, self._exchange, header, data, read
        )
        try:
            return await asyncio.shield(exchange)
        except BaseException:
            # With the process its pipes are closed, and the thread ends.
            self._process.kill()
            await asyncio.wait((exchange,))
            succeeded(exchange)  # its error has been looked at
            await asyncio.to_thread(self.stop)
            raise

    def stop(self) -> None:
        """End it; blocks until it is gone."""
        with suppress(OSError):
            self._tasks.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()

    def _exchange(
        self, header: bytes, data: bytes | memoryview, read: Read | None
    ) -> tuple[Answer, bytes]:
        answer, body = self._exchange_one(header, data)
        while read is not None and isinstance(answer, BytesNeeded):
            answer, body = self._exchange_one(b"", read(answer.offset, answer.count))
        return answer, body

    def _exchange_one(self, header: bytes, data: bytes | memoryview) -> tuple[Answer, bytes]:
        try:
            pipe.send(self._tasks, header, data)
            frame = pipe.receive(self._answers)
        except OSError as error:
            raise PipeBroken(str(error)) from None
        if frame is None:
            raise PipeBroken("it ended")
        try:
            return _read_answer(frame[0]), frame[1]
        except UNREADABLE as error:
            raise PipeBroken(f"it answered what is no answer: {error}") from None
