"""Mutants of media: downloads and pictures."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MEDIA: tuple[Mutant, ...] = (
    # Media: downloads and pictures.
    Mutant(
        name="socket-unguarded",
        file="bridge/media/download.py",
        old="if not allowed(host, str(address[0]), reach.hosts):",
        new="if False:",
        guarantee="the address that is connected to is checked, not only the one resolved before",
        tests=("tests/media/test_download.py",),
    ),
    Mutant(
        name="resolver-unguarded",
        file="bridge/media/download.py",
        old="if not allowed(host, str(address[0]), self._reach.hosts):",
        new="if False:",
        guarantee="a name that resolves to a private address is refused",
        tests=("tests/media/test_download.py",),
        equivalent="what the socket connects to is checked once more, and has the last word",
    ),
    Mutant(
        name="sixtofour-is-as-it-is",
        file="bridge/media/download.py",
        old="return address.ipv4_mapped or address.sixtofour or address",
        new="return address.ipv4_mapped or address",
        guarantee="an IPv6 address that stands for a private IPv4 address is refused",
        tests=("tests/media/test_download.py",),
    ),
    Mutant(
        name="own-networks-are-outside",
        file="bridge/media/download.py",
        old="if any(each in network for network in own for each in (address, meant)):",
        new="if False:",
        guarantee="a public address of this machine's own networks is refused",
        tests=("tests/media/test_addresses.py",),
    ),
    Mutant(
        name="unknown-kinds-are-outside",
        file="bridge/media/download.py",
        old="        meant not in _UNICAST or any(",
        new="        any(",
        guarantee="an IPv6 address of a kind that is not known to be public is refused",
        tests=("tests/media/test_addresses.py", "tests/media/test_download.py"),
    ),
    Mutant(
        name="any-scheme",
        file="bridge/media/download.py",
        old='if url.scheme not in ("http", "https") or not host:',
        new="if not host:",
        guarantee="only http and https are fetched",
        tests=("tests/media/test_download.py",),
    ),
    Mutant(
        name="redirects-unchecked",
        file="bridge/media/download.py",
        old="for _ in range(MAX_REDIRECTS + 1):",
        new="for _ in range(10**6):",
        guarantee="redirects are bounded",
        tests=("tests/media/test_download.py",),
    ),
    Mutant(
        name="download-uncounted",
        file="bridge/media/download.py",
        old="        if len(body) > limit:\n",
        new="        if False:\n",
        guarantee="a download's bytes are counted as they come, whatever was announced",
        tests=("tests/media/test_download.py",),
    ),
    Mutant(
        name="downloads-unpacked",
        file="bridge/media/download.py",
        old="auto_decompress=False,",
        new="auto_decompress=True,",
        guarantee="nothing that is fetched is unpacked",
        tests=("tests/media/test_download.py",),
    ),
    Mutant(
        name="pixels-uncounted",
        file="bridge/media/picture.py",
        old="if width * height > MAX_PIXELS:",
        new="if width * height > MAX_PIXELS * 1000:",
        guarantee="pixels are counted before an image is decoded",
        tests=("tests/media/test_picture.py",),
    ),
    Mutant(
        name="frames-uncounted",
        file="bridge/media/picture.py",
        old="if index >= MAX_FRAMES:",
        new="if False:",
        guarantee="frames of an animation are bounded",
        tests=("tests/media/test_picture.py",),
    ),
)
