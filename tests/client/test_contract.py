"""One import has everything, and a bridge of another version is reported."""

from __future__ import annotations

import asyncio
import logging
from importlib import resources

import msgspec
import pytest

import bridge.client
from bridge.client import CONTRACT_VERSION, BridgeError
from bridge.client.session import unfit
from bridge.client.testing import InMemoryBridge
from bridge.contract import errors


def test_everything_that_a_program_needs_is_in_one_import() -> None:
    offered = set(bridge.client.__all__)
    wanted = {kind.__name__ for kind in errors.BY_CODE.values()} | {"BridgeError"}
    assert wanted <= offered
    for name in offered:
        assert getattr(bridge.client, name) is not None
    assert issubclass(bridge.client.InvalidInput, BridgeError)


def test_the_package_is_typed() -> None:
    assert resources.files("bridge").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    ("contract", "told"),
    [(CONTRACT_VERSION + 1, "update this client"), (CONTRACT_VERSION - 1, "update the bridge")],
)
def test_what_is_too_old_is_named(contract: int, told: str) -> None:
    assert told in unfit(contract)


@pytest.mark.parametrize("more", [0, 1])
async def test_the_contract_of_the_bridge_is_read_and_another_is_reported(
    caplog: pytest.LogCaptureFixture, more: int
) -> None:
    memory = InMemoryBridge()
    memory.info = msgspec.structs.replace(memory.info, contract=CONTRACT_VERSION + more)
    with caplog.at_level(logging.WARNING):
        async with memory.client("alice") as client:
            await client.submit("wf")
            assert client.contract == CONTRACT_VERSION + more
            assert await client.info() == memory.info
        await asyncio.sleep(0)
    assert [each for each in caplog.messages if "version" in each] == [
        unfit(CONTRACT_VERSION + more) for _ in range(more)
    ]
