"""Transcoding in real worker processes, and what happens to them."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from bridge.contract.messages import OutputInfo
from bridge.media import pipe
from bridge.media.extents import Reader, measure
from bridge.media.profile import Profile
from bridge.media.transcode import CannotTranscode, Transcoder
from tests.media.images import encoded, gif_of_frames, opened, photo, png_of_size, target
from tests.support.comfyui import wait_for_end

pytestmark = pytest.mark.slow

JPEG = target(format="jpeg")
PHOTO = encoded(photo(64, 48))


@pytest.fixture
async def transcoder() -> AsyncIterator[Transcoder]:
    transcoder = Transcoder(timeout_s=20)
    yield transcoder
    await transcoder.close()


async def works(transcoder: Transcoder) -> int:
    """The transcoder makes an image; returns the process that did."""
    made = await transcoder.transcode(PHOTO, JPEG)
    assert (made.content_type, made.width, made.height) == ("image/jpeg", 64, 48)
    assert opened(made.data).format == "JPEG"
    return transcoder.pids[-1]


async def busy(transcoder: Transcoder) -> None:
    """Wait until the one process that there is has been given something to do."""
    await asyncio.sleep(0)
    assert transcoder.pids == []


def memory(pid: int) -> int:
    """The bytes of address space that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_one_process_takes_one_image_after_another(transcoder: Transcoder) -> None:
    assert transcoder.pids == []
    assert len({await works(transcoder) for _ in range(3)}) == 1


async def test_a_view_of_a_larger_message_can_be_transcoded(transcoder: Transcoder) -> None:
    message = memoryview(b"header" + PHOTO)
    made = await transcoder.transcode(message[6:], JPEG)
    assert made.data == (await transcoder.transcode(PHOTO, JPEG)).data


async def test_no_more_processes_are_started_than_allowed(transcoder: Transcoder) -> None:
    await asyncio.gather(*(transcoder.transcode(PHOTO, JPEG) for _ in range(6)))
    assert len(transcoder.pids) == 2


async def test_the_event_loop_goes_on_meanwhile(transcoder: Transcoder) -> None:
    large = encoded(photo(500, 500))
    assert len(large) > 2**18  # more than a pipe takes
    pid = await works(transcoder)
    os.kill(pid, signal.SIGSTOP)
    transcoding = asyncio.create_task(transcoder.transcode(large, JPEG))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not transcoding.done()
    os.kill(pid, signal.SIGCONT)
    assert (await transcoding).width == 500


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_of_size(30_000, 30_000), "exceeds limit|pixels are more than"),
        (png_of_size(8000, 9000), "8000 x 9000 pixels are more than"),
        (png_of_size(5000, 5000), "truncated|broken|unrecognized"),
        (PHOTO[: len(PHOTO) // 2], "truncated"),
        (gif_of_frames(100_000), "more than 1000 frames"),
        (b"\x89PNG\r\n\x1a\n", "damaged at its beginning"),
        (b"garbage", "of a format that cannot be changed"),
        (b"", "of a format that cannot be changed"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "of a format that cannot be changed"),
    ],
)
async def test_a_hostile_image_is_refused_and_the_process_goes_on(
    transcoder: Transcoder, data: bytes, reason: str
) -> None:
    pid = await works(transcoder)
    with pytest.raises(CannotTranscode, match=reason):
        await transcoder.transcode(data, target(format="webp"))
    assert await works(transcoder) == pid


async def test_more_bytes_than_a_frame_takes_are_not_sent(
    transcoder: Transcoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe, "MAX_BODY", 100)
    with pytest.raises(CannotTranscode, match=f"it has {len(PHOTO)} bytes, more than 100"):
        await transcoder.transcode(PHOTO, JPEG)
    assert transcoder.pids == []


async def test_an_image_that_needs_too_much_memory_is_refused(transcoder: Transcoder) -> None:
    pid = await works(transcoder)
    limit = memory(pid) + 16 * 2**20
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
    with pytest.raises(CannotTranscode, match="more memory than it may"):
        await transcoder.transcode(encoded(Image.new("RGB", (4000, 4000))), JPEG)
    assert await works(transcoder) == pid


async def test_the_largest_image_has_enough_memory(transcoder: Transcoder) -> None:
    large = encoded(Image.new("RGBA", (8192, 8192)), compress_level=1)
    made = await transcoder.transcode(large, target(format="jpeg", max_width=100))
    assert (made.width, made.height) == (100, 100)


async def test_a_process_that_hangs_is_killed_and_replaced(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transcoder = Transcoder(timeout_s=20)
    pid = await works(transcoder)
    transcoder._timeout_s = 0.5
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(CannotTranscode, match=r"longer than 0\.5 s"):
        await transcoder.transcode(PHOTO, JPEG)
    assert wait_for_end(pid)
    transcoder._timeout_s = 20
    assert await works(transcoder) != pid
    await transcoder.close()
    gc.collect()
    assert caplog.records == []


async def test_a_process_that_died_unused_is_replaced(transcoder: Transcoder) -> None:
    pid = await works(transcoder)
    os.kill(pid, signal.SIGKILL)
    assert await works(transcoder) != pid


async def test_a_process_that_dies_at_work_is_replaced(transcoder: Transcoder) -> None:
    pid = await works(transcoder)
    os.kill(pid, signal.SIGSTOP)  # so that it is not done before it is killed
    working = asyncio.create_task(works(transcoder))
    await busy(transcoder)
    os.kill(pid, signal.SIGKILL)
    assert await working != pid


async def test_an_image_that_kills_every_process_is_given_up(
    transcoder: Transcoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CannotTranscode, match="the process that decodes it fails"):
        await transcoder.transcode(PHOTO, JPEG)
    monkeypatch.undo()
    await works(transcoder)


async def test_a_process_that_speaks_nonsense_is_given_up(
    transcoder: Transcoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nonsense"
    program.write_text("#!/bin/sh\nprintf '\\0\\0\\0\\002\\0\\0\\0\\0[]'\nexec cat > /dev/null\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(CannotTranscode, match="no answer"):
        await transcoder.transcode(PHOTO, JPEG)


async def test_a_process_that_cannot_be_started_is_reported(
    transcoder: Transcoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CannotTranscode, match="no process to decode it can be started"):
        await transcoder.transcode(PHOTO, JPEG)


async def test_media_are_measured_in_a_process_that_asks_for_their_bytes(
    transcoder: Transcoder,
) -> None:
    gif = gif_of_frames(50)
    asked: list[int] = []

    def read(offset: int, count: int) -> bytes:
        asked.append(offset)
        return gif[offset : offset + count]

    found = await transcoder.measure(len(gif), read)
    assert found.extent == measure(Reader.of(gif))
    assert found.extent.frames == 50
    assert asked
    many = b"GIF89a" + bytes((8, 0, 8, 0, 0, 0, 0)) + b"\x21\xf9" + b"\x01\x01" * 4_000_000
    given_up = await transcoder.measure(len(many), lambda at, count: many[at : at + count])
    assert given_up.extent is None
    assert 0 < given_up.seconds < 20
    assert len(transcoder.pids) == 1  # the same one
    await works(transcoder)


async def test_a_file_that_goes_while_it_is_measured_leaves_no_process(
    transcoder: Transcoder,
) -> None:
    def read(_offset: int, _count: int) -> bytes:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        await transcoder.measure(100, read)
    assert transcoder.pids == []


async def test_a_process_goes_when_there_was_nothing_to_do() -> None:
    transcoder = Transcoder(idle_s=0.05)
    pid = await works(transcoder)
    assert await asyncio.to_thread(wait_for_end, pid)
    assert transcoder.pids == []
    assert await works(transcoder) != pid
    await transcoder.close()


async def test_whoever_gives_up_waiting_leaves_no_process(transcoder: Transcoder) -> None:
    pid = await works(transcoder)
    os.kill(pid, signal.SIGSTOP)
    working = asyncio.create_task(works(transcoder))
    await busy(transcoder)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert wait_for_end(pid)
    assert await works(transcoder) != pid


async def test_a_process_that_is_at_work_when_all_is_closed_ends_with_its_work() -> None:
    transcoder = Transcoder()
    pid = await works(transcoder)
    working = asyncio.create_task(transcoder.transcode(PHOTO, JPEG))
    await busy(transcoder)
    await transcoder.close()
    assert (await working).width == 64
    assert transcoder.pids == []
    assert await asyncio.to_thread(wait_for_end, pid)


def info(**changes: Any) -> OutputInfo:
    sha256 = hashlib.sha256(PHOTO).hexdigest()
    found = OutputInfo(
        index=0,
        name="image",
        kind="image",
        content_type="image/png",
        size=len(PHOTO),
        sha256=sha256,
    )
    return replace(found, **changes)


async def test_an_output_in_its_form_is_described_as_it_then_is(transcoder: Transcoder) -> None:
    before = info(filename="a_00001_.png")
    after, data = await transcoder.in_form(Profile(format="jpeg", max_width=32), before, PHOTO)
    assert opened(bytes(data)).size == (32, 24)
    assert after == replace(
        before,
        content_type="image/jpeg",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width=32,
        height=24,
        filename="a_00001_.jpg",
    )


@pytest.mark.parametrize(
    ("form", "before"),
    [
        (Profile(format="png"), info()),
        (Profile(format="jpeg"), info(kind="video", content_type="video/mp4")),
    ],
)
async def test_what_has_its_form_or_is_no_image_stays(
    transcoder: Transcoder, form: Profile, before: OutputInfo
) -> None:
    after, data = await transcoder.in_form(form, before, PHOTO)
    assert after is before
    assert data is PHOTO
    assert transcoder.pids == []


def test_the_processes_end_with_the_event_loop() -> None:
    async def run() -> int:
        pid = await works(Transcoder())
        await asyncio.sleep(0)
        return pid

    assert wait_for_end(asyncio.run(run()))


def test_the_processes_end_with_a_bridge_that_was_killed() -> None:
    program = (
        "import asyncio, os, signal\n"
        "from tests.media.test_transcode import Transcoder, works\n"
        "async def run():\n"
        "    print(await works(Transcoder()), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(run())\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, cwd=root, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert wait_for_end(int(ended.stdout))


async def test_a_process_is_given_no_secrets_and_may_write_no_file(
    transcoder: Transcoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY2MQTT_MQTT_URL", "mqtt://bridge:secret@broker")
    pid = await works(transcoder)
    assert b"secret" not in environment(pid)
    assert resource.prlimit(pid, resource.RLIMIT_FSIZE) == (0, 0)
    assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert resource.prlimit(pid, resource.RLIMIT_AS)[0] <= 1536 * 2**20
    assert resource.prlimit(pid, resource.RLIMIT_CPU)[0] <= 25


def test_a_bridge_that_was_asked_nothing_has_no_image_library() -> None:
    program = "import sys, bridge.jobs.finalizer; sys.exit('PIL' in sys.modules)"
    subprocess.run((sys.executable, "-c", program), check=True)
