"""Files that ComfyUI's page saved do here what they do there: on the real ComfyUI."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.peer import Peer
from tests.vectors import comparison
from tests.vectors.drawing import Drawing

pytestmark = pytest.mark.comfyui


async def text(peer: Peer, job: str, inputs: dict[str, Any] | None = None) -> tuple[str, Any]:
    """Run a job, and return its text and its inputs."""
    answer = await peer.ask(f"run/{job}", inputs or {})
    assert answer["status"] == "ok", answer
    topic = f"comfy2mqtt/client/{peer.client}/job/{job.rpartition('/')[2]}"
    result = (await peer.next(f"{topic}/result")).json
    assert result["state"] == "succeeded", result
    return (await peer.next(f"{topic}/output/0")).payload.decode(), result["inputs"]


async def test_a_prompt_with_choices_is_drawn_for_each_job_and_told(
    attached: StartBridge, broker: Mosquitto
) -> None:
    drawing = Drawing()
    drawing.node(1, "TestPrompt", values=["a {cat|dog|mouse} on a sofa"])
    await attached({"choices": drawing.document()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        drawn = [await text(peer, f"choices/j{number}") for number in range(12)]
        assert all(inputs["prompt"] == said for said, inputs in drawn)
        animals = {said.removeprefix("a ").removesuffix(" on a sofa") for said, _ in drawn}
        # That twelve are all the same would happen once in 170,000 times.
        assert len(animals) > 1
        assert animals <= {"cat", "dog", "mouse"}

        recipe = await peer.ask("recipe", {"job_id": "j3"})
        assert recipe["status"] == "ok", recipe
        assert (await text(peer, "choices/again", recipe["data"]["inputs"]))[0] == drawn[3][0]

        literal, _ = await text(peer, "choices/literal", {"prompt": "{as|it|is} // here"})
        assert literal == "{as|it|is} // here"


def source(drawing: Drawing) -> None:
    drawing.node(1, "EmptyImage", values=[32, 16, 1, 255], outputs={"IMAGE": "IMAGE"})


def set_and_got() -> dict[str, Any]:
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "SetNode", values=["img"], inputs={"IMAGE": "IMAGE"}, outputs={"*": "*"})
    drawing.node(3, "GetNode", values=["img"], outputs={"IMAGE": "IMAGE"})
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "IMAGE")
    drawing.link(3, 0, 9, "images")
    return drawing.document()


def labelled() -> dict[str, Any]:
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "Label (rgthree)", values=[])
    drawing.node(3, "Fast Groups Bypasser (rgthree)", outputs={"OPT_CONNECTION": "*"})
    drawing.node(4, "A label that nobody has heard of", values=["1"])
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 9, "images")
    return drawing.document()


async def test_what_only_the_page_knows_runs_as_it_does_there(
    attached: StartBridge, broker: Mosquitto
) -> None:
    groups = comparison.load("groups")
    files = {
        "set": set_and_got(),
        "label": labelled(),
        "group": groups["plain"],
        "slash": groups["slash"],
        # What a group inside is given, and a saver in one.
        "nested": groups["nested"],
        "saver": groups["saver"],
    }
    await attached(files)
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name in files:
            assert (await peer.ask(f"run/{name}/{name}"))["status"] == "ok"
        for name in files:
            result = (await peer.job(name, "result")).json
            assert result["state"] == "succeeded", result
            picture = (await peer.job(name, "output/0")).payload
            assert (picture[16:20], picture[20:24]) == (b"\0\0\0\x20", b"\0\0\0\x10"), name
