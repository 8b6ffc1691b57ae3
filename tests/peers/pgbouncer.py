"""PgBouncer before a PostgreSQL of the tests, on a free port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import psycopg

from tests.peers import debian
from tests.support.postgresql import PostgreSQL

_START_TIMEOUT_S = 30


@contextmanager
def pooled(
    server: PostgreSQL, database: str, mode: Literal["session", "transaction"]
) -> Iterator[str]:
    """Run a pooler in a mode; gives the address of a database behind it."""
    package = debian.ensure("pgbouncer")
    with socket.socket() as probe, tempfile.TemporaryDirectory() as name:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        folder = Path(name)
        settings, users = folder / "pgbouncer.ini", folder / "users"
        users.write_text('"tests" ""\n')
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\npool_mode = {mode}\n"
            "max_client_conn = 50\ndefault_pool_size = 20\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        # It refuses to be root, and who it is then may not enter root's cache folder.
        folder.chmod(0o755)
        for file in (settings, users):
            file.chmod(0o644)
        root = shutil.copytree(package, folder / "root", symlinks=True)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(root / "usr/sbin/pgbouncer"), str(settings)],
                env=debian.environment(root),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
            )
        address = f"postgresql://tests@127.0.0.1:{port}/{database}"
        try:
            _until_it_answers(address, process, folder / "log")
            yield address
        finally:
            process.kill()
            process.wait(_START_TIMEOUT_S)


def _until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()) from None
            time.sleep(0.02)  # it tells nobody when it is ready
        else:
            return
