from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters.web import http_headers
from bridge.adapters.web.http_headers import ClientAddress

PROXIES = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")]
HERE = ClientAddress("192.0.2.7", "http", "bridge.local:8090")


def client(peer: str, *forwarded: str | None) -> ClientAddress:
    return http_headers.client_address(
        peer=peer, scheme="http", host="bridge:8090", forwarded=forwarded, trusted=PROXIES
    )


def test_what_strangers_say_about_where_they_are_is_not_believed() -> None:
    assert client("192.0.2.7", "127.0.0.1", "https", "evil") == ClientAddress(
        "192.0.2.7", "http", "bridge:8090"
    )


@pytest.mark.parametrize(
    ("chain", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("127.0.0.1, 192.0.2.7", "192.0.2.7"),
        ("127.0.0.1, 192.0.2.7, 10.1.1.1", "192.0.2.7"),
        ("10.1.1.1", "10.1.1.1"),
        ("garbage", "garbage"),
        (" , ", "10.0.0.1"),
        (None, "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_is_asked_for_the_last_address_that_is_none(
    chain: str | None, address: str
) -> None:
    assert client("10.0.0.1", chain, "https", "example.org") == ClientAddress(
        address, "https", "example.org"
    )


@pytest.mark.parametrize(
    ("origin", "may"),
    [
        (None, True),
        ("http://bridge.local:8090", True),
        ("HTTP://Bridge.Local:8090", True),
        ("https://bridge.local:8090", False),
        ("http://bridge.local", False),
        ("http://evil.example", False),
        ("null", False),
        ("http://[", False),
        ("http://home.example:80", True),
        ("https://home.example", False),
    ],
)
def test_a_page_may_if_it_is_ours_or_on_the_list(origin: str | None, may: bool) -> None:  # noqa: FBT001
    assert http_headers.origin_allowed(origin, HERE, ["http://home.example"]) is may
    assert http_headers.origin_allowed(origin, HERE, ["*"])


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=20-10", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
    ],
)
def test_a_range_is_what_rfc_9110_says(header: str | None, span: tuple[int, int] | None) -> None:
    assert http_headers.byte_range(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=1000-2000", "bytes=-0"])
def test_a_range_outside_is_none(header: str) -> None:
    with pytest.raises(ValueError, match="outside"):
        http_headers.byte_range(header, 100)


@given(header=st.text() | st.from_regex(r"bytes=[0-9]{0,4}-[0-9]{0,4}"), size=st.integers(0, 5000))
def test_a_range_lies_within(header: str, size: int) -> None:
    try:
        found = http_headers.byte_range(header, size)
    except ValueError:
        return
    assert found is None or 0 <= found[0] < found[1] <= size


def test_entity_tags_are_compared_weakly() -> None:
    assert http_headers.etag_matches('"a"', '"b", W/"a"')
    assert http_headers.etag_matches('"a"', "*")
    assert not http_headers.etag_matches('"a"', '"b"')
    assert not http_headers.etag_matches('"a"', None)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("*;q=0.1, gzip;q=0", False),
        ("gzip;q=none", False),
        ("identity", False),
        ("", False),
        (None, False),
    ],
)
def test_who_takes_compressed_bytes_says_so(header: str | None, *, taken: bool) -> None:
    assert http_headers.accepts_gzip(header) is taken
