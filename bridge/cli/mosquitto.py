"""`comfy2mqtt mosquitto`: a mosquitto that knows its users and confines them, as files for it.

    comfy2mqtt.conf         what the bridge asks of a broker: packets, queues, persistence
    comfy2mqtt-access.conf  where it listens, and that nobody comes in without a password
    comfy2mqtt.acl          who may publish and read which topic
    comfy2mqtt.passwords    the users, their passwords hashed

A file that is there is left as it is. A password that is drawn here is shown once and kept nowhere.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from msgspec import Struct

from bridge.atomicfile import replacing
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.config import Config
from bridge.contract import access
from bridge.contract.access import ForeignTopics, Role
from bridge.contract.broker_files import BROKERS, Broker
from bridge.contract.topics import ID_RULE, Topics, is_id
from bridge.mosquitto import FILES, MosquittoError, find_program
from bridge.requests.permissions import Permissions

# Who is there from the start; a name and its role.
USERS: tuple[tuple[str, Role], ...] = (
    ("comfy2mqtt", "bridge"),
    ("comfy2mqtt-web", "adapter"),
    ("homeassistant", "homeassistant"),
    ("operator", "operator"),
)
_SETTINGS = "comfy2mqtt.conf"
_ACCESS = "comfy2mqtt-access.conf"
_ACL = "comfy2mqtt.acl"
_PASSWORDS = "comfy2mqtt.passwords"
# Debian's user, who has to be able to read them; later versions want nobody else to.
_OWNER = "mosquitto"
_PASSWORD_BYTES = 24
_PRIVATE = 0o600


class BrokerListeners(Struct, frozen=True):
    """The broker's listeners: on loopback, and with a certificate on the network, by TLS."""

    port: int = 1883
    tls_port: int = 8883
    certificate: Path | None = None
    key: Path | None = None


class _Hashed(Struct, frozen=True):
    """A user, with the password and its line in the broker's file."""

    user: str
    password: str
    line: str


async def set_up(settings: Config, folder: Path, listeners: BrokerListeners) -> int:
    """Write all files, and show the passwords of the users that are made."""
    if (listeners.certificate is None) != (listeners.key is None):
        stop("--certificate and --key: give both or none", WRONG_USAGE)
    hashed = await _hashed({user: secrets.token_urlsafe(_PASSWORD_BYTES) for user, _ in USERS})
    with _failing(folder):
        _write_settings(settings, folder, listeners)
        known = {_user(line) for line in _lines(folder)}
        new = [each for each in hashed if each.user not in known]
        _keep(folder, new)
    _show(new)
    click.echo("Restart mosquitto, then: comfy2mqtt mosquitto add-user NAME, for each client.")
    return 0


async def add_user(
    settings: Config, folder: Path, user: str, role: Role | None, *, given: bool
) -> int:
    """Add a user, or give one a new password: `given` on standard input, or drawn and shown."""
    if not is_id(user):
        stop(f"{user!r}: expected {ID_RULE}", WRONG_USAGE)
    password = _read_password() if given else secrets.token_urlsafe(_PASSWORD_BYTES)
    hashed = await _hashed({user: password})
    with _failing(folder):
        _grant(folder / _ACL, user, role, settings)
        _keep(folder, hashed)
    if not given:
        _show(hashed)
    click.echo("Then reload mosquitto: systemctl reload mosquitto, or SIGHUP.")
    return 0


def print_file(settings: Config, broker: Broker, *, toml: bool) -> None:
    """Print the rights of the same users as a file for another broker, and where it belongs.

    With `toml` it is the bridge's own settings for that broker.
    """
    file = BROKERS[broker]
    if toml:
        click.echo(
            "comfy2mqtt.toml: where the bridge starts; fill in what is in capitals", err=True
        )
        click.echo(file.toml(settings.base_topic), nl=False)
        return
    click.echo(f"{file.name}: {file.put}", err=True)
    click.echo(file.text(Topics(settings.base_topic), USERS, _others(settings)), nl=False)


@contextmanager
def _failing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        stop(f"{error.filename or folder}: {error.strerror}", FAILED)


def _write_settings(settings: Config, folder: Path, listeners: BrokerListeners) -> None:
    files = {
        _SETTINGS: ((FILES / _SETTINGS).read_text(), 0o644),
        _ACCESS: (access_file(folder.resolve(), listeners), 0o644),
        _ACL: (access.acl(Topics(settings.base_topic), USERS, _others(settings)), _PRIVATE),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (text, mode) in files.items():
        there = (folder / name).exists()
        click.echo(f"{folder / name}{': exists already, not changed' if there else ''}")
        if not there:
            _write(folder / name, text, mode)


def access_file(folder: Path, listeners: BrokerListeners) -> str:
    """Return the broker's settings of who comes in, and where."""
    tls = [
        f"listener {listeners.tls_port}",
        f"certfile {listeners.certificate or '/etc/mosquitto/certs/server.pem'}",
        f"keyfile {listeners.key or '/etc/mosquitto/certs/server.key'}",
        "tls_version tlsv1.2",
    ]
    if listeners.certificate is None:
        tls = [f"#{line}" for line in tls]
    return "\n".join(
        [
            "# The broker's listeners. All others are closed, also to",
            "# browsers: they use the bridge's web adapter, not the broker's WebSockets.",
            "per_listener_settings false",
            "allow_anonymous false",
            f"password_file {folder / _PASSWORDS}",
            f"acl_file {folder / _ACL}",
            "",
            "# On this machine only.",
            f"listener {listeners.port} 127.0.0.1",
            "",
            "# On the network: by TLS, so that nobody reads the passwords.",
            *tls,
            "",
        ]
    )


def _others(settings: Config) -> ForeignTopics:
    triggers = (each.topic for each in settings.trigger)
    calls = list(settings.calls)
    answers = (each.answer for each in calls if each.answer is not None)
    inputs = dict.fromkeys((*Permissions(settings.clients).input_topics, *triggers, *answers))
    outputs = dict.fromkeys(each.topic for each in calls if each.topic is not None)
    return ForeignTopics(tuple(inputs), tuple(outputs), settings.homeassistant_prefix)


def _lines(folder: Path) -> list[str]:
    path = folder / _PASSWORDS
    return path.read_text().splitlines() if path.exists() else []


def _user(line: str) -> str:
    return line.partition(":")[0]


def _grant(path: Path, user: str, role: Role | None, settings: Config) -> None:
    """Write down what a role may; a client needs no line of its own."""
    if not path.is_file():
        stop(f"{path.parent}: run `comfy2mqtt mosquitto setup` first", FAILED)
    if role is None:
        return
    text = path.read_text()
    if f"user {user}" in text.splitlines():
        stop(f"{path} has rules for {user!r} already: change them there", FAILED)
    grants = access.role(role, Topics(settings.base_topic), _others(settings))
    _write(path, "\n".join([text, *access.stanza(user, grants), ""]), _PRIVATE)


def _keep(folder: Path, users: list[_Hashed]) -> None:
    """Put users into the broker's file, in place of the same ones."""
    names = {each.user for each in users}
    kept = [line for line in _lines(folder) if _user(line) not in names]
    lines = [*kept, *(each.line for each in users), ""]
    _write(folder / _PASSWORDS, "\n".join(lines), _PRIVATE)


async def _hashed(passwords: dict[str, str]) -> list[_Hashed]:
    """Hash them with mosquitto: in a file of our own, since a command line can be read by all."""
    try:
        program = await find_program("mosquitto_passwd")
    except MosquittoError as error:
        stop(str(error), FAILED)
    with tempfile.TemporaryDirectory(prefix="comfy2mqtt-") as private:
        file = f"{private}/passwords"
        lines = [f"{user}:{password}\n" for user, password in passwords.items()]
        await asyncio.to_thread(Path(file).write_text, "".join(lines))
        process = await asyncio.create_subprocess_exec(
            *(program, "-U", file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        if process.returncode:
            stop(f"mosquitto_passwd: {said.decode(errors='replace').strip()}", FAILED)
        written = (await asyncio.to_thread(Path(file).read_text)).splitlines()
    return [_Hashed(_user(line), passwords[_user(line)], line) for line in written]


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all, for the broker where that is another user."""
    with replacing(path, mode=_PRIVATE) as file:
        file.write(text.encode())
        # Who is not root runs the broker, or gives it the files.
        with suppress(LookupError, PermissionError):
            shutil.chown(file.fileno(), _OWNER, _OWNER)
        if sys.platform != "win32":
            os.fchmod(file.fileno(), mode)


def _read_password() -> str:
    password = sys.stdin.readline().rstrip("\r\n")
    # mosquitto_passwd ends it at a colon, and takes the space around it away.
    if not password or password != password.strip() or set(password) & set(":\0"):
        stop("standard input: expected a password, without a colon or space around it", WRONG_USAGE)
    return password


def _show(users: list[_Hashed]) -> None:
    if users:
        click.echo("Passwords, shown only now:")
    for each in users:
        click.echo(f"  {each.user:<16} {each.password}")
