"""Contact sheets, animations and zips of the outputs of a set's jobs, when those have ended.

Images are decoded in the image workers alone, one at a time, and for one set at a time: outputs of
jobs wait for one image at most. What cannot be read is named with the reason, and costs the set
nothing else. After a restart all is made again: the same jobs give the same bytes.
"""

from __future__ import annotations

import asyncio
import functools
import math
import mmap
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bridge.aio import sha256_of
from bridge.contract.errors import BridgeError, ExecutionError, TooLarge
from bridge.contract.messages import Collect, MissingOutput, OutputInfo, Shown
from bridge.contract.sets import MAX_ZIP_BYTES
from bridge.contract.sinks import Delivered
from bridge.contract.targets import extension_of
from bridge.jobs.durable import until_room
from bridge.jobs.finalizer import MakeLink, Show, SizeTrial, keep, linked
from bridge.jobs.job import Job, KeptOutput
from bridge.jobs.journal import Journal, Stored
from bridge.jobs.journal.sets import JobRow, OutputRow, SetRecord
from bridge.jobs.output_delivery import DeliverOutputs
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.queue import Key
from bridge.jobs.sets.plan import SetSpec
from bridge.media.files import Files, kept_bytes, read_kept
from bridge.media.pipe import Collage, CollageCell
from bridge.media.profile import Profile, SourceImage, target
from bridge.media.transcode import CannotTranscode, Transcoded, Transcoder
from bridge.text import clip, printable

T = TypeVar("T")

# The longer side of an image, in pixels, by what it is for; of its label so many characters.
_SIDES = {"sheet": 256, "animation": 512}
_LABEL = 64
# A row of a sheet is the last axis of a grid, if that is not longer than this.
_MOST_COLUMNS = 32
_QUALITY = 95
_CHUNK = 1024 * 1024
# How many of the jobs that are left out are named.
_NAMED = 20
_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]')


class Collected(Struct, frozen=True):
    """The outputs of a set, which are on disk, and what could not be made.

    They are to be kept for `keep_s` seconds. `shown` and `delivered` are where else they went.
    """

    outputs: Sequence[OutputInfo] = ()
    missing: Sequence[MissingOutput] = ()
    keep_s: float = 0.0
    shown: Shown | UnsetType = UNSET
    delivered: Sequence[Delivered] | None = None

    @property
    def kept(self) -> list[KeptOutput]:
        """The rows of the outputs, whose bytes the journal has."""
        return [
            KeptOutput(
                index=each.index,
                content_type=each.content_type,
                sha256=each.sha256,
                size=each.size,
                data=None,
            )
            for each in self.outputs
        ]


class OutputRoutes(Struct, frozen=True, kw_only=True):
    """The ways of outputs besides the bus; what is None is not there.

    `link` gives the address of one, by the set's key.
    """

    deliver: DeliverOutputs | None = None
    show: Show | None = None
    link: MakeLink | None = None


class Publishes(Protocol):
    """Publishes what was collected."""

    def set_output(
        self, record: SetRecord, info: OutputInfo, data: bytes | memoryview, keep_s: float
    ) -> str | None:
        """Publish bytes, without waiting. Returns the topic; None if they have to be fetched."""


class _MadeOutput(Struct, frozen=True):
    """One of them, with its media type and size in pixels, and the jobs that are not in it."""

    data: bytes | memoryview
    content_type: str
    filename: str
    without: list[str]
    width: int | None = None
    height: int | None = None


class SetCollector:
    """Collects for sets whose jobs have ended. Used on the event loop's thread."""

    def __init__(
        self,
        journal: Journal,
        files: Files,
        transcoder: Transcoder,
        listener: Publishes,
        *,
        keep_outputs_s: float,
        scratch: Path,
        routes: OutputRoutes | None = None,
        trial: SizeTrial | None = None,
    ) -> None:
        """`scratch` is a folder of this collector's own, for one zip at a time.

        An output waits for its `trial` before it is published.
        """
        self._journal = journal
        self._files = files
        self._transcoder = transcoder
        self._listener = listener
        self._keep_outputs_s = keep_outputs_s
        self._scratch = scratch
        self.routes = routes or OutputRoutes()
        self._trial = trial
        self._turn = asyncio.Lock()

    async def remove_leftovers(self) -> None:
        """Delete the unfinished zips of a process that crashed."""
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def collect(self, record: SetRecord, spec: SetSpec) -> Collected:
        """Make what a set asked for, publish and deliver it. Raises DatabaseError, LeaseLost.

        A disk that is full is waited for. Cancelling it leaves nothing behind when the set ends.
        """
        outputs: list[CollectedOutput] = []
        missing: list[MissingOutput] = []
        keep_s = self._keep_outputs_s if spec.keep_s is None else spec.keep_s
        job = _as_job(record)
        shown: Shown | UnsetType = UNSET
        async with self._turn:
            jobs = await self._journal.sets.jobs(record.key)
            rows = await self._journal.sets.outputs(record.key)
            for what in dict.fromkeys(spec.collect):
                make = functools.partial(self._made, what, record, spec, jobs, rows)
                try:
                    made = await until_room(make)
                    output = await self._output(what, len(outputs), record, made, keep_s)
                except (CannotTranscode, OSError) as error:
                    why = ExecutionError(f"the {what} cannot be made: {error}", reason=str(error))
                    missing.append(MissingOutput(name=what, error=why.wire()))
                except BridgeError as error:
                    missing.append(MissingOutput(name=what, error=error.wire()))
                else:
                    outputs.append(output)
                    if made.without:
                        missing.append(_left_out(what, made.without, len(jobs)))
            show, display = self.routes.show, record.envelope.show
            pictures = [each for each in outputs if each.info.kind == "image"]
            if show is not None and display is not None and pictures:
                shown = await show(job, display, pictures)
        infos = [each.info for each in outputs]
        # While a sink is waited for, the bytes are not held in memory.
        del outputs, pictures
        deliver, delivered = self.routes.deliver, None
        if deliver is not None and job.envelope.put and infos:
            delivered = await deliver(job, infos)
        return Collected(infos, missing, keep_s, shown, delivered)

    async def linked(self, key: Key, infos: Sequence[OutputInfo], until: float) -> list[OutputInfo]:
        """Add to each output its address, good until a time in seconds since the epoch."""
        return await linked(self.routes.link, key, infos, until)

    async def _made(
        self,
        what: Collect,
        record: SetRecord,
        spec: SetSpec,
        jobs: Sequence[JobRow],
        rows: Sequence[OutputRow],
    ) -> _MadeOutput:
        if what == "zip":
            return await self._zip(record, jobs, rows)
        side = _SIDES[what]
        images: dict[int, OutputRow] = {}
        for row in rows:
            if row.content_type.startswith("image/"):
                images.setdefault(row.index, row)
        small = {index: await self._small(record.key, row, side) for index, row in images.items()}
        pictures = {index: image for index, image in small.items() if image is not None}
        columns = _columns([len(axis) for axis in spec.axes]) if what == "sheet" else 0
        cells, data = [], []
        for index in range(record.total):
            image = pictures.get(index)
            cells.append(CollageCell(0 if image is None else len(image.data), _label(spec, index)))
            data.append(b"" if image is None else image.data)
        width = max((each.width for each in pictures.values()), default=1)
        height = max((each.height for each in pictures.values()), default=1)
        collage = Collage(cells, width, height, columns)
        made = await self._transcoder.compose(collage, b"".join(data))
        if what == "sheet":
            made = await self._in_form(record.envelope.profile, made)
        return _MadeOutput(
            made.data,
            made.content_type,
            f"{record.key.job_id}-{what}.{made.content_type.rpartition('/')[2]}",
            _lacking(jobs, pictures),
            made.width,
            made.height,
        )

    async def _small(self, key: Key, row: OutputRow, side: int) -> Transcoded | None:
        """Return the image of a job, made small; None if it is gone or cannot be decoded."""
        form = Profile("webp", _QUALITY, max_width=side, max_height=side, strip=True)
        wanted = target(form, SourceImage(row.content_type, None, None, row.size))
        stored = await self._journal.output(Key(key.client, row.job_id), row.output)
        if stored is None or wanted is None:
            return None
        try:
            data = await read_kept(self._files, stored.sha256, stored.data)
            return await self._transcoder.transcode(data, wanted)
        except (CannotTranscode, OSError):
            return None

    async def _in_form(self, form: Profile | None, made: Transcoded) -> Transcoded:
        """Bring a sheet into the form that the request asked for its images."""
        source = SourceImage(made.content_type, made.width, made.height, len(made.data))
        wanted = None if form is None else target(form, source)
        return made if wanted is None else await self._transcoder.transcode(made.data, wanted)

    async def _zip(
        self, record: SetRecord, jobs: Sequence[JobRow], rows: Sequence[OutputRow]
    ) -> _MadeOutput:
        size = sum(row.size for row in rows)
        if not rows:
            raise ExecutionError("the zip cannot be made: no output is kept")
        if size > MAX_ZIP_BYTES:
            raise TooLarge(
                f"the outputs have {size} bytes; a zip takes {MAX_ZIP_BYTES} at most",
                size=size,
                limit=MAX_ZIP_BYTES,
            )
        results = await self._journal.sets.results(record.key)
        names = await asyncio.to_thread(_names, rows, results, len(str(record.total - 1)))
        inside = set()
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            with zipfile.ZipFile(file, "w") as archive:
                for row, name in zip(rows, names, strict=True):
                    job = Key(record.key.client, row.job_id)
                    stored = await self._journal.output(job, row.output)
                    if stored is not None and await _in_thread(
                        functools.partial(_add, archive, name, self._files, stored)
                    ):
                        inside.add(row.index)
            if not inside:
                raise ExecutionError("the zip cannot be made: no output is kept")
            data = await _in_thread(lambda: _mapped(file))
        name = f"{record.key.job_id}.zip"
        return _MadeOutput(data, "application/zip", name, _lacking(jobs, inside))

    async def _output(
        self, what: Collect, index: int, record: SetRecord, made: _MadeOutput, keep_s: float
    ) -> CollectedOutput:
        """Describe what was made, have it on disk, and publish it; a zip is only to be fetched."""
        info = OutputInfo(
            index=index,
            name=what,
            kind="file" if what == "zip" else "image",
            content_type=made.content_type,
            size=len(made.data),
            sha256=await sha256_of(made.data),
            width=UNSET if made.width is None else made.width,
            height=UNSET if made.height is None else made.height,
            filename=made.filename,
        )
        kept = await until_room(lambda: keep(self._files, [CollectedOutput(info, made.data)]))
        await self._journal.sets.store_collected(record.key, kept)
        deliver = record.envelope.deliver
        if what != "zip" and deliver in ("push", "push_qos1"):
            if deliver == "push" and self._trial is not None:
                await self._trial.find_out(info.size)
            topic = self._listener.set_output(record, info, made.data, keep_s)
            info = info if topic is None else replace(info, topic=topic)
        return CollectedOutput(info, b"" if what == "zip" else made.data)


def _as_job(record: SetRecord) -> Job:
    """Return a set as that whose outputs they are.

    A sink of one output, by its index, is for those of the set's jobs.
    """
    key, envelope = record.key, record.envelope
    put = [each for each in envelope.put if each.output is None]
    return Job(
        key=key,
        workflow=record.workflow,
        workflow_version="",
        state="running",
        prompt_id="",
        envelope=replace(envelope, put=put, set_id=key.job_id),
    )


class _Result(Struct):
    outputs: list[OutputInfo] = []


def _names(
    rows: Sequence[OutputRow], results: Sequence[tuple[int, bytes]], width: int
) -> list[str]:
    """Return the name in a zip of each output: its job's place, and its file's own name.

    None of them leads out of a folder, and no two are the same.
    """
    infos = {
        (index, info.index): info
        for index, result in results
        for info in msgspec.json.decode(result, type=_Result).outputs
    }
    found: dict[str, None] = {}
    for row in rows:
        info = infos.get((row.index, row.output))
        name = None if info is None or info.filename is UNSET else info.filename
        if info is None:
            info = _described(row)
        own = _UNSAFE.sub("_", name or f"{info.name}.{extension_of(info)}")[-128:]
        full, number = f"{row.index:0{width}}-{own}", row.output
        while full in found:
            full, number = f"{row.index:0{width}}-{number}-{own}", number + 1
        found[full] = None
    return list(found)


def _described(row: OutputRow) -> OutputInfo:
    return OutputInfo(
        index=row.output,
        name="output",
        kind="file",
        content_type=row.content_type,
        size=row.size,
        sha256="",
    )


def _add(archive: zipfile.ZipFile, name: str, files: Files, stored: Stored) -> bool:
    """Add an output to a zip, piece by piece; False where its bytes are gone. Blocks."""
    try:
        piece = kept_bytes(files, stored.sha256, stored.data, 0, _CHUNK)
    except FileNotFoundError:
        return False
    # Without a time of its own: the same outputs are the same zip.
    with archive.open(zipfile.ZipInfo(name), "w") as file:
        file.write(piece)
        for start in range(_CHUNK, stored.size, _CHUNK):
            file.write(kept_bytes(files, stored.sha256, stored.data, start, _CHUNK))
    return True


def _mapped(file: IO[bytes]) -> memoryview:
    """Return a file's bytes without reading them; they are there for as long as that is held."""
    file.flush()
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


async def _in_thread(work: Callable[[], T]) -> T:
    """Run work in a thread. Cancelling this waits for the thread to end."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


def _columns(sizes: Sequence[int]) -> int:
    """Return how many images a row of a sheet has, by the sizes of the set's axes."""
    if len(sizes) > 1 and 1 < sizes[-1] <= _MOST_COLUMNS:
        return sizes[-1]
    return math.isqrt(math.prod(sizes) - 1) + 1


def _label(spec: SetSpec, index: int) -> str:
    """Return the caption of a job's image: the values that vary, else the job's number."""
    shown = [
        f"{name}={value}"
        for name, value in spec.shown(index).items()
        if not isinstance(value, dict | list)
    ]
    return clip(printable(", ".join(shown)), _LABEL) or str(index)


def _lacking(jobs: Sequence[JobRow], inside: set[int] | Mapping[int, object]) -> list[str]:
    return [job.job_id for job in jobs if job.state == "succeeded" and job.index not in inside]


def _left_out(what: Collect, without: Sequence[str], total: int) -> MissingOutput:
    gave = "kept output" if what == "zip" else "kept image that can be decoded"
    error = ExecutionError(
        f"{len(without)} of {total} jobs are not in the {what}: they have no {gave}",
        jobs=list(without[:_NAMED]),
    )
    return MissingOutput(name=what, error=error.wire())
