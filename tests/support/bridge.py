"""The bridge as its users run it: `comfy2mqtt serve`, a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.support.patience import PATIENCE_S
from tests.support.peer import Message, Peer

ROOT = Path(__file__).parents[2]
READY_S = 120.0


class BridgeProcess:
    """Settings are given by their names: `BridgeProcess(folder, mqtt_url=..., comfyui_url=...)`."""

    def __init__(self, folder: Path, *, watched_at: str | None = None, **settings: Any) -> None:
        """`watched_at`: a broker's address where it is waited for, if that is not its own."""
        self.folder = folder
        self.workflows = folder / "workflows"
        self.workflows.mkdir(parents=True, exist_ok=True)
        self.settings: dict[str, Any] = {
            "workflows": self.workflows,
            "data": folder / "data",
            "log_level": "debug",
            **settings,
        }
        # More variables for its process, from the next start on.
        self.environment: dict[str, str] = {}
        self._watched_at = watched_at
        self._process: asyncio.subprocess.Process | None = None
        self._log = folder / "bridge.log"

    @property
    def command(self) -> Sequence[str]:
        return (sys.executable, "-W", "error", "-m", "bridge", "serve")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """True if it is gone, though nobody here has ended it."""
        return self._process is not None and self._process.returncode is not None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            if self._process is not None:
                await self.kill()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            await self.stop()
        if kind is not None:
            sys.stderr.write(self.log[-8000:])

    async def start(self, *, ready: bool = True) -> None:
        """Start it, and wait until it is online and its ComfyUI can be used."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("COMFY2MQTT_")
        }
        for name, value in self.settings.items():
            text = json.dumps(value) if isinstance(value, dict | list) else str(value)
            environment[f"COMFY2MQTT_{name.upper()}"] = text
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env={**environment, "PYTHONPATH": str(ROOT), **self.environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if ready:
            await self.ready()

    async def ready(self, *states: str, comfyui: str = "+") -> None:
        """Wait until it is online, and a ComfyUI of it in one of `states` (ready or busy)."""
        states = states or ("ready", "busy")
        base = self.settings.get("base_topic", "comfy2mqtt")
        async with Peer(self._broker(), version=4, base=base) as peer:  # any broker takes that
            await peer.subscribe(f"{base}/bridge/#")
            waiting = asyncio.create_task(
                self._wait_ready(peer, f"{base}/bridge", comfyui, states), name="ready"
            )
            assert self._process is not None
            ended = asyncio.create_task(self._process.wait())
            await asyncio.wait((waiting, ended), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                raise AssertionError(f"the bridge ended:\n{self.log}")
            ended.cancel()
            await waiting

    def _broker(self) -> str:
        """Return the broker's address with the password in it, as a peer wants it."""
        url: str = self._watched_at or self.settings["mqtt_url"]
        if "mqtt_password_file" not in self.settings:
            return url
        password = Path(self.settings["mqtt_password_file"]).read_text().strip()
        return url.replace("@", f":{quote(password, safe='')}@")

    async def _wait_ready(
        self, peer: Peer, bridge: str, comfyui: str, states: tuple[str, ...]
    ) -> None:
        await peer.next(f"{bridge}/state", lambda message: message.payload == b"online", READY_S)

        # The broker may retain a state from the process before, and give it first. That of this
        # process is published before "online".
        def is_now(message: Message) -> bool:
            newest: Message = peer.all(message.topic)[-1]
            return message is newest and message.json["state"] in states

        await peer.next(f"{bridge}/comfyui/{comfyui}", is_now, READY_S)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """End it as a service manager does; returns its exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        if process.returncode is None:
            process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            return await process.wait()

    async def wait(self) -> int:
        """Wait until it ends by itself; returns its exit status."""
        assert self._process is not None
        async with asyncio.timeout(PATIENCE_S):
            status = await self._process.wait()
        self._process = None
        return status

    def add_workflow(self, name: str, graph: dict[str, Any]) -> None:
        (self.workflows / f"{name}.json").write_text(json.dumps(graph))
