"""A mosquitto of one's own, on loopback and a free port, for the demo and the tests.

It runs with the project's settings (mosquitto/comfy2mqtt.conf), keeps its database and its log in
a folder that the caller names, and ends with the process that started it, however that ends. It
can be killed and started again on the same port, with the same database: a broker's bad day.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bridge import resources
from bridge.retry import Backoff, retry

if TYPE_CHECKING:
    from types import TracebackType

FILES = resources.folder("mosquitto")
"""The settings, and the script that finds or installs the broker."""

HOST = "127.0.0.1"
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
CONNECT_EVERY_S = 0.02
LAST_LINES = 5


class MosquittoError(RuntimeError):
    """The broker could not be found, or did not start; the text ends with what it said."""


class Mosquitto:
    """A broker that lives as long as the `async with`; it writes into `folder` and nowhere else."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its address, such as `mqtt://127.0.0.1:41883`; known from the first start on."""
        if self.port is None:
            raise MosquittoError("the broker has not been started: it has no port yet")
        return f"mqtt://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the broker and wait until it takes connections; again after `stop` or `kill`."""
        if self._process is not None:
            raise MosquittoError("the broker runs already")
        program = await find_program("mosquitto")
        self.port = _free_port(self.port or 0)
        configuration = await asyncio.to_thread(self._write_configuration, self.port)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*_ends_with_parent(), program, "-c", str(configuration)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal goes to the whole group; the owner stops it in its turn.
                process_group=0,
            )
        try:
            await self._until_it_answers(self._process, self.port)
        except BaseException:
            await self.kill()
            raise

    async def stop(self) -> None:
        """Stop the broker in order, its database saved; nothing happens if it does not run."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
            self._process = None
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End the broker as a power cut would (SIGKILL); nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    @property
    def _log(self) -> Path:
        return self.folder / "mosquitto.log"

    def _write_configuration(self, port: int) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {port} {HOST}",
            "allow_anonymous true",
            f"persistence_location {self.folder.resolve()}/",
            "log_dest stderr",
            "log_type error",
            "log_type warning",
            "log_type notice",
        ]
        if sys.platform != "win32" and os.geteuid() == 0:
            # It would become the user mosquitto, who may not write into this folder.
            lines.append("user root")
        settings = FILES / "comfy2mqtt.conf"
        if settings.exists():
            # Its lines, not an include_dir: that takes a folder, and all that is in it.
            lines.append(settings.read_text())
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return configuration

    async def _until_it_answers(self, process: asyncio.subprocess.Process, port: int) -> None:
        async def connect() -> None:
            if process.returncode is not None:
                raise MosquittoError(
                    f"mosquitto ended with {process.returncode}: {self._log_text()}"
                )
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            await writer.wait_closed()

        every = Backoff(CONNECT_EVERY_S, CONNECT_EVERY_S)
        try:
            await retry(connect, OSError, backoff=every, within_s=START_TIMEOUT_S)
        except OSError as error:
            raise MosquittoError(
                f"mosquitto takes no connection on {HOST}:{port} after {START_TIMEOUT_S:.0f} s: "
                f"{self._log_text()}"
            ) from error

    def _log_text(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])


async def find_program(name: str) -> str:
    """Return the path of `mosquitto`, or of its `_pub`, `_sub` or `_passwd`.

    In a checkout mosquitto/install finds it, or installs it; what it does goes to standard error.
    Raises MosquittoError when there is none.
    """
    script = FILES / "install"
    if not script.exists():
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            raise MosquittoError(f"there is no {name} on the PATH: install mosquitto")
        return found
    process = await asyncio.create_subprocess_exec(
        str(script), name, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise MosquittoError(f"{script} found no {name} (exit status {process.returncode})")
    return output.decode().strip()


def _ends_with_parent() -> tuple[str, ...]:
    """Return the words before a command that tie its life to ours, where Linux can do that.

    The kernel sends SIGTERM to the child when its parent is gone, even by SIGKILL, so that the
    broker saves its database. setpriv is of util-linux, which every Debian and Ubuntu has.
    """
    setpriv = shutil.which("setpriv")
    return () if setpriv is None else (setpriv, "--pdeathsig", "TERM")


def _free_port(wanted: int) -> int:
    """Return `wanted`, or any port for 0, after seeing that nobody else would answer there."""
    with socket.socket() as probe:
        # As the broker does it: connections of an earlier one that still linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise MosquittoError(f"port {wanted} cannot be used: {error.strerror}") from error
        port: int = probe.getsockname()[1]
    return port
