"""Fetching a model's file to disk: resumed, checked, and put in place whole or not at all.

For a command of the operator's alone. Only https, only hosts of a list, and at redirects besides
those only public addresses. What is there of an earlier try is kept beside the file's place as
`<name>.part`, with the server's ETag in `<name>.part.etag`: it is continued only if the server
still has the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import ssl
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from msgspec import Struct
from yarl import URL

from bridge.contract.errors import BridgeError, DependencyFailed, Forbidden
from bridge.media.download import AllowedHosts, guarded_session
from bridge.retry import Backoff
from bridge.text import in_quotes, problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_REDIRECTS = 5
_STEP = 2**20
_CONNECT_S = 30.0
# A server that sends nothing for this many seconds is gone.
_SILENCE_S = 60.0
# How many attempts in a row may fail without a byte; the pauses between them grow.
_ATTEMPTS = 5
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0
_SHA256 = re.compile('(?:W/)?"?(?P<digest>[0-9a-f]{64})"?')
_REDIRECTS = (301, 302, 303, 307, 308)
_RESUMED, _NOTHING_LEFT = 206, 416

# Called with the progress: bytes that are here, and how many there will be, or None.
Progress = Callable[[int, int | None], None]


class ModelSource(Struct, frozen=True):
    """A file's URL, and its SHA-256 in hexadecimal, if that is known."""

    url: str
    sha256: str | None = None


class FetchedModel(Struct, frozen=True):
    """A file that is in place. `checked`: its SHA-256 was known, and is right."""

    size: int
    sha256: str
    checked: bool


class _Interrupted(Exception):
    """The connection broke; another may continue there."""


async def fetch(
    source: ModelSource,
    target: Path,
    hosts: tuple[str, ...],
    progress: Progress,
    *,
    context: ssl.SSLContext | None = None,
) -> FetchedModel:
    """Fetch a file to `target`, which must not be there yet.

    Raises Forbidden for a host that is not of `hosts`, and DependencyFailed for what is no URL, a
    server that does not give it, a full disk, and bytes that are not the right ones; those are
    deleted. Cancelling this keeps what is here.
    """
    _check(_url(source.url), hosts, first=True)
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with _alone(part):
        expected = await _received(source, part, hosts, progress, context)
        return await asyncio.to_thread(_put_in_place, source, part, target, expected)


async def _received(
    source: ModelSource,
    part: Path,
    hosts: tuple[str, ...],
    progress: Progress,
    context: ssl.SSLContext | None,
) -> _Expected:
    """Fetch all of it; a connection that breaks is made again, and continues where it was."""
    pause, attempts = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), 0
    while True:
        before, _ = _here(part)
        try:
            return await _attempt(source, part, hosts, progress, context)
        except _Interrupted as error:
            here, etag = _here(part)
            if etag and here > before:
                pause.reset()
                attempts = 0
            attempts += 1
            if attempts == _ATTEMPTS:
                raise DependencyFailed(
                    f"{_host(source.url)} broke off {_ATTEMPTS} times: {error}; what is here is "
                    "kept, and continued the next time"
                ) from None
        await asyncio.sleep(pause.next())


class _Expected(Struct, frozen=True):
    size: int | None
    sha256: str | None


async def _attempt(
    source: ModelSource,
    part: Path,
    hosts: tuple[str, ...],
    progress: Progress,
    context: ssl.SSLContext | None,
) -> _Expected:
    """Fetch what is not here yet; returns what the server said of the whole."""
    at, linked = URL(source.url), None
    for _ in range(MAX_REDIRECTS + 1):
        _check(at, hosts, first=False)
        reach = AllowedHosts(hosts, "model_hosts")
        here, etag = _here(part)
        headers = {"Range": f"bytes={here}-", "If-Range": etag} if here and etag else {}
        timeout = aiohttp.ClientTimeout(sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
        try:
            async with (
                guarded_session(at.raw_host or "", reach) as session,
                session.get(
                    at,
                    headers=headers,
                    allow_redirects=False,
                    timeout=timeout,
                    ssl=context or True,
                ) as response,
            ):
                # A host such as Hugging Face's says at its redirect what the file will be.
                linked = linked or _digest(response.headers.get("X-Linked-ETag"))
                if response.status in _REDIRECTS and "Location" in response.headers:
                    at = at.join(_url(response.headers["Location"]))
                    continue
                return await _receive(response, part, linked, progress)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None and _is_disk(error):
                raise DependencyFailed(f"{part.name}: {error.strerror}") from None
            if isinstance(error, aiohttp.ClientConnectorCertificateError):
                raise DependencyFailed(f"{at.host}: its certificate is not trusted") from None
            raise _Interrupted(problem_of(error)) from None
    raise DependencyFailed(f"{_host(source.url)}: more than {MAX_REDIRECTS} redirects")


async def _receive(
    response: aiohttp.ClientResponse, part: Path, linked: str | None, progress: Progress
) -> _Expected:
    here, _ = _here(part)
    if response.status == _NOTHING_LEFT:
        return _Expected(None, linked)
    resumed = response.status == _RESUMED
    if not resumed:
        if response.status != 200:  # noqa: PLR2004 - HTTP's
            raise _refused(response)
        here = 0
    elif not (response.headers.get("Content-Range") or "").startswith(f"bytes {here}-"):
        raise DependencyFailed(f"{response.url.host} continues at another byte than was asked for")
    length = response.content_length
    total = None if length is None else here + length
    free = shutil.disk_usage(part.parent).free
    if length is not None and length > free:
        raise DependencyFailed(
            f"{part.name}: {length / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free"
        )
    etag = response.headers.get("ETag") or ""
    progress(here, total)
    with part.open("r+b" if resumed else "wb") as file:
        file.seek(here)
        file.truncate()
        if not resumed:
            # After that: a kill in between must not leave another file's bytes under it. A weak one
            # says nothing about bytes.
            _note(part, "" if etag.startswith("W/") else etag)
        async for step in response.content.iter_chunked(_STEP):
            await asyncio.to_thread(file.write, step)
            here += len(step)
            progress(here, total)
    if total is not None and here < total:
        raise _Interrupted(f"{total - here} bytes are missing")
    return _Expected(total, linked)


def _put_in_place(
    source: ModelSource, part: Path, target: Path, expected: _Expected
) -> FetchedModel:
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        os.fsync(file.fileno())
    wanted = source.sha256 or expected.sha256
    wrong = None
    if wanted is not None and found != wanted:
        wrong = f"its SHA-256 is {found}, not {wanted}"
    elif expected.size is not None and size != expected.size:
        wrong = f"it has {size} bytes, not {expected.size}"
    elif size == 0:
        wrong = "it is empty"
    if wrong is not None:
        _forget(part)
        raise DependencyFailed(
            f"{target.name} from {_host(source.url)} is not the right one: {wrong}"
        )
    _move(part, target)
    _forget(part)
    return FetchedModel(size, found, checked=wanted is not None)


def _move(part: Path, target: Path) -> None:
    """Move a file to its name, never over one that was put there meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise DependencyFailed(f"{target.name} is there already") from None
    except OSError:  # a disk without hard links
        if target.exists():
            raise DependencyFailed(f"{target.name} is there already") from None
        part.rename(target)


def _url(text: str) -> URL:
    try:
        return URL(text)
    except ValueError as error:
        raise DependencyFailed(f"{in_quotes(text)}: {error}") from None


def _check(url: URL, hosts: tuple[str, ...], *, first: bool) -> None:
    """Refuse what is not https, and a first URL whose host is not of the list."""
    host = (url.host or "").lower()
    if url.scheme != "https" or not host or url.user is not None:
        raise Forbidden(f"{host or 'the URL'}: only https", setting="model_hosts")
    known = any(host == each.lower() or host.endswith(f".{each.lower()}") for each in hosts)
    if first and not known:
        raise Forbidden(
            f"{host} is not among the hosts that models may come from: {', '.join(hosts)}",
            setting="model_hosts",
        )


def _refused(response: aiohttp.ClientResponse) -> BridgeError:
    why = "; it wants an account" if response.status in (401, 403) else ""
    return DependencyFailed(f"{response.url.host} answered with status {response.status}{why}")


def _digest(etag: str | None) -> str | None:
    found = _SHA256.fullmatch(etag or "")
    return None if found is None else found["digest"]


def _here(part: Path) -> tuple[int, str]:
    """Return how much of a file is here, and the ETag under which it came."""
    try:
        return part.stat().st_size, _etag_file(part).read_text(encoding="ascii")
    except (OSError, UnicodeError):
        return 0, ""


def _note(part: Path, etag: str) -> None:
    _etag_file(part).write_text(etag if etag.isascii() else "", encoding="ascii")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _etag_file(part).unlink(missing_ok=True)


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _is_disk(error: OSError) -> bool:
    return not isinstance(error, ConnectionError | aiohttp.ClientError)


def _host(url: str) -> str:
    return URL(url).host or "the server"


@contextmanager
def _alone(part: Path) -> Iterator[None]:
    """Keep another process from fetching the same file; it is refused, and does not wait."""
    if sys.platform == "win32":
        yield
        return
    import fcntl  # noqa: PLC0415 - absent on Windows, where this module is still imported

    with part.with_name(f"{part.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DependencyFailed(f"{part.name}: another process is fetching it") from None
        try:
            yield
        finally:
            Path(lock.name).unlink(missing_ok=True)
