"""Uploads: bytes for a later input, whole in one message, or in parts that can be resumed.

Parts are appended to a file in their order. A part that was there already changes nothing, one
that comes too early is refused with the offset to continue at, so that a client may send again.
A complete upload is compared with the announced size and SHA-256, and kept like an output.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
from msgspec import UNSET, Struct

from bridge.aio import sha256_of
from bridge.atomicfile import for_each
from bridge.contract.errors import Busy, Conflict, InvalidInput, QuotaExceeded, TooLarge
from bridge.contract.messages import BeginUpload, UploadReport, or_none
from bridge.contract.reading import UNREADABLE
from bridge.jobs.journal import Journal, KeptUpload
from bridge.jobs.unfinished_uploads import UnfinishedUploads
from bridge.media.files import INLINE_LIMIT, Files
from bridge.media.sniff import sniff

# How the names of files end that say what was announced.
_BEGUN = ".begun"
# Those that a client may have begun and not finished: each is two files.
MAX_BEGUN = 100
# ... and of all clients: where names are free, there may be any number of them.
MAX_BEGUN_OF_ALL = 10_000
# Uploads in parts that are completed at a time: all bytes of each are then in memory.
COMPLETED_AT_ONCE = 2


class UploadRules(Struct, frozen=True):
    """Bounds: bytes of an upload and of all of a client's, and seconds that an upload is kept."""

    max_upload: int
    max_of: Callable[[str], int]
    keep_s: float


class Uploads:
    """All clients' uploads. Those that are not complete yet are files in `folder`."""

    def __init__(self, folder: Path, journal: Journal, files: Files, rules: UploadRules) -> None:
        self._folder = folder
        self._journal = journal
        self._files = files
        self._rules = rules
        self._unfinished: UnfinishedUploads | None = None
        self._reading = asyncio.Lock()
        # Parts of one upload are written one after the other, in the order in which they came.
        # A lock that nobody holds or waits for is gone: there may be any number of names.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._completing = asyncio.Semaphore(COMPLETED_AT_ONCE)

    async def put(self, client: str, upload: str, data: bytes) -> UploadReport:
        """Take an upload that is one message. Raises TooLarge, QuotaExceeded."""
        async with self._turn(client, upload):
            await self._check(client, len(data))
            sha256 = await sha256_of(data)
            return await self._keep(client, upload, sha256, data)

    async def begin(self, client: str, upload: str, begin: BeginUpload) -> UploadReport:
        """Begin an upload in parts, or continue one announced in the same way."""
        async with self._turn(client, upload):
            known = await self._journal.upload(client, upload)
            if known is not None and known.sha256 == begin.sha256:
                return _completed(upload, known)
            begun = await self._check(client, begin.size, but=upload)
            begun.add(client, upload, begin.size)
            try:
                held = await asyncio.to_thread(self._open, client, upload, begin)
            except OSError:
                begun.remove(client, upload)
                raise
            return UploadReport(upload=upload, held=held, size=begin.size)

    async def part(self, client: str, upload: str, offset: int, data: bytes) -> UploadReport:
        """Append a part. Raises Conflict if it does not begin where the last one ended."""
        async with self._turn(client, upload):
            begun = await asyncio.to_thread(self._begun, client, upload)
            end = offset + len(data)
            if end > begun.size:
                raise TooLarge(
                    f"upload {upload!r} was announced with {begun.size} bytes",
                    size=end,
                    limit=begun.size,
                )
            held = await asyncio.to_thread(self._append, client, upload, offset, data)
            if held < offset:
                raise Conflict(
                    f"upload {upload!r} has {held} bytes: continue there",
                    held=held,
                    size=begun.size,
                )
            return UploadReport(upload=upload, held=held, size=begun.size)

    async def finish(self, client: str, upload: str) -> UploadReport:
        """Complete an upload. Raises Conflict if bytes are missing, or not those announced."""
        async with self._turn(client, upload):
            known = await self._journal.upload(client, upload)
            path = self._path(client, upload)
            if known is not None and not path.exists():
                return _completed(upload, known)  # reported once more
            begun = await asyncio.to_thread(self._begun, client, upload)
            held = (await asyncio.to_thread(path.stat)).st_size
            if held < begun.size:
                # Before its bytes are read: a client may send this any number of times.
                raise Conflict(
                    f"upload {upload!r} has {held} of {begun.size} bytes: continue there",
                    held=held,
                    size=begun.size,
                )
            async with self._completing:
                return await self._complete(client, upload, begun)

    async def _complete(self, client: str, upload: str, begun: _BegunUpload) -> UploadReport:
        """Keep an upload whose bytes are all here. Raises InvalidInput for other bytes."""
        data = await asyncio.to_thread(self._path(client, upload).read_bytes)
        sha256 = await sha256_of(data)
        if sha256 != begun.sha256:
            await asyncio.to_thread(self._discard, client, upload)
            raise InvalidInput(
                f"upload {upload!r} has another SHA-256 than announced: begin again",
                sha256=sha256,
                expected=begun.sha256,
            )
        report = await self._keep(client, upload, sha256, data)
        await asyncio.to_thread(self._discard, client, upload)
        return report

    def _turn(self, client: str, upload: str) -> asyncio.Lock:
        return self._turns.setdefault((client, upload), asyncio.Lock())

    async def get(self, client: str, upload: str) -> KeptUpload:
        """An upload that is complete, or just being completed. Raises InvalidInput."""
        async with self._turn(client, upload):
            found = await self._journal.upload(client, upload)
        if found is None:
            raise InvalidInput(f"there is no complete upload {upload!r}", upload=upload)
        return found

    def sweep(self, now: float) -> None:
        """Delete what was begun and not continued; blocks."""

        def drop_old(path: Path) -> None:
            if path.stat().st_mtime < now - self._rules.keep_s:
                path.unlink()
                if self._unfinished is not None and path.suffix == _BEGUN:
                    client, _, upload = path.stem.partition(".")
                    self._unfinished.remove(client, upload)

        if self._folder.is_dir():
            for_each(self._folder.iterdir(), drop_old)

    async def _read_once(self) -> UnfinishedUploads:
        """Return the uploads that are under way; the folder is read the first time only."""
        async with self._reading:
            if self._unfinished is None:
                self._unfinished = UnfinishedUploads(await asyncio.to_thread(self._read_unfinished))
            return self._unfinished

    async def _check(self, client: str, size: int, but: str | None = None) -> UnfinishedUploads:
        """Check a new upload's size; `but` names the one that it takes the place of.

        Nothing is awaited between the count and the return.
        """
        rules = self._rules
        if size > rules.max_upload:
            raise TooLarge(
                f"an upload may have {rules.max_upload} bytes at most",
                size=size,
                limit=rules.max_upload,
                setting="max_upload",
            )
        known = await self._read_once()
        there = await self._journal.uploaded(client)
        count, begun = known.total_without(client, but)
        if but is not None and len(known) >= MAX_BEGUN_OF_ALL:
            raise Busy(
                f"{MAX_BEGUN_OF_ALL} uploads of all clients are begun: ask again later",
                limit=MAX_BEGUN_OF_ALL,
            )
        if count >= MAX_BEGUN:
            raise QuotaExceeded(
                f"{count} uploads of this client are begun: finish one of them", limit=MAX_BEGUN
            )
        limit = rules.max_of(client)
        if there + begun + size > limit:
            raise QuotaExceeded(
                f"the client's uploads would have {there + begun + size} bytes of {limit}",
                size=size,
                limit=limit,
                setting=f"clients.{client}.max_uploads",
            )
        return known

    async def _keep(self, client: str, upload: str, sha256: str, data: bytes) -> UploadReport:
        found = sniff(data)
        small = len(data) <= INLINE_LIMIT
        if not small:
            await asyncio.to_thread(self._files.put, sha256, data)
        kept = KeptUpload(
            found.kind,
            found.content_type,
            found.extension,
            sha256,
            len(data),
            data if small else None,
        )
        keep_until = self._journal.clock.now() + self._rules.keep_s
        await self._journal.keep_upload(client, upload, kept, keep_until)
        return _completed(upload, kept)

    # Files; all of these block. Client and upload are ids, so their names are safe.

    def _path(self, client: str, upload: str) -> Path:
        return self._folder / f"{client}.{upload}"

    def _open(self, client: str, upload: str, begin: BeginUpload) -> int:
        """Return how many bytes are here; an upload announced differently begins again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path, words = self._path(client, upload), self._begun_path(client, upload)
        wanted = _BegunUpload(begin.size, begin.sha256, or_none(begin.content_type))
        with suppress(FileNotFoundError, *UNREADABLE):
            if msgspec.json.decode(words.read_bytes(), type=_BegunUpload) == wanted:
                return path.stat().st_size
        path.write_bytes(b"")
        words.write_bytes(msgspec.json.encode(wanted))
        return 0

    def _begun(self, client: str, upload: str) -> _BegunUpload:
        try:
            return msgspec.json.decode(
                self._begun_path(client, upload).read_bytes(), type=_BegunUpload
            )
        except (FileNotFoundError, *UNREADABLE):
            raise InvalidInput(
                f"upload {upload!r} was not begun: send its size and sha256 first", upload=upload
            ) from None

    def _append(self, client: str, upload: str, offset: int, data: bytes) -> int:
        """Append the new bytes of a part; returns how many bytes are here then."""
        with self._path(client, upload).open("ab") as file:
            held = file.tell()
            if offset <= held < offset + len(data):
                file.write(memoryview(data)[held - offset :])
                self._begun_path(client, upload).touch()  # it is being continued: not to be swept
            return max(held, file.tell())

    def _discard(self, client: str, upload: str) -> None:
        if self._unfinished is not None:
            self._unfinished.remove(client, upload)
        self._path(client, upload).unlink(missing_ok=True)
        self._begun_path(client, upload).unlink(missing_ok=True)

    def _begun_path(self, client: str, upload: str) -> Path:
        return self._folder / f"{client}.{upload}{_BEGUN}"

    def _read_unfinished(self) -> list[tuple[str, str, int]]:
        """Return the uploads in the folder: client, upload and announced size."""
        found = []
        for path in self._folder.glob(f"*{_BEGUN}"):
            with suppress(OSError, *UNREADABLE, ValueError):
                client, upload, _ = path.name.split(".")
                size = msgspec.json.decode(path.read_bytes(), type=_BegunUpload).size
                found.append((client, upload, size))
        return found


class _BegunUpload(Struct, frozen=True):
    """An upload as it was announced."""

    size: int
    sha256: str
    content_type: str | None


def _completed(upload: str, kept: KeptUpload) -> UploadReport:
    return UploadReport(
        upload=upload,
        held=kept.size,
        size=kept.size,
        complete=True,
        sha256=kept.sha256,
        content_type=kept.content_type or UNSET,
    )
