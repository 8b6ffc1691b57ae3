"""A broker's address, and our credentials there."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import msgspec

from bridge.mqtt.errors import BadAddress

_log = logging.getLogger(__name__)

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
# The names that other programs give to the same.
_SCHEMES: Final = {
    **{each: each for each in _PORTS},
    "tcp": "mqtt",
    "ssl": "mqtts",
    "tls": "mqtts",
    "mqtt+ssl": "mqtts",
}
_HIGHEST_PORT: Final = 65535
_SHAPE: Final = "mqtt://user:password@host:port, mqtts:// for TLS, ws:// or wss:// for WebSocket"
_ENCODED: Final = "in a user name or password write / as %2F, ? as %3F, # as %23 and @ as %40"
# Where most brokers have it, and where paho looks for it.
_PATH: Final = "/mqtt"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A broker's address with the credentials for it.

    The password is in none of the texts that this class makes: `repr`, `str`, errors.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = None
    password_file: Path | None = None
    """Its first line is the password, read again for each connection: it may be changed."""
    tls: bool = False
    path: str | None = None
    """Of a WebSocket, with a query if there is one: `/mqtt`. None: plain TCP, or TLS."""
    ca: Path | None = None
    """Certificates to trust, PEM; None: the system's."""
    cert: Path | None = None
    """Our own certificate, PEM, for a broker that asks for one."""
    key: Path | None = None
    """The key of `cert`; None: it is in the same file."""

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        password_file: Path | None = None,
    ) -> Self:
        """Read `mqtt://user:password@host:port` or `mqtts://...`, user and password %-encoded.

        `tcp://`, `ssl://` and `tls://` are other names of the two schemes, and `host:port` alone is
        `mqtt://`. `ws://host:port/path` and `wss://` are MQTT over WebSocket, whose path is `/mqtt`
        where none is given, and whose query is part of it. With `password_file` the password is its
        first line, and the URL has none. Reads that file. Raises BadAddress naming what is wrong,
        without repeating what may be part of a password.
        """
        try:
            parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        except ValueError:
            raise BadAddress(f"the host is not valid; write {_SHAPE}") from None
        scheme = _scheme(parts.scheme)
        websocket = scheme in ("ws", "wss")
        if parts.fragment or (not websocket and (parts.path.strip("/") or parts.query)):
            where = "path" if websocket else "port"
            raise BadAddress(f"nothing may follow the {where}; {_ENCODED}")
        path = _path(parts) if websocket else None
        if not parts.hostname:
            raise BadAddress(f"the host is missing; write {_SHAPE}")
        if not _can_be_host(parts.hostname):
            raise BadAddress(f"the host is not valid; write {_SHAPE}")
        tls = scheme in ("mqtts", "wss")
        if not tls and (ca or cert or key):
            secure = "wss" if websocket else "mqtts"
            raise BadAddress(f"certificates need TLS: write {secure}:// in place of {scheme}://")
        if key and not cert:
            raise BadAddress("a key file needs the certificate file that it belongs to")
        username = _decoded(parts.username, "user name") or None
        password = _decoded(parts.password, "password")
        if password_file is not None:
            if password is not None:
                raise BadAddress("the password is in the URL and in a file: give one of them")
            password = _first_line(password_file)
        if password is not None and username is None:
            raise BadAddress("a password needs a user name before it")
        return cls(
            host=parts.hostname,
            port=_port(parts.netloc, _PORTS[scheme]),
            username=username,
            password=password,
            password_file=password_file,
            tls=tls,
            path=path,
            ca=ca,
            cert=cert,
            key=key,
        )

    @property
    def scheme(self) -> str:
        """The scheme of its URL: mqtt, mqtts, ws or wss."""
        return ("ws" if self.path is not None else "mqtt") + ("s" if self.tls else "")

    def __str__(self) -> str:
        secret = ":***" if self.password is not None else ""
        user = f"{self.username}{secret}@" if self.username is not None else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        # A query may hold a token.
        path = "" if self.path is None else self.path.partition("?")[0]
        return f"{self.scheme}://{user}{host}:{self.port}{path}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def password_now(self) -> str | None:
        """Return the password, of its file as it is now. Reads that: call it in a thread.

        It is `password` where there is no file, where that is gone or empty, as while it is
        written, and where it cannot be read twice, as a pipe.
        """
        file, found = self.password_file, ""
        try:
            if file is not None and (file.is_file() or not file.exists()):
                found = _first_line(file)
        except (BadAddress, OSError) as error:
            _log.warning("%s; the password that was in it is used", error)
        return found or self.password

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context, None without TLS. Reads files: call it in a thread.

        Raises BadAddress when a certificate or key cannot be read.
        """
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise BadAddress(f"the CA file {self.ca} cannot be used: {_why(error)}") from error
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as error:
                names = " and ".join(str(name) for name in (self.cert, self.key) if name)
                why = _why(error)
                raise BadAddress(f"the certificate {names} cannot be used: {why}") from error
        return context


def _scheme(found: str) -> str:
    scheme = _SCHEMES.get(found)
    if scheme is None:
        raise BadAddress(f"the scheme must be mqtt, mqtts, ws or wss; write {_SHAPE}")
    return scheme


def _path(parts: SplitResult) -> str:
    path = parts.path or _PATH
    if parts.query:
        path = f"{path}?{parts.query}"
    if "@" in path:
        raise BadAddress(_ENCODED)
    if not path.isascii() or any(each.isspace() for each in path):
        raise BadAddress("in a path write what is not ASCII percent-encoded")
    return path


def _why(error: OSError) -> str:
    # An error of TLS has its reason in its own form, and no words for it.
    return str(error) if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def _first_line(file: Path) -> str:
    try:
        return file.read_text().partition("\n")[0].removesuffix("\r")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise BadAddress(f"the password file {file} cannot be read: {reason}") from None


def _can_be_host(host: str) -> bool:
    """Return whether a host's name could be looked up."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return host.isprintable() and " " not in host


def _port(netloc: str, default: int) -> int:
    # urlsplit's own errors quote the port: part of the password, if that has a bare slash.
    _, colon, digits = netloc.rpartition("@")[2].rpartition("]")[2].rpartition(":")
    if not colon or not digits:
        return default
    if not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:6]) <= _HIGHEST_PORT):
        raise BadAddress(
            f"the port must be a number from 1 to {_HIGHEST_PORT}; "
            "in a user name or password write : as %3A and @ as %40"
        )
    return int(digits)


def _decoded(text: str | None, field: str) -> str | None:
    if text is None:
        return None
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        raise BadAddress(f"the {field} must be UTF-8, percent-encoded") from None
    if "\0" in decoded:
        raise BadAddress(f"the {field} must not contain a NUL character")
    return decoded
