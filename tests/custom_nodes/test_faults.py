"""The faults that leave ComfyUI alive; the others are shown where ComfyUI is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.graphs import node, noise, output

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph

pytestmark = pytest.mark.comfyui


def fault_graph(name: str, **inputs: Any) -> Graph:
    return {"1": noise(), "2": node(name, image=["1", 0], **inputs), "3": output("2")}


async def test_raise_fails_with_its_message(comfyui: ComfyUI) -> None:
    run = await comfyui.run(fault_graph("TestRaise", message="as told"))
    assert run.error["exception_type"] == "RuntimeError"
    assert "as told" in run.error["exception_message"]


async def test_out_of_memory_is_reported_by_its_type(comfyui: ComfyUI) -> None:
    graph = fault_graph("TestOutOfMemory", times=1)
    failed = await comfyui.run(graph)
    assert failed.error["exception_type"] == "torch.OutOfMemoryError"
    assert (await comfyui.run(graph)).succeeded


async def test_sleep_can_be_interrupted(comfyui: ComfyUI) -> None:
    prompt_id = await comfyui.submit(fault_graph("TestSleep", seconds=600.0))
    await comfyui.follow(prompt_id, until="progress")
    async with comfyui.http.post("/interrupt", json={"prompt_id": prompt_id}) as response:
        assert response.status == 200
    run = await comfyui.follow(prompt_id)
    assert run.of("execution_interrupted")


async def test_progress_and_previews_come_in_the_number_asked_for(comfyui: ComfyUI) -> None:
    run = await comfyui.run(fault_graph("TestProgress", count=25, rate=0.0, preview_size=16))
    assert [data["value"] for data in run.of("progress")] == list(range(1, 26))
    assert len(run.previews) == 25
    assert run.succeeded
