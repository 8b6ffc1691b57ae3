"""Large blobs in a bucket of anything that speaks S3.

A blob is put under a name that is used once: its SHA-256, a slash, and random digits. So no object
is ever written over, and whoever deletes one deletes those bytes and never the same bytes that
another bridge has put meanwhile, however late a request to delete arrives. docs/several-bridges.md
says why that is needed.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from itertools import chain, groupby
from typing import NamedTuple, NoReturn, TypeVar

import obstore
from msgspec import Struct
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import MemoryStore, S3Store

from bridge.jobs.clock import JumpWatch
from bridge.jobs.database.engine import DatabaseError, TransientError
from bridge.media.files import BlobDamaged, Sweeper, check_name
from bridge.media.sniff import sniff

log = logging.getLogger(__name__)

T = TypeVar("T")

# A request and each part of an upload may take so long, on a line of half a megabit a second too.
_REQUEST_S = 120.0
# How long the library tries again by itself. Whoever waits longer than that tries again here.
_RETRY_S = 8.0
# More than that goes up in parts, each of which is tried again by itself; so many at a time.
PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 4
# What is read at a time of a blob that is only compared with its name.
_STEP = 1024 * 1024
# How many blobs are remembered: their places, and that they are complete.
_MAX_KNOWN = 4096
# A blob that this process has put is not put again for this many seconds: a third of the age below
# which the sweep removes nothing, so that the row that needs it is written long before.
_RENEWED_S = 1200.0
# Listing a bucket costs: not every minute.
_SWEEP_EVERY_S = 900.0
# No link of S3's may last longer.
LONGEST_LINK_S = 7 * 86_400.0
_OURS = re.compile(r"([0-9a-f]{64})/[0-9a-f]{16}")
_MOST_DELETED = 1000
# What a browser shows as itself; all else is offered to be saved.
_SHOWN = ("image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif")

# What a store's answers mean, by its codes and by our library's words: the first that fits. Those
# that are marked do not pass by themselves.
_LASTS = True
_MEANINGS: tuple[tuple[str, str, bool], ...] = (
    (
        "RequestTimeTooSkewed|RequestExpired",
        "this machine's clock and the store's are too far apart: set them right",
        not _LASTS,
    ),
    ("InvalidAccessKeyId|InvalidToken|ExpiredToken", "it does not know the access key", _LASTS),
    ("SignatureDoesNotMatch", "the secret key is not that of the access key", _LASTS),
    ("NoSuchBucket", "there is no such bucket", _LASTS),
    ("PermanentRedirect|AuthorizationHeaderMalformed", "the bucket is in another region", _LASTS),
    ("AccessDenied|403 Forbidden|PermissionDenied", "these credentials may not do it", _LASTS),
    ("Unauthenticated|401 Unauthorized", "it takes no such credentials", _LASTS),
    (
        "CredentialsNotLoaded|InstanceCredentials|169.254.169.254",
        "no credentials are set",
        _LASTS,
    ),
    ("QuotaExceeded|XMinioStorageFull|507 ", "it is full", not _LASTS),
    ("SlowDown|503 |429 ", "it has too much to do", not _LASTS),
    (r"status: 5\d\d|\b5\d\d Internal|InternalError", "it has an error of its own", not _LASTS),
    ("operation timed out|deadline|TimedOut", "it does not answer in time", not _LASTS),
    ("non-partial response", "it does not give parts of an object as S3 does", _LASTS),
    ("certificate", "its certificate is not to be trusted", _LASTS),
    ("dns error|lookup address", "no machine has its name", not _LASTS),
    ("onnect", "it cannot be reached", not _LASTS),
)


class BucketAddress(Struct, frozen=True, kw_only=True):
    """A bucket and how it is reached.

    `links_from` is the address by which clients reach it, if it is another one. Without
    credentials here they are those of the environment, as AWS' own tools find them.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    links_from: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = None

    def __str__(self) -> str:
        return f"s3://{self.bucket}{'/' if self.prefix else ''}{self.prefix}"

    def __repr__(self) -> str:
        return str(self)


class _KnownObject(NamedTuple):
    """An object that was put or compared: its key, version and bytes; when we put it, if we did."""

    key: str
    e_tag: str | None
    size: int
    put_at: float = float("-inf")


def _connect(place: BucketAddress, endpoint: str | None) -> S3Store:
    """Return a client of a bucket; asks nothing."""
    options = {
        "endpoint": endpoint,
        "region": place.region,
        "access_key_id": place.access_key,
        "secret_access_key": place.secret_key,
    }
    try:
        return S3Store(
            place.bucket,
            prefix=place.prefix or None,
            config={name: value for name, value in options.items() if value is not None},  # type: ignore[arg-type]
            client_options={
                "timeout": timedelta(seconds=_REQUEST_S),
                "connect_timeout": timedelta(seconds=5),
                "allow_http": (endpoint or "").startswith("http://"),
            },
            retry_config={
                "max_retries": 4,
                "retry_timeout": timedelta(seconds=_RETRY_S),
                "backoff": {"init_backoff": timedelta(milliseconds=100)},
            },
        )
    except (BaseError, ValueError) as error:
        raise DatabaseError(f"{place}: {_first_line(error)}") from error


class ObjectStore:
    """`Files` in a bucket. Links to its objects may be valid for `links_s` seconds."""

    def __init__(
        self,
        store: S3Store | MemoryStore,
        name: str,
        *,
        signer: S3Store | None = None,
        links_s: float = 0.0,
        steady: Callable[[], float] | None = None,
    ) -> None:
        """`signer` makes links; `steady` returns seconds, also those in which the machine slept."""
        self._store = store
        self._name = name
        self._signer = signer
        self._links_s = links_s
        self._steady = _since_boot_s if steady is None else steady
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _KnownObject] = OrderedDict()
        self._swept_at = float("-inf")
        self._jumps = JumpWatch(self._steady)
        # What went wrong last; None since it works again. While something does, one call at a
        # time finds out whether it still does: the others need not wait for that.
        self._fault: DatabaseError | None = None
        self._trying = threading.Lock()

    @classmethod
    def at(cls, place: BucketAddress, *, links: bool = False) -> ObjectStore:
        """Return the store at a place, which makes `links` or none. Raises DatabaseError."""
        if not links:
            return cls(_connect(place, place.endpoint), str(place))
        signer = _connect(place, place.links_from or place.endpoint)
        store = _connect(place, place.endpoint)
        return cls(store, str(place), signer=signer, links_s=LONGEST_LINK_S)

    @property
    def fault(self) -> str | None:
        """The present fault of the store, as a sentence; None while it works."""
        fault = self._fault
        return None if fault is None else str(fault)

    def open(self) -> None:
        """Ask the store for something. Raises TransientError; DatabaseError for other faults."""
        self._ask(lambda: next(iter(self._store.list("probe", chunk_size=1)), None))

    def put(self, sha256: str, data: bytes | memoryview) -> None:
        """Write a blob, durable when this returns. Raises DatabaseError.

        A blob that this process put recently is not written again.
        """
        check_name(sha256)
        known = self._known.get(sha256)
        if known is not None and self._steady() - known.put_at < _RENEWED_S:
            return
        key = f"{sha256}/{secrets.token_hex(8)}"
        at = self._steady()
        done = self._ask(
            lambda: self._store.put(
                key,
                data,
                attributes=_attributes(data),
                use_multipart=len(data) > PART,
                chunk_size=PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        )
        self._note(sha256, _KnownObject(key, done["e_tag"], len(data), at))

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        """Return `count` bytes from `offset` on (all, if negative), of a blob that is whole.

        Raises FileNotFoundError; BlobDamaged if the bytes do not match the name; DatabaseError.
        """
        check_name(sha256)
        is_whole = offset == 0 and count < 0
        missing = FileNotFoundError(sha256)
        known = self._known.get(sha256)
        if known is not None:
            try:
                if is_whole:
                    return self._read_object(sha256, known.key)
                return self._part(known, offset, count)
            except FileNotFoundError as error:
                missing = error
            except PreconditionError:
                pass  # it is another object now: to be compared again
            self._forget(sha256)
        for key in self._keys(sha256):
            try:
                if is_whole:
                    return self._read_object(sha256, key)
                return self._part(self._compare(sha256, key), offset, count)
            except FileNotFoundError as error:
                missing = error
        raise missing

    def link(self, sha256: str, lasts_s: float) -> str | None:
        """Return an address at which anybody may read a blob for `lasts_s`, a week at most.

        None if the store has no such blob, or makes no links. Raises DatabaseError.
        """
        check_name(sha256)
        signer = self._signer
        if signer is None:
            return None
        known = self._known.get(sha256)
        key = next(iter(self._keys(sha256)), None) if known is None else known.key
        if key is None:
            return None
        lasts = timedelta(seconds=int(max(1.0, min(lasts_s, LONGEST_LINK_S))))
        return self._ask(lambda: obstore.sign(signer, "GET", key, lasts))

    def sweeper(self, older_than_s: float) -> Sweeper:
        """Return a function that deletes older blobs to which nothing refers.

        Their age is by the store's clock, which all bridges share; none is deleted if that was set
        since. Of a blob that is kept and was put again one object stays, and those that links may
        lead to.
        """
        # Else it finds out whether the store works again.
        rests = self._steady() - self._swept_at < _SWEEP_EVERY_S
        if rests and self._fault is None:
            return lambda _: None
        at = self._ask(self._time)
        if rests or self._jumps.since_jump_s(at) <= older_than_s:
            return lambda _: None

        def sweep(keep: Collection[str]) -> None:
            deletable = self._deletable(
                keep, at - older_than_s, at - max(older_than_s, self._links_s)
            )
            while batch := list(_taken(deletable, _MOST_DELETED)):
                self._ask(lambda paths=batch: self._store.delete(paths))  # type: ignore[misc]
            self._swept_at = self._steady()

        return sweep

    def probe(self) -> None:
        """Write something, read it, whole and in part, and delete it. Raises DatabaseError."""
        key, data = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(64)

        def work() -> list[bytes]:
            self._store.put(key, data)
            try:
                found = (self._store.get(key), self._store.get(key, options={"range": (8, 24)}))
                return [each.bytes().to_bytes() for each in found]
            finally:
                self._store.delete(key)

        if self._ask(work) != [data, data[8:24]]:
            raise DatabaseError(f"{self._name}: what was written is not what is read")

    def close(self) -> None:
        """Do nothing: connections end with the process."""

    # What the methods above are made of.

    def _keys(self, sha256: str) -> list[str]:
        """Return the objects of a blob, the newest first."""
        found = self._ask(lambda: [*chain(*self._store.list(sha256))])
        found.sort(key=lambda each: each["last_modified"], reverse=True)
        return [each["path"] for each in found if _OURS.fullmatch(each["path"])]

    def _read_object(self, sha256: str, key: str) -> bytes:
        """Read an object whole, and compare it with its name."""
        whole = io.BytesIO()
        self._compare(sha256, key, whole)
        return whole.getvalue()

    def _part(self, known: _KnownObject, offset: int, count: int) -> bytes:
        """Read from an object that was compared, as long as it is the same one."""
        end = known.size if count < 0 else min(known.size, offset + count)
        if end <= offset:
            return b""

        def work() -> bytes:
            found = self._store.get(
                known.key,
                options={"range": (offset, end), "if_match": known.e_tag},
            )
            return found.bytes().to_bytes()

        return self._ask(work)

    def _compare(self, sha256: str, key: str, into: io.BytesIO | None = None) -> _KnownObject:
        """Compare an object and its name. Raises BlobDamaged, FileNotFoundError, TransientError."""

        def work() -> tuple[str, str | None, int]:
            found = self._store.get(key)
            digest = hashlib.sha256()
            if into is not None:
                into.seek(0)
                into.truncate()
            for step in found.stream(_STEP):
                digest.update(step)
                if into is not None:
                    into.write(step)
            return digest.hexdigest(), found.meta["e_tag"], found.meta["size"]

        digest, e_tag, size = self._ask(work)
        if digest != sha256:
            # Bytes that were damaged on their way must not cost those that are stored.
            if self._ask(work)[0] != digest:
                raise TransientError(
                    f"{self._name}: what is read of blob {sha256} is not the same each time"
                )
            self._remove(sha256, key)
        before = self._known.get(sha256)
        put_at = before.put_at if before is not None and before.key == key else float("-inf")
        return self._note(sha256, _KnownObject(key, e_tag, size, put_at))

    def _remove(self, sha256: str, key: str) -> NoReturn:
        log.error("blob %s is damaged and no longer used; check the store %s", sha256, self._name)
        self._ask(lambda: self._store.delete(key))
        raise BlobDamaged(sha256)

    def _time(self) -> float:
        """Return the store's time, seconds since the epoch, or a moment before."""
        self._store.put("clock", b"what the time is")
        return self._store.head("clock")["last_modified"].timestamp()

    def _deletable(self, keep: Collection[str], before: float, again: float) -> Iterator[str]:
        """Yield the objects to be deleted: put before one time, or put again since before another.

        Both in seconds since the epoch, by the store's clock.
        """
        found = chain.from_iterable(self._store.list(chunk_size=1000))
        ours = (
            (match[1], each)
            for each in self._each(found)
            if (match := _OURS.fullmatch(each["path"])) is not None
        )
        for sha256, objects in groupby(ours, key=lambda each: each[0]):
            ages = sorted((each["last_modified"].timestamp(), each["path"]) for _, each in objects)
            if sha256 in keep:
                del ages[-1]
            limit = again if sha256 in keep else before
            yield from (path for put_at, path in ages if put_at < limit)

    def _each(self, found: Iterator[obstore.ObjectMeta]) -> Iterator[obstore.ObjectMeta]:
        """Yield what a listing does; it asks the store now and then."""
        while (each := self._ask(lambda: next(found, None))) is not None:
            yield each

    def _note(self, sha256: str, known: _KnownObject) -> _KnownObject:
        with self._lock:
            self._known[sha256] = known
            self._known.move_to_end(sha256)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return known

    def _forget(self, sha256: str) -> None:
        with self._lock:
            self._known.pop(sha256, None)

    def _ask(self, work: Callable[[], T]) -> T:
        """Ask the store for something. Raises as its work does, or DatabaseError."""
        fault = self._fault
        if fault is None:
            return self._asked(work)
        if not self._trying.acquire(blocking=False):
            raise TransientError(str(fault))
        try:
            return self._asked(work)
        finally:
            self._trying.release()

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            found = work()
        except PreconditionError:
            raise
        except (BaseError, OSError, ValueError) as error:
            # The library says so of a bucket that is not there as well.
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                self._fault = None
                raise
            log.debug("%s: %s", self._name, error)
            self._fault = fault = _explained(self._name, error)
            # Without the library's own text, which has many lines.
            raise fault from None
        self._fault = None
        return found


def _explained(name: str, error: Exception) -> DatabaseError:
    """Return the error as a sentence: a TransientError if it may pass by itself."""
    text = str(error)
    for pattern, meaning, lasts in _MEANINGS:
        if re.search(pattern, text):
            return (DatabaseError if lasts else TransientError)(f"{name}: {meaning}")
    return TransientError(f"{name}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def _attributes(data: bytes | memoryview) -> dict[str, str]:
    """Return the headers with which a link serves the bytes to a browser."""
    content_type = sniff(data).content_type
    inline = content_type in _SHOWN or content_type.startswith(("audio/", "video/"))
    return {
        "Content-Type": content_type,
        "Content-Disposition": "inline" if inline else "attachment",
    }


def _taken(values: Iterator[T], count: int) -> Iterator[T]:
    for _, value in zip(range(count), values, strict=False):
        yield value


def _since_boot_s() -> float:
    """Return the seconds since the machine's start, those while it slept included."""
    if sys.platform == "win32":
        return time.monotonic()
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
