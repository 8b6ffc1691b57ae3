"""A workflow that is kept loaded."""

from __future__ import annotations

import asyncio

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import Operator
from tests.support.bridge import BridgeProcess
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


async def logged(bridge: BridgeProcess, what: str, times: int = 1) -> None:
    """Wait until the bridge has logged something so often."""
    async with asyncio.timeout(PATIENCE_S):
        while bridge.log.count(what) < times:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0)


async def test_a_workflow_is_run_at_the_start_and_after_a_yield_and_nobody_notices(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"colour": graphs.colour()}, comfyui_warm="colour")
    await logged(bridge, "ComfyUI default: warm-up loaded workflow colour")
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        await operator.done("comfyui/yield", b"default")
        await operator.state("yielded")
        await operator.done("comfyui/resume")
        await logged(bridge, "ComfyUI default: warm-up loaded workflow colour", 2)
        assert (await peer.ask("list"))["data"]["jobs"] == []
        assert (await operator.done("health_check"))["succeeded"] == 0


async def test_a_workflow_that_cannot_be_run_unasked_costs_one_line(
    attached: StartBridge, broker: Mosquitto
) -> None:
    echo = graphs.echo()
    del echo["1"]["inputs"]["image"]
    bridge = await attached({"echo": echo}, comfyui_warm="echo")
    await logged(bridge, "ComfyUI default: warm-up refused: ")
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        assert (await operator.done("health_check"))["healthy"]
