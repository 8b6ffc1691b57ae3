"""Outputs by signed URL, from a bridge that answers as it does on a bad day."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from msgspec import Raw

from bridge.adapters.web import signed_urls
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.requests import PartOf, Reply
from bridge.adapters.web.responses import Streamed
from bridge.adapters.web.signed_urls import SignedUrls
from tests.adapters.web.conftest import LINK_KEY

DATA = bytes(range(256)) * 4
PART = 300
UNREADABLE_PARTS = {
    "other fields": b"{}",
    "deep": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


class Bridge:
    """Answers `fetch` with parts of DATA, but first with what stands in `first`."""

    def __init__(self, *first: str | None) -> None:
        self.first = list(first)
        self.content_type = "image/png"
        self.asked: list[dict[str, Any]] = []

    @asynccontextmanager
    async def listening(self, client: str) -> AsyncIterator[None]:
        assert client == "alice"
        yield

    async def request(
        self, _client: str, verb: str, payload: bytes, part: Callable[[PartOf], None]
    ) -> Reply:
        assert verb == "fetch"
        asked = json.loads(payload)
        self.asked.append(asked)
        what = self.first.pop(0) if self.first else None
        if what == "no bytes":
            return self._answer(asked, lambda _: None)
        if what == "garbage":
            return Reply("error", error=Raw(b"[]"))
        if what in UNREADABLE_PARTS:
            return Reply("ok", data=Raw(UNREADABLE_PARTS[what]))
        if what is not None:
            details = {"retry_after_s": 0.0} if what == "quota_exceeded" else {}
            error = {"code": what, "message": what, "details": details}
            return Reply("error", error=Raw(json.dumps(error).encode()))
        return self._answer(asked, part)

    def _answer(self, asked: dict[str, Any], part: Callable[[PartOf], None]) -> Reply:
        offset = asked["offset"]
        data = DATA[offset : offset + min(asked.get("count", PART), PART)]
        part(PartOf(asked["job_id"], asked["output"], offset, self.content_type, data))
        body = {
            "job_id": asked["job_id"],
            "output": asked["output"],
            "offset": offset,
            "count": len(data),
            "size": len(DATA),
            "sha256": hashlib.sha256(DATA).hexdigest(),
            "content_type": self.content_type,
        }
        return Reply("ok", data=Raw(json.dumps(body).encode()))


async def get(
    bridge: Bridge, method: str = "GET", *, width: str | None = None, **headers: str
) -> web.StreamResponse:
    urls = SignedUrls(cast("Broker", bridge), LINK_KEY, 100.0)
    made = urls.make("alice", "j", 0)
    assert cast("int", made["expires_at"]) > time.time()
    request = make_mocked_request(
        method,
        "/" if width is None else f"/?width={width}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    return await urls.get(str(made["url"]).removeprefix("/o/"), request)


async def body(response: web.StreamResponse) -> bytes:
    assert isinstance(response, Streamed)
    return b"".join([piece async for piece in response.pieces])


async def test_an_output_is_fetched_in_parts_as_it_is_read() -> None:
    bridge = Bridge()
    response = await get(bridge)
    assert (response.status, response.content_length) == (200, len(DATA))
    assert len(bridge.asked) == 1
    assert await body(response) == DATA
    assert [each["offset"] for each in bridge.asked] == [0, 300, 600, 900]


@pytest.mark.parametrize(
    ("range_", "start", "end"),
    [("bytes=0-", 0, 1024), ("bytes=500-899", 500, 900), ("bytes=-1", 1023, 1024)],
)
async def test_a_range_is_fetched_and_nothing_beside_it(range_: str, start: int, end: int) -> None:
    bridge = Bridge()
    response = await get(bridge, range=range_)
    assert response.status == 206
    assert response.headers["Content-Range"] == f"bytes {start}-{end - 1}/1024"
    assert await body(response) == DATA[start:end]
    assert bridge.asked[0]["count"] == 1


@pytest.mark.parametrize("range_", ["bytes=0-1", "bytes=1024-"])
async def test_a_head_is_of_the_whole_output(range_: str) -> None:
    response = await get(Bridge(), "HEAD", range=range_)
    assert (response.status, response.content_length) == (200, len(DATA))
    assert "Content-Range" not in response.headers


async def test_if_range_gives_all_if_the_output_is_another() -> None:
    tag = (await get(Bridge(), "HEAD")).headers["ETag"]
    assert (await get(Bridge(), range="bytes=0-1", if_range=tag)).status == 206
    assert (await get(Bridge(), range="bytes=0-1", if_range='"other"')).status == 200
    assert (await get(Bridge(), if_none_match=f"W/{tag}")).status == 304
    assert (await get(Bridge(), range="bytes=1024-")).status == 416


@pytest.mark.parametrize(
    ("errors", "status", "again"),
    [
        (["busy"], 503, "5"),
        (["quota_exceeded"] * 3, 503, "5"),
        (["no bytes"] * 3, 503, "5"),
        (["unknown_job"], 410, None),
        (["expired"], 410, None),
        (["execution_error"], 502, None),
        (["garbage"], 502, None),
        *(([unreadable], 502, None) for unreadable in UNREADABLE_PARTS),
    ],
)
async def test_what_the_bridge_does_not_give_is_a_status(
    errors: list[str], status: int, again: str | None
) -> None:
    response = await get(Bridge(*errors))
    assert (response.status, response.headers.get("Retry-After")) == (status, again)


@pytest.mark.parametrize("passing", ["quota_exceeded", "no bytes"])
async def test_what_passes_is_asked_again(passing: str) -> None:
    bridge = Bridge(passing, None, passing, passing)
    assert await body(await get(bridge)) == DATA
    assert [each["offset"] for each in bridge.asked] == [0, 0, 300, 300, 300, 600, 900]


async def test_bytes_that_are_lost_on_the_way_end_the_body() -> None:
    response = await get(Bridge(None, None, "expired"))
    assert isinstance(response, Streamed)
    assert await anext(response.pieces) + await anext(response.pieces) == DATA[:600]
    with pytest.raises(signed_urls.NotGiven):
        await anext(response.pieces)


@pytest.mark.parametrize(
    ("content_type", "disposition"),
    [("image/png", "inline"), ("video/mp4", "inline"), ("image/svg+xml", "attachment")],
)
async def test_only_what_runs_nothing_is_shown_in_a_browser(
    content_type: str, disposition: str
) -> None:
    bridge = Bridge()
    bridge.content_type = content_type
    given = (await get(bridge, "HEAD")).headers["Content-Disposition"]
    assert given == f'{disposition}; filename="j-0"'


@pytest.mark.parametrize("width", ["0", "-1", "x", "65536", "9" * 30, "000001" + "9" * 5000, ""])
async def test_a_width_that_is_none_is_refused(width: str) -> None:
    bridge = Bridge()
    assert (await get(bridge, width=width)).status == 400
    assert bridge.asked == []


async def test_a_width_is_passed_on() -> None:
    bridge = Bridge()
    await get(bridge, width="64")
    assert bridge.asked[0]["width"] == 64
