"""Mutants of the browsers' adapter: keys, origins, proxies."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

WEB: tuple[Mutant, ...] = (
    # The browsers' adapter: keys, origins, proxies.
    Mutant(
        name="any-secret",
        file="bridge/adapters/web/keyring.py",
        old="return found if same and text.startswith",
        new="return found if text.startswith",
        guarantee="a key's id without its secret opens nothing",
        tests=("tests/adapters/web/test_keyring.py",),
    ),
    Mutant(
        name="keys-for-all-eyes",
        file="bridge/adapters/web/keyring.py",
        old='encoded + b"\\n", mode=PRIVATE)',
        new='encoded + b"\\n", mode=0o644)',
        guarantee="the file of keys is for its owner alone",
        tests=("tests/adapters/web/test_keyring.py",),
    ),
    Mutant(
        name="guess-keys-freely",
        file="bridge/adapters/web/limits.py",
        old="if found is None or found.count < FREE_FAILURES:",
        new="if True:",
        guarantee="an address that tries wrong keys has to wait",
        tests=("tests/adapters/web/test_limits.py",),
    ),
    Mutant(
        name="ipv6-guesses-by-address",
        file="bridge/adapters/web/limits.py",
        old="return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))",
        new="return address",
        guarantee="wrong keys are counted by an IPv6 network, of which one party has all addresses",
        tests=("tests/adapters/web/test_limits.py",),
    ),
    Mutant(
        name="any-origin",
        file="bridge/adapters/web/http_headers.py",
        old="return given is not None and (given == ours or",
        new="return given is not None and (True or",
        guarantee="a page of another origin may not open the socket",
        tests=("tests/adapters/web/test_http_headers.py",),
    ),
    Mutant(
        name="forwarded-by-anybody",
        file="bridge/adapters/web/http_headers.py",
        old="if not is_in(peer, trusted):",
        new="if False:",
        guarantee="forwarded addresses are believed from trusted proxies alone",
        tests=("tests/adapters/web/test_http_headers.py",),
    ),
)
