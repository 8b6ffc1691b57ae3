"""The siege: `python -m tests.siege [FLOOD ...]`, all by default.

One client floods a bridge in each way that was found to stop others, while another client, an
honest one, measures how long an answer takes. Everything is real and on the loopback: broker,
ComfyUI, bridge; each flood lasts some seconds. It comes twice, first to a process that takes it and
does nothing: what that costs the honest client is the machine's and the broker's. Prints a Markdown
table, and exits with 1 where memory was kept, or where the honest client's p95 was, three times in
a row, more than twice what it is without the bridge's part.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import aiohttp
import click
from msgspec.structs import asdict, replace

from bridge.adapters.web.keyring import Keyring
from bridge.mosquitto import Mosquitto
from tests.bench.machine import describe
from tests.bench.processes import memory
from tests.end_to_end import graphs
from tests.siege.figures import Finding, put, table
from tests.siege.floods import BY_WEB, CLIENT, FLOODS, NEEDS_ANSWERS, Given
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server, supervised
from tests.support.peer import Peer

ALONE_S = 4.0
FLOOD_S = 8.0
# Until what a flood began is over: answers that come late, memory that is given back.
SETTLE_S = 3.0
PAUSE_S = 0.02
# So often a flood comes before it is sure that it is too much.
TRIES = 3
LARGE = 4096
BASE = "comfy2mqtt"
NOBODYS = "nobody"

Ask = Callable[[], Awaitable[None]]


@click.command()
@click.argument("floods", nargs=-1, type=click.Choice(list(FLOODS)))
@click.option("--write", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(floods: Sequence[str], write: Path | None) -> None:
    """Besiege a bridge; `--write` puts the table into a page."""
    with tempfile.TemporaryDirectory() as folder:
        findings = asyncio.run(_besieged(Path(folder), list(floods) or list(FLOODS)))
    click.echo(table(findings))
    if write is not None:
        machine = asyncio.run(describe(None))
        where = f"{machine.processor}, {machine.cores} cores, {machine.load:.1f} tasks runnable"
        about = f"Measured by `make siege`: {where}.\n\n{table(findings)}"
        write.write_text(put(write.read_text(), about))
    sys.exit(not all(each.held for each in findings))


async def _besieged(folder: Path, names: Sequence[str]) -> list[Finding]:
    server = Server(supervised(), folder / "comfyui")
    server.start()
    try:
        async with Mosquitto(folder / "mosquitto") as broker:
            return await _with(folder, server, broker, names)
    finally:
        server.stop()


async def _with(
    folder: Path, server: Server, broker: Mosquitto, names: Sequence[str]
) -> list[Finding]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = folder / "keys.json"
    _, key = Keyring(keys).add(CLIENT, "", time.time())
    bridge = BridgeProcess(
        folder / "bridge",
        mqtt_url=broker.url,
        comfyui_url=server.url,
        comfyui_secret=server.secret,
        log_level="warning",
        clients={"*": {"inline": True}},
        websocket_listen=f"127.0.0.1:{port}",
        websocket_keys=keys,
    )
    for name, graph in (("colour", graphs.colour()), ("echo", graphs.echo())):
        bridge.add_workflow(name, graph)
    async with (
        bridge,
        Peer(broker.url, client="bob") as bob,
        Peer(broker.url, client=CLIENT) as mallory,
        aiohttp.ClientSession() as web,
    ):
        bob.without_delay()
        await bob.listen()
        await mallory.listen()
        await mallory.ask(
            "submit", {"workflow": "colour", "job_id": "j", "inputs": {"size": LARGE}}
        )
        await mallory.result("j")
        given = Given(broker.url, BASE, port, key, "j")

        async def by_mqtt() -> None:
            bob.forget()
            await bob.ask("submit", {"workflow": "colour", "dry_run": True})

        async def by_web() -> None:
            async with web.get(f"http://127.0.0.1:{port}/", headers={"Connection": "close"}) as got:
                await got.read()

        found = []
        for name in names:
            click.echo(f"{name} ...", err=True)
            ask = by_web if name in BY_WEB else by_mqtt
            found.append(await tried(partial(_one, name, given, ask, bridge.pid)))
        return found


async def tried(measure: Callable[[], Awaitable[Finding]]) -> Finding:
    """Measure again where answers took long: what else the machine does passes."""
    for _ in range(TRIES - 1):
        found = await measure()
        if found.served or found.kept:
            return found
    return await measure()


async def _one(name: str, given: Given, ask: Ask, pid: int) -> Finding:
    """Measure alone, beside a flood that goes elsewhere, and beside one to the bridge."""
    alone = await _measured(ask, time.monotonic() + ALONE_S)
    past = None
    if name not in NEEDS_ANSWERS:
        async with _idle(given) as elsewhere:
            past, _ = await _beside(name, elsewhere, ask, lambda: None)
        await asyncio.sleep(SETTLE_S)
    before = highest = memory(pid).resident

    def look() -> None:
        nonlocal highest
        highest = max(highest, memory(pid).resident)

    meanwhile, output = await _beside(name, given, ask, look)
    await asyncio.sleep(SETTLE_S)
    after = memory(pid).resident
    about = (FLOODS[name].__doc__ or name).rstrip(".")
    return Finding(about, output, alone, past, meanwhile, before, highest, after)


@asynccontextmanager
async def _idle(given: Given) -> AsyncIterator[Given]:
    """Start a process that accepts a flood and does nothing; yields the way to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    elsewhere = replace(given, base=NOBODYS, port=port)
    idle = await _start("idle", elsewhere)
    try:
        yield elsewhere
    finally:
        idle.kill()
        await idle.wait()


async def _start(name: str, given: Given) -> asyncio.subprocess.Process:
    """Start a process of `tests.siege.floods`, and wait until it begins."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.siege.floods", name, str(FLOOD_S)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(given)).encode())
    process.stdin.write_eof()
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def _beside(
    name: str, given: Given, ask: Ask, look: Callable[[], None]
) -> tuple[list[float], str]:
    """Measure while a flood lasts, and look often; returns what was measured, and what it sent."""
    flood = await _start(name, given)
    sent = asyncio.create_task(flood.communicate())
    measuring = asyncio.create_task(_measured(ask, time.monotonic() + FLOOD_S))
    try:
        while not (sent.done() and measuring.done()):
            look()
            await asyncio.wait((sent, measuring), timeout=0.1)
    finally:
        with suppress(ProcessLookupError):
            flood.kill()
    output, _ = await sent
    return await measuring, output.decode().strip()


async def _measured(ask: Ask, until: float) -> list[float]:
    """Return how long each answer took, one after another until a time."""
    took = []
    while time.monotonic() < until:
        began = time.perf_counter()
        await ask()
        took.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_S)
    return took


if __name__ == "__main__":
    main()
