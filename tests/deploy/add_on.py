"""The add-on as Home Assistant's supervisor runs it, in a folder instead of a container.

Its run.py is a process of its own, with the container's paths below the folder. The supervisor is a
server on loopback that answers what run.py asks for; backups are made as the real one makes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

FOLDER = Path(__file__).parents[2] / "docs" / "deploy" / "home-assistant-addon"
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "config.yaml").read_text())
TOKEN = "of-the-test"  # noqa: S105 - of no use elsewhere
# run.py with other places and ports than a container's.
PLACED = """
import importlib.util, pathlib, sys
sys.dont_write_bytecode = True
file, folder, supervisor, port, *words = sys.argv[1:]
spec = importlib.util.spec_from_file_location("run", file)
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)
for name, value in vars(run).items():
    if isinstance(value, pathlib.Path):
        setattr(run, name, pathlib.Path(folder + str(value)))
run.SUPERVISOR, run.INGRESS, run.SUPERVISOR_ADDRESS = supervisor, "127.0.0.1:" + port, "127.0.0.1"
sys.argv[1:] = words
run.main()
"""


@asynccontextmanager
async def supervisor(answer: Any, status: int = 200) -> AsyncIterator[str]:
    """A server that answers as the supervisor, to whoever has the token; yields the address."""

    async def mqtt(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        return web.json_response(answer, status=status)

    app = web.Application()
    app.router.add_get("/services/mqtt", mqtt)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/services/mqtt"
    finally:
        await runner.cleanup()


class AddOn:
    """An installed add-on; `data` and `config` are the container's /data and /config."""

    def __init__(self, folder: Path, supervisor: str, **options: Any) -> None:
        self.folder = folder
        self.data, self.config = folder / "data", folder / "config"
        for each in (self.data, self.config):
            each.mkdir(parents=True, exist_ok=True)
        (self.data / "options.json").write_text(json.dumps({**CONFIG["options"], **options}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._supervisor = supervisor
        self._log = folder / "log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    async def start(self, *words: str, **environment: str) -> asyncio.subprocess.Process:
        """Start run.py, as the container's only program, or with words beside that."""
        kept = {key: value for key, value in os.environ.items() if "COMFY2MQTT_" not in key}
        where = (str(FOLDER / "run.py"), str(self.folder), self._supervisor, str(self.port))
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PLACED, *where, *words),
                env={**kept, "SUPERVISOR_TOKEN": TOKEN, **environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if not words:
            self._process = process
        return process

    async def stop(self) -> int:
        """SIGTERM, as of `docker stop`; returns the exit status."""
        assert self._process is not None
        self._process.terminate()
        async with asyncio.timeout(CONFIG["timeout"]):
            return await self._process.wait()

    async def kill(self) -> None:
        """Kill all that runs in the container, as a power cut does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def backed_up(
        self, target: Path, meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Write what the supervisor's backup has of /data.

        `meanwhile`: it runs, so the supervisor has it prepare; then this is waited for.
        """
        if meanwhile is not None:
            *python, script, word = shlex.split(CONFIG["backup_pre"])
            assert f'CMD ["{python[0]}", "{script}"]' in (FOLDER / "Dockerfile").read_text()
            assert await (await self.start(word)).wait() == 0, self.log
            await meanwhile()
        with tarfile.open(target, "w") as tar:
            await asyncio.to_thread(_add, tar, self.data, "data")
        if meanwhile is not None:
            command, option, path = shlex.split(CONFIG["backup_post"])
            process = await asyncio.create_subprocess_exec(command, option, f"{self.folder}{path}")
            assert await process.wait() == 0

    def restore(self, source: Path) -> None:
        """Put /data back as it is in a backup."""
        shutil.rmtree(self.data)
        with tarfile.open(source) as tar:
            tar.extractall(self.folder)  # noqa: S202 - made here


def _add(tar: tarfile.TarFile, folder: Path, name: str) -> None:
    """Add a folder as the supervisor does: by `securetar`, where one missing file is an error."""
    excluded: Sequence[str] = CONFIG["backup_exclude"]
    tar.add(folder, name, recursive=False)
    for each in folder.iterdir():
        if any(each.match(pattern) for pattern in excluded):
            continue
        if each.is_dir() and not each.is_symlink():
            _add(tar, each, f"{name}/{each.name}")
        else:
            tar.add(each, f"{name}/{each.name}", recursive=False)
