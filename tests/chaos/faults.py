"""Faults of the parts: each is a coroutine that does its harm and heals it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psycopg

from bridge.aio import first
from bridge.mosquitto import Mosquitto
from tests.chaos.bucket import Bucket
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server
from tests.support.postgresql import PostgreSQL
from tests.support.tcpproxy import TcpProxy

Fault = Callable[[], Awaitable[None]]

# How far the clock of a bridge's process is off, as libfaketime takes it: at a start, and set then.
SHIFTS = ("-2h", "+3h", "+0")
JUMPS = ("+8d", "+30d", "-20y", "+0")
SUBACK, PUBACK = b"\x90", b"\x40"
# What becomes of every request to the bucket while it is away.
OUTAGES = (
    "slow",
    "hang",
    "slow down",
    "internal",
    "full",
    "half request",
    "lost answer",
    "half answer",
)
# How long a bridge that gets SIGTERM waits for what runs.
STOP_S = 5
# A bridge's log line when it finds that the others counted it as dead.
FENCED = "took over from this one"
# So long a request is waited for whose acknowledgement gets lost.
REQUEST_S = 5.0


class Victims:
    """The parts, and the faults that can happen to them."""

    def __init__(
        self,
        *,
        broker: Mosquitto,
        bridges: list[BridgeProcess],
        proxies: list[TcpProxy],
        disk: Path | None,
        server: Server | None,
        database: PostgreSQL | None,
        bucket: Bucket | None,
        faketime: str | None,
        dice: random.Random,
    ) -> None:
        """`disk` is a small file system of the first bridge's, `faketime` a library to preload.

        `server` is a ComfyUI that all bridges are attached to; without it each has its own.
        """
        self.counts: Counter[str] = Counter()
        # How often something ended under jobs, whose end may not have been noted then.
        self._ended = 0
        self.bridges = bridges
        self.bucket = bucket
        self._broker = broker
        self._proxies = proxies
        self._disk = disk
        self._server = server
        self._database = database
        self._faketime = faketime
        self._dice = dice

    @property
    def faults(self) -> dict[str, Fault]:
        """All that can happen here, by name."""
        found: dict[str, Fault] = {
            "bridge killed": self._kill_bridge,
            "bridge frozen": self._freeze_bridge,
            "bridge stopped": self._stop_bridge,
            "comfyui killed": self._kill_comfyui,
            "comfyui frozen": self._freeze_comfyui,
            "broker killed": self._kill_broker,
            "broker frozen": self._freeze_broker,
            "connections cut": self._cut,
            "link stalled": self._stall,
            "suback late": self._delay_suback,
            "puback lost": self._lose_puback,
            "clock set": self._set_clock,
        }
        if self._disk is not None:
            found["disk full"] = self._fill_disk
        if self._database is not None:
            found["database restarted"] = self._restart_database
            found["intake killed"] = self._kill_intake
        if self.bucket is not None:
            found["bucket away"] = self._disturb_bucket
        return found

    @property
    def deaths(self) -> int:
        """The number of times that jobs at a ComfyUI may have ended with nobody to note it.

        A bridge or ComfyUI was killed, did not stop in time, or had a full disk, or a bridge was
        counted as dead: it was frozen, or could not reach the database for long enough.
        """
        return self._ended + sum(each.log.count(FENCED) for each in self.bridges)

    async def strike(self, name: str) -> None:
        """Cause one fault, and remove it again."""
        self.counts[name] += 1
        await self.faults[name]()

    def _one(self) -> BridgeProcess:
        return self._dice.choice(self.bridges)

    async def _restart(self, bridge: BridgeProcess) -> None:
        if self._faketime is not None:
            shift = self._dice.choice(SHIFTS)
            self.counts["clock shifted"] += shift != "+0"
            fake_clock(bridge, self._faketime, shift)
        await bridge.start(ready=False)

    async def _kill_bridge(self) -> None:
        await self._kill(self._one())

    async def _kill(self, bridge: BridgeProcess) -> None:
        self._ended += 1
        await bridge.kill()
        await self._restart(bridge)

    async def _stop(self, bridge: BridgeProcess) -> None:
        """Stop a bridge; one that has to leave what runs counts as killed."""
        began = time.monotonic()
        await bridge.stop()
        self._ended += time.monotonic() - began >= STOP_S

    async def _kill_intake(self) -> None:
        """Kill the bridge that takes the requests."""
        name = await asyncio.to_thread(self._intake)
        bridge = next((each for each in self.bridges if each.settings["member"] == name), None)
        if bridge is not None:  # else nobody has it: the last one has just been killed
            await self._kill(bridge)

    def _intake(self) -> str | None:
        with psycopg.connect(self.bridges[0].settings["journal"]) as connection:
            found = connection.execute(
                "SELECT members.name FROM intake JOIN members ON members.life = intake.life"
            ).fetchone()
        return None if found is None else str(found[0])

    async def _stop_bridge(self) -> None:
        bridge = self._one()
        await self._stop(bridge)
        await self._restart(bridge)

    async def _freeze_bridge(self) -> None:
        await self._freeze(self._one().pid)

    def _comfyuis(self) -> list[int]:
        if self._server is not None:
            return [self._server.running.pid]
        return comfyuis(self._one().pid)

    async def _kill_comfyui(self) -> None:
        self._ended += 1
        for pid in self._comfyuis():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._server is not None:
            await asyncio.to_thread(self._server.wait_until_ready)
            # It has another port now, as somebody else's might.
            for bridge in self.bridges:
                bridge.settings["comfyui_url"] = self._server.url
                await self._stop(bridge)
                await bridge.start(ready=False)

    async def _freeze_comfyui(self) -> None:
        for pid in self._comfyuis():
            await self._freeze(pid)

    async def _restart_database(self) -> None:
        assert self._database is not None
        await asyncio.to_thread(self._database.stop, signal.SIGQUIT)
        await asyncio.to_thread(self._database.start, durable=True)

    async def _disturb_bucket(self) -> None:
        assert self.bucket is not None
        self.bucket.proxy.always = self._dice.choice(OUTAGES)
        await asyncio.sleep(self._dice.uniform(0.5, 6.0))
        if self._dice.random() < 0.5:
            await self.strike("bridge killed")
        self.bucket.proxy.always = None

    async def _freeze(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            # Up to longer than a lease lasts.
            await asyncio.sleep(self._dice.uniform(0.5, 3.0 if self._server is None else 6.0))
            os.kill(pid, signal.SIGCONT)

    async def _kill_broker(self) -> None:
        await self._broker.kill()
        await self._broker.start()

    async def _freeze_broker(self) -> None:
        assert self._broker.pid is not None
        await self._freeze(self._broker.pid)

    async def _cut(self) -> None:
        for proxy in self._proxies:
            proxy.close()
        await asyncio.sleep(self._dice.uniform(0.1, 1.0))
        for proxy in self._proxies:
            proxy.open()

    async def _stall(self) -> None:
        """Block one bridge's connection to the broker, while the others' continue."""
        proxy = self._dice.choice(self._proxies)
        proxy.stall()
        await asyncio.sleep(self._dice.uniform(0.5, 5.0))
        proxy.flow()

    async def _delay_suback(self) -> None:
        """Let one bridge reconnect, and get its SUBACK late, or not before it is cut again."""
        proxy = self._dice.choice(self._proxies)
        proxy.hold_answers(SUBACK)
        proxy.cut()
        await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        if self._dice.random() < 0.5:
            proxy.cut()
        proxy.release()

    async def _lose_puback(self) -> None:
        """Cut bridges off as they acknowledge a request, which comes again: to another, perhaps."""
        for proxy in self._proxies:
            proxy.swallow_request(PUBACK, times=self._dice.randrange(1, 4))
        with suppress(TimeoutError):
            async with asyncio.timeout(REQUEST_S):
                await first(*(proxy.was_closed() for proxy in self._proxies))
        if self._dice.random() < 0.5:
            await self.strike("bridge killed")
        for proxy in self._proxies:
            proxy.pass_requests()

    async def _set_clock(self) -> None:
        """Set the clock of a bridge that runs; it stays so until the next start."""
        if self._faketime is not None:
            _clock_file(self._one()).write_text(self._dice.choice(JUMPS))

    async def _fill_disk(self) -> None:
        assert self._disk is not None
        self._ended += 1
        filler = self._disk / "filler"
        with suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(65536))
                file.flush()
        await asyncio.sleep(self._dice.uniform(0.5, 3.0))
        filler.unlink()


def fake_clock(bridge: BridgeProcess, library: str, shift: str = "+0") -> None:
    """Let a file say by how much the clock of a bridge is off, from its next start on."""
    file = _clock_file(bridge)
    file.write_text(shift)
    bridge.environment = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _clock_file(bridge: BridgeProcess) -> Path:
    return bridge.folder / "clock"


def comfyuis(bridge: int) -> list[int]:
    """The ComfyUIs below a bridge: what its guards started."""
    return [
        child
        for guard in _children(bridge)
        if b"subreaper.py" in _command(guard)
        for child in _children(guard)
    ]


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
