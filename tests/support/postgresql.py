"""A PostgreSQL of the tests' own, on a free port of loopback, with databases for single tests."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

INSTALL = Path(__file__).with_name("install-postgresql")
_START_TIMEOUT_S = 30
# Nobody's data: a start in a second counts for more than a power cut. `fsync` stays on where a
# test is about what a killed server still has.
_FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")
# After a crash each of a thousand files is synced, unless it may be the whole file system, at once.
# From PostgreSQL 14 on, on Linux.
_SYNC_ALL = ("-c", "recovery_init_sync_method=syncfs")
_SMALL = ("-c", "shared_buffers=16MB", "-c", "max_connections=60", "-c", "log_min_messages=fatal")


class PostgreSQL:
    """One server; it refuses to run as root, so that it becomes nobody then."""

    def __init__(self, folder: Path, port: int, *, by_socket: bool = False) -> None:
        """`by_socket`: its addresses are those of a Unix socket, not of loopback."""
        self.folder = folder
        self.port = port
        self._by_socket = by_socket
        self._programs = Path(
            subprocess.run(
                [str(INSTALL)], check=True, stdout=subprocess.PIPE, text=True
            ).stdout.strip()
        )
        self._recovery = _SYNC_ALL if sys.platform == "linux" and self._version() >= 14 else ()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "server.log"

    def _version(self) -> int:
        """Return the first number of "postgres (PostgreSQL) 15.10 (...)"."""
        told = subprocess.run(
            [str(self._programs / "postgres"), "--version"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        return int(re.findall(r"\) (\d+)", told)[0])

    def make(self) -> None:
        """Make its data."""
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        options = ("--username=tests", "--auth=trust", "--no-sync", "--no-instructions")
        subprocess.run(
            [*_as_nobody(), str(self._programs / "initdb"), *options, str(self.folder / "data")],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env=_environment(),
        )

    def start(self, *, durable: bool = False, options: Sequence[str] = ()) -> None:
        """Start it, and wait until it takes connections; again after `stop`.

        `options` are further words of its command line: later ones count.

        It ends with the thread that started it: not in one of a pool.
        """
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *_as_nobody(),
                    *(str(self._programs / "postgres"), "-D", str(self.folder / "data")),
                    *("-h", "127.0.0.1", "-p", str(self.port)),
                    # Below its data, whose folder it works in.
                    *("-k", "." if self._by_socket else ""),
                    *(*(() if durable else _FAST), *_SMALL, *self._recovery, *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_environment(),
                process_group=0,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.address("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self._log.read_text()) from None
                time.sleep(0.02)  # it tells nobody when it is ready
            else:
                return

    def stop(self, how: int = signal.SIGINT) -> None:
        """End it; SIGINT cuts all connections, SIGQUIT leaves it to recover like a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_START_TIMEOUT_S)
            self._process = None

    def freeze(self) -> None:
        """Stop all its processes where they are: connections stay, and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def pids(self) -> list[int]:
        """Return its processes: the first makes the others, each a session of its own."""
        if self._process is None:
            return []
        first = self._process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text()
        return [first, *map(int, children.split())]

    def address(self, database: str) -> str:
        if self._by_socket:
            where = quote(str(self.folder / "data"), safe="")
            return f"postgresql://tests@{where}:{self.port}/{database}"
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a database, gone at the end; gives its address."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.address(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_postgresql(
    parent: Path | None = None,
    *,
    durable: bool = False,
    by_socket: bool = False,
    options: Sequence[str] = (),
) -> Iterator[PostgreSQL]:
    """Run a server; its files lie in a folder below `parent` that everybody may enter."""
    # Not below pytest's folder: that is root's alone.
    folder = Path(tempfile.mkdtemp(prefix="comfy2mqtt-postgresql-", dir=parent))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = PostgreSQL(folder, port, by_socket=by_socket)
    try:
        server.make()
        server.start(durable=durable, options=options)
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # at once: nobody reads its files again
        shutil.rmtree(folder, ignore_errors=True)


def _as_nobody() -> tuple[str, ...]:
    """Return the words before a command that is not for root, and that ends with us."""
    ends = ("setpriv", "--pdeathsig", "INT")
    if os.geteuid() != 0:
        return ends if shutil.which("setpriv") else ()
    nobody = pwd.getpwnam("nobody")
    return (*ends, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
