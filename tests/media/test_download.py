from __future__ import annotations

import pytest

from bridge.media.download import allowed


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",  # metadata services
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b:1::1",
        "fd00:ec2::254",
    ],
)
def test_no_address_inside_is_reached(address: str) -> None:
    assert not allowed("host.example", address, ())
    assert allowed("Host.Example.", address, ("host.example",))  # unless the operator names it


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f::1", "::ffff:8.8.8.8"])
def test_public_addresses_are(address: str) -> None:
    assert allowed("host.example", address, ())
