"""Opening a socket to a broker without holding up the event loop."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

from bridge.mqtt.errors import BadAddress, Unreachable

if TYPE_CHECKING:
    from bridge.mqtt.address import Address


async def open_socket(address: Address, timeout_s: float) -> socket.socket:
    """Connect to the broker, with TLS where asked for; the socket does not block.

    Raises Unreachable, or BadAddress for certificate files that cannot be used.
    """
    try:
        async with asyncio.timeout(timeout_s):
            context = await asyncio.to_thread(address.ssl_context) if address.tls else None
            plain = await _open_tcp(address, timeout_s)
            if context is None:
                return plain
            return await _open_tls(plain, context, address.host)
    except TimeoutError as error:
        raise Unreachable(f"{address} did not answer within {timeout_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise Unreachable(
            f"{address}: its certificate is not valid: {error.verify_message}"
        ) from error
    except OSError as error:
        raise Unreachable(f"{address}: {_said(error)}") from error
    except UnicodeError as error:
        raise BadAddress(f"the host {address.host!r} is no name: {error}") from error


def _said(error: OSError) -> str:
    # asyncio puts words of its own in place of the system's "Connection refused".
    if isinstance(error, (ssl.SSLError, socket.gaierror)) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)


async def _open_tcp(address: Address, timeout_s: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    failure: OSError = OSError(f"{address.host} has no address")
    for family, kind, protocol, _, where in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(0)
            # A small packet behind an unacknowledged one waits 40 ms without this.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(timeout_s / len(found)):
                await loop.sock_connect(sock, where)
        except OSError as error:  # TimeoutError is one
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _open_tls(plain: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    loop = asyncio.get_running_loop()
    sock = plain
    try:
        sock = secured = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
        while True:
            ready = loop.create_future()
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                loop.add_reader(secured, _resolve, ready)
            except ssl.SSLWantWriteError:
                loop.add_writer(secured, _resolve, ready)
            else:
                return secured
            try:
                await ready
            finally:
                loop.remove_reader(secured)
                loop.remove_writer(secured)
    except BaseException:
        sock.close()
        raise


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
