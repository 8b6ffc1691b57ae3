"""Models are fetched whole, by TLS, from hosts of a list, and continued after a break."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web

from bridge.contract.errors import BridgeError, DependencyFailed, Forbidden
from bridge.media import model_files
from bridge.media.model_files import FetchedModel, ModelSource, fetch
from tests.support.certificate import make_certificate

DATA = os.urandom(3 * 2**20 + 17)
SHA = hashlib.sha256(DATA).hexdigest()
HOSTS = ("localhost",)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Host:
    """A server with a certificate of its own; `ranges` are those that it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = make_certificate(folder), folder / "key.pem"
        self.context = ssl.create_default_context(cafile=self.cert)
        self.ranges: list[str | None] = []
        self.handler: Handler = self.whole
        self.etag: str | None = '"v1"'
        self.linked: str | None = None
        self.data = DATA
        self.breaks_after: int | None = None
        self.port = 0

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.ranges.append(request.headers.get("Range"))
        return await self.handler(request)

    async def whole(self, request: web.Request) -> web.StreamResponse:
        """Send the file from the requested byte on, and break off at the configured place."""
        begin = 0
        wanted = request.headers.get("Range")
        if wanted and request.headers.get("If-Range") == self.etag:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
        headers = {} if self.etag is None else {"ETag": self.etag}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}"
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        response.content_length = len(self.data) - begin
        await response.prepare(request)
        end = len(self.data) if self.breaks_after is None else begin + self.breaks_after
        await response.write(self.data[begin:end])
        if end < len(self.data) and request.transport is not None:
            await asyncio.sleep(0.01)  # what was not read by then is lost with the connection
            request.transport.abort()
        return response

    def redirecting(self, to: str, **headers: str) -> Handler:
        async def redirect(request: web.Request) -> web.StreamResponse:
            if request.path == "/there":
                return await self.whole(request)
            return web.Response(status=302, headers={"Location": to, **headers})

        return redirect

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/models/a.safetensors"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    app = web.Application()
    app.router.add_get("/{tail:.*}", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    await runner.cleanup()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_files, "_FIRST_PAUSE_S", 0.001)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "vae" / "a.safetensors"


async def get(
    host: Host, target: Path, *, sha256: str | None = None, url: str = ""
) -> FetchedModel:
    def progress(_here: int, _total: int | None) -> None: ...

    return await fetch(
        ModelSource(url or host.url, sha256), target, HOSTS, progress, context=host.context
    )


def content(target: Path) -> bytes:
    return target.read_bytes()


def put(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def left(target: Path) -> list[str]:
    return sorted(each.name for each in target.parent.iterdir()) if target.parent.exists() else []


async def test_a_file_is_fetched_and_checked_with_its_progress(host: Host, target: Path) -> None:
    heard: list[tuple[int, int | None]] = []
    source = ModelSource(host.url, SHA)
    fetched = await fetch(
        source, target, HOSTS, lambda *now: heard.append(now), context=host.context
    )
    assert fetched == FetchedModel(len(DATA), SHA, checked=True)
    assert content(target) == DATA
    assert heard[0] == (0, len(DATA))
    assert heard[-1] == (len(DATA), len(DATA))
    assert left(target) == [target.name]


async def test_a_file_whose_hash_nobody_names_says_so(host: Host, target: Path) -> None:
    assert await get(host, target) == FetchedModel(len(DATA), SHA, checked=False)


async def test_a_break_is_gone_on_with_where_it_was(host: Host, target: Path) -> None:
    host.breaks_after = 2**18  # more breaks than attempts that may bring nothing
    await get(host, target, sha256=SHA)
    assert content(target) == DATA
    assert host.ranges[0] is None
    assert all(each is not None for each in host.ranges[1:])


async def test_what_was_cancelled_is_gone_on_with_the_next_time(host: Host, target: Path) -> None:
    reached = asyncio.Event()
    source = ModelSource(host.url, SHA)
    never = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"v1"'})
        response.content_length = len(DATA)
        await response.prepare(request)
        await response.write(DATA[: 2**20])
        await never.wait()
        return response

    def progress(here: int, _total: int | None) -> None:
        if here:
            reached.set()

    host.handler = slow
    fetching = asyncio.create_task(fetch(source, target, HOSTS, progress, context=host.context))
    await reached.wait()
    with pytest.raises(DependencyFailed, match="another process"):
        await get(host, target)
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    assert f"{target.name}.part" in left(target)
    host.handler = host.whole
    await get(host, target, sha256=SHA)
    assert (host.ranges[-1] or "").startswith("bytes=")
    assert content(target) == DATA
    never.set()


@pytest.mark.parametrize("etag", ['"v2"', 'W/"v1"', None])
async def test_another_file_at_the_server_is_begun_again(
    host: Host, target: Path, etag: str | None
) -> None:
    part = target.with_name(f"{target.name}.part")
    put(part, b"of another time")
    put(part.with_name(f"{part.name}.etag"), b'"v1"')
    host.etag = etag
    await get(host, target, sha256=SHA)
    assert content(target) == DATA


async def test_a_kill_leaves_no_bytes_of_one_file_under_the_etag_of_another(
    host: Host, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = target.with_name(f"{target.name}.part")
    put(part, b"of another time")
    put(part.with_name(f"{part.name}.etag"), b'"v0"')
    beside: list[bytes] = []

    def note(at: Path, etag: str) -> None:
        model_files._etag_file(at).write_text(etag)
        beside.append(at.read_bytes())

    monkeypatch.setattr(model_files, "_note", note)
    await get(host, target)
    assert beside == [b""]


async def test_wrong_bytes_are_deleted_and_reported(host: Host, target: Path) -> None:
    with pytest.raises(DependencyFailed, match=r"not the right one: its SHA-256 is"):
        await get(host, target, sha256="0" * 64)
    assert left(target) == []
    host.data = b""
    with pytest.raises(DependencyFailed, match="it is empty"):
        await get(host, target)
    assert left(target) == []


async def test_the_hash_that_a_redirect_names_is_checked(host: Host, target: Path) -> None:
    host.handler = host.redirecting("/there", **{"X-Linked-ETag": f'"{SHA}"'})
    assert (await get(host, target)).checked
    host.handler = host.redirecting("/there", **{"X-Linked-ETag": f'"{"1" * 64}"'})
    with pytest.raises(DependencyFailed, match="not the right one"):
        await get(host, target.with_name("b.safetensors"))


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/a",
        "https://127.0.0.1:{port}/a",
        "https://elsewhere.example/a",
        "https://localhost.example/a",
        "https://evil-localhost/a",
        "https://localhost@elsewhere.example/a",
        "ftp://localhost/a",
    ],
)
async def test_only_https_of_the_listed_hosts_is_asked(host: Host, target: Path, url: str) -> None:
    with pytest.raises(Forbidden) as refused:
        await get(host, target, url=url.format(port=host.port))
    assert refused.value.details["setting"] == "model_hosts"
    assert host.ranges == []


@pytest.mark.parametrize(
    "url", ["https://[x", "https://localhost:x/a", "https://localhost:70000/a"]
)
async def test_what_is_no_url_is_refused_also_at_a_redirect(
    host: Host, target: Path, url: str
) -> None:
    with pytest.raises(DependencyFailed, match="https://"):
        await get(host, target, url=url)
    host.handler = host.redirecting(url)
    with pytest.raises(DependencyFailed, match="https://"):
        await get(host, target)


@pytest.mark.parametrize("to", ["http://localhost:{port}/there", "https://127.0.0.1:{port}/there"])
async def test_a_redirect_leads_neither_to_http_nor_inside(
    host: Host, target: Path, to: str
) -> None:
    host.handler = host.redirecting(to.format(port=host.port))
    with pytest.raises(Forbidden):
        await get(host, target)
    assert len(host.ranges) == 1


async def test_redirects_end(host: Host, target: Path) -> None:
    host.handler = host.redirecting("/again")
    with pytest.raises(DependencyFailed, match="redirects"):
        await get(host, target)


@pytest.mark.parametrize(
    ("status", "said"), [(404, "404"), (401, "wants an account"), (500, "500")]
)
async def test_a_server_that_does_not_give_it_is_named(
    host: Host, target: Path, status: int, said: str
) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    host.handler = refuse
    with pytest.raises(DependencyFailed, match=said):
        await get(host, target)


async def test_a_certificate_that_nobody_vouches_for_is_refused(host: Host, target: Path) -> None:
    with pytest.raises(BridgeError, match="certificate"):
        await fetch(ModelSource(host.url), target, HOSTS, lambda *_: None)
    assert host.ranges == []


async def test_a_server_that_always_breaks_is_given_up_and_what_is_here_is_kept(
    host: Host, target: Path
) -> None:
    host.breaks_after = 0
    with pytest.raises(DependencyFailed, match="5 times"):
        await get(host, target)


async def test_a_server_that_breaks_and_cannot_go_on_is_given_up(host: Host, target: Path) -> None:
    host.etag, host.breaks_after = None, 2**20
    with pytest.raises(DependencyFailed, match="5 times"):
        await get(host, target)
    assert len(host.ranges) == 5


async def test_too_little_disk_space_is_reported_before_it_is_filled(
    host: Host, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    with pytest.raises(DependencyFailed, match="GB are free"):
        await get(host, target)
    assert model_files.MAX_REDIRECTS == 5


async def test_a_file_that_came_meanwhile_is_left_alone(host: Host, target: Path) -> None:
    put(target, b"the user's")
    with pytest.raises(DependencyFailed, match="is there already"):
        await get(host, target)
    assert content(target) == b"the user's"
