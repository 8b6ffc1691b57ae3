"""Sets that collect: their jobs, ended by hand, and what the set has then."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from PIL import Image

from bridge.contract.messages import OutputInfo, encode
from bridge.contract.numbering import Numbered
from bridge.contract.sets import SetResult
from bridge.jobs.job import KeptOutput
from bridge.jobs.queue import Key
from tests.media.images import encoded
from tests.requests.stand import Stand
from tests.requests.test_sets import asked, made, result

Gave = Sequence[tuple[str, str, bytes]]


def image(colour: str, size: tuple[int, int] = (320, 160)) -> Gave:
    return [(f"a {colour}_00001_.png", "image/png", encoded(Image.new("RGB", size, colour)))]


async def ended(
    stand: Stand, set_id: str, index: int, gave: Gave = (), *, state: str = "succeeded"
) -> None:
    """End a job of a set that was made, with its outputs: file name, media type and bytes."""
    key = Key("alice", f"{set_id}-{index}")
    kept, infos = [], []
    for at, (name, content_type, data) in enumerate(gave):
        sha256 = hashlib.sha256(data).hexdigest()
        kept.append(
            KeptOutput(
                index=at, content_type=content_type, sha256=sha256, size=len(data), data=data
            )
        )
        infos.append(
            OutputInfo(
                index=at,
                name="out",
                kind="image",
                content_type=content_type,
                size=len(data),
                sha256=sha256,
                filename=name,
            )
        )
    await stand.journal.finish(
        key,
        state=state,  # type: ignore[arg-type]
        result=Numbered(b'{"outputs": %b, "n": ' % encode(infos), b"}"),
        now=2.0,
        outputs=kept,
        keep_until=9e9,
    )
    stand.dispatcher.ended_elsewhere(key)


async def run(stand: Stand, gave: Sequence[Gave], **fields: Any) -> SetResult:
    """Run a set whose jobs give that; return its result."""
    await asked(stand, set_id="s1", **fields)
    for index, each in enumerate(gave):
        await made(stand, "s1", min(len(gave), index + 2) if index else min(len(gave), 2))
        await ended(stand, "s1", index, each)
    return await result(stand)


async def fetched(stand: Stand, info: OutputInfo) -> bytes:
    data, offset = b"", 0
    while True:
        answer = await stand.ask("fetch", set_id="s1", output=info.index, offset=offset)
        assert answer.error is None
        assert answer.bytes is not None
        part = msgspec.to_builtins(answer.data)
        assert (part["set_id"], "job_id" in part) == ("s1", False)
        data += bytes(answer.bytes.data)
        if "next" not in part:
            assert hashlib.sha256(data).hexdigest() == info.sha256
            return data
        offset = part["next"]
