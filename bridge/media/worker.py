"""The process for hostile media: images are decoded in it, and media of many parts measured.

`python -m bridge.media.worker` takes tasks on its standard input and answers on its standard
output, in the frames of `bridge.media.pipe`, until its input ends. It may use little memory and
time, and may write no file.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import msgspec

from bridge.media import pipe
from bridge.media.extents import Reader, TooManyParts, measure
from bridge.media.pipe import (
    Answer,
    BytesNeeded,
    Compose,
    ImageMade,
    ImageRefused,
    Measure,
    Measured,
    Task,
    Transcode,
)
from bridge.text import clip, printable

resource: ModuleType | None = None
with suppress(ImportError):  # Windows has none
    import resource

# Address space, in bytes: enough for `picture.MAX_PIXELS`, three times decoded, and an interpreter.
MAX_MEMORY = 1536 * 1024 * 1024
_MAX_REASON = 200
# A third of a share of the processor where others want it too.
_NICE = 5
_read_task = msgspec.json.Decoder(Task).decode
_encode = msgspec.json.Encoder().encode


def main() -> None:
    """Serve until the input ends."""
    # Ctrl-C is meant for the bridge, which may still need an answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    tasks = sys.stdin.buffer
    # What some library prints must not come between the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with suppress(ImportError):  # reported with the first task
        importlib.import_module("bridge.media.collage")
    _give_up_rights()
    with answers, suppress(BrokenPipeError):
        while (frame := pipe.receive(tasks)) is not None:
            header, body = frame
            task = _read_task(header)
            _limit_time(task.seconds)
            if isinstance(task, Measure):
                pipe.send(answers, _encode(_measure(task.size, tasks, answers)))
            else:
                answer, made = _make(task, body)
                pipe.send(answers, _encode(answer), made)


def _measure(size: int, tasks: BinaryIO, answers: BinaryIO) -> Measured:
    """Measure media whose bytes the bridge sends as they are asked for. Raises Broken."""

    def read(offset: int, count: int) -> bytes:
        pipe.send(answers, _encode(BytesNeeded(offset, count)))
        frame = pipe.receive(tasks)
        if frame is None:
            raise pipe.PipeBroken("it ended")
        return frame[1]

    began = time.process_time()
    try:
        extent = measure(Reader(size, read))
    except TooManyParts:
        extent = None
    return Measured(extent, time.process_time() - began)


def _make(task: Transcode | Compose, data: bytes) -> tuple[Answer, memoryview]:
    nothing = memoryview(b"")
    try:
        # Here, so that a Pillow that is missing or broken is reported as a reason.
        from bridge.media import collage, picture  # noqa: PLC0415

        if isinstance(task, Transcode):
            made = picture.make(data, task.target)
        else:
            made = collage.make(data, task.collage)
    except MemoryError:
        return ImageRefused("it takes more memory than it may"), nothing
    except Exception as error:  # noqa: BLE001 - broken images raise nearly anything
        return ImageRefused(_reason(error)), nothing
    if len(made.data) > pipe.MAX_BODY:
        return ImageRefused(f"it takes {len(made.data)} bytes, more than {pipe.MAX_BODY}"), nothing
    return ImageMade(made.width, made.height), made.data


def _reason(error: Exception) -> str:
    """Describe what is wrong, in one line; bytes of the image may be part of the text."""
    if type(error).__name__ == "UnidentifiedImageError":  # its text names the object that was read
        return "it is damaged at its beginning"
    return clip(printable(str(error)), _MAX_REASON) or type(error).__name__


def _give_up_rights() -> None:
    # Where processors are short, bridge and broker go first: they serve everybody.
    if sys.platform != "win32":
        with suppress(OSError):
            os.nice(_NICE)
    with suppress(OSError):  # Linux: if memory runs out, let it be this one that has to go
        Path("/proc/self/oom_score_adj").write_text("1000")
    if resource is None:
        return
    for what, most in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with suppress(OSError, ValueError):  # macOS does not bound address space
            resource.setrlimit(what, (most, most))


def _limit_time(seconds: int) -> None:
    """Set the time limit at which the kernel ends this process, even without a bridge to end it."""
    if resource is None:
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, hard))


if __name__ == "__main__":
    main()
