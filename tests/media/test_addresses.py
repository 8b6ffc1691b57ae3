from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.download import allowed, is_outside, own_networks, parsed

OWN = [
    ipaddress.ip_network(each)
    for each in ("93.184.215.0/24", "2606:2800:21f::/48", "2a00:1::7", "64:ff9b::/96")
]


@pytest.mark.parametrize(
    "address",
    [
        "93.184.215.14",
        "2606:2800:21f::1",
        "2a00:1::7",
        "::ffff:93.184.215.14",
        "2002:5db8:d70e::1",
        "64:ff9b::8.8.8.8",
    ],
)
def test_a_public_address_of_this_machines_networks_is_inside(address: str) -> None:
    found = parsed(address)
    assert found is not None
    assert not is_outside(found, OWN)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.1", "2a00:1::8", "2606:2800:220::1"])
def test_others_public_addresses_are_outside(address: str) -> None:
    found = parsed(address)
    assert found is not None
    assert is_outside(found, OWN)


def test_the_networks_of_this_machine_are_read_from_its_interfaces() -> None:
    found = own_networks()
    assert ipaddress.ip_network("127.0.0.1") in found
    assert ipaddress.ip_network("127.0.0.0/8") in found


def test_the_interfaces_of_now_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    assert allowed("host.example", "93.184.215.14", ())
    monkeypatch.setattr("bridge.media.download.own_networks", lambda: OWN)
    assert not allowed("host.example", "93.184.215.14", ())
    assert allowed("host.example", "93.184.215.14", ("host.example",))


@given(st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address))
def test_no_ipv6_address_beside_the_hosts_of_the_internet_is_outside(
    address: ipaddress.IPv6Address,
) -> None:
    stands_for = address.ipv4_mapped or int(address) >> 32 == 0x64FF9B << 64
    if is_outside(address, ()) and not stands_for:
        assert address in ipaddress.IPv6Network("2000::/3")


@pytest.mark.parametrize("text", ["", "host.example", "127.1", "1.2.3.4.5", "[::1]"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert parsed(text) is None
