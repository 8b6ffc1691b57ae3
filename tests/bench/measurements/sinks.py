"""Outputs delivered by HTTP, against `curl` with the same files to the same server.

Each is read from the bridge's store, compared with its hash and sent over a connection of its own;
curl sends plain files over one. The server is a process that keeps nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from bridge.contract.messages import OutputInfo
from bridge.jobs.job import Envelope, OutputSink
from bridge.jobs.output_delivery import OutputDelivery
from bridge.media.download import AllowedHosts
from bridge.media.files import Folder
from bridge.sinks.delivery import Deliveries
from tests.bench.delivery import BenchError
from tests.bench.figures import compare, p50
from tests.bench.report import Row
from tests.bench.stand import Measurement, Stand
from tests.jobs.drafts import draft

MB = 1024 * 1024
# How many outputs of how many bytes.
LOADS = ((16, 2 * MB), (4, 64 * MB))


async def measure(stand: Stand) -> list[Row]:
    """Measure each size, in turns."""
    if shutil.which("curl") is None:
        raise BenchError("there is no curl to compare with")
    async with _receiver() as url:
        return [await _compared(stand, url, number, size) for number, size in LOADS]


async def _compared(stand: Stand, url: str, number: int, size: int) -> Row:
    sinks, curls = [], []
    for turn in range(stand.rounds):
        folder = stand.new_folder("sinks")
        files = Folder(folder)
        hashes = await asyncio.to_thread(_written, files, number, size)
        curls.append([await _curl(url, [folder / each for each in hashes])])
        sinks.append([await _delivered(url, files, hashes, size)])
        await asyncio.to_thread(shutil.rmtree, folder)
        stand.tell(f"round {turn + 1}: {sinks[-1][0]:.0f} ms, by curl {curls[-1][0]:.0f} ms")
    return Row.compared(
        f"{number} outputs of {size // MB} MB to an HTTP sink, over curl: an output",
        "ms",
        compare(_of_one(sinks, number), _of_one(curls, number), p50),
    )


def _of_one(times: Sequence[Sequence[float]], number: int) -> list[list[float]]:
    return [[each / number for each in turn] for turn in times]


def _written(files: Folder, number: int, size: int) -> list[str]:
    """Put new outputs into the store; returns their hashes."""
    hashes = []
    for _ in range(number):
        data = os.urandom(size)
        hashes.append(hashlib.sha256(data).hexdigest())
        files.put(hashes[-1], data)
    return hashes


async def _delivered(url: str, files: Folder, hashes: Sequence[str], size: int) -> float:
    """Deliver outputs one after another; return in how many milliseconds."""
    unused = cast("Any", None)
    deliveries = Deliveries(
        check=lambda *_: AllowedHosts(hosts=("127.0.0.1",)),
        read=OutputDelivery(unused, files, unused, None).read,
        folders={},
        publish=unused,
        within_s=60.0,
    )
    began = time.perf_counter()
    for sha256 in hashes:
        job = draft("j1", envelope=Envelope(put=[OutputSink(f"{url}/{sha256}")])).job
        info = OutputInfo(
            index=0, name="out", kind="image", content_type="image/png", size=size, sha256=sha256
        )
        (found,) = await deliveries.deliver(job, [info])
        if found.error:
            raise BenchError(found.error.message)
    took = time.perf_counter() - began
    deliveries.close()
    return took * 1000


async def _curl(url: str, paths: Sequence[Path]) -> float:
    """Send files by one curl; return in how many milliseconds."""
    sent = [argument for path in paths for argument in ("-T", str(path), f"{url}/{path.name}")]
    began = time.perf_counter()
    curl = await asyncio.create_subprocess_exec("curl", "-sSf", *sent)
    if await curl.wait():
        raise BenchError("curl failed")
    return (time.perf_counter() - began) * 1000


@asynccontextmanager
async def _receiver() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.receiver",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


MEASUREMENT = Measurement(
    "sinks", "outputs to an HTTP sink, against curl", measure, comfyui=False, rounds=3
)
