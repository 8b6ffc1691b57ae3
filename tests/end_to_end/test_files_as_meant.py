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

SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"


async def text(peer: Peer, job: str, inputs: dict[str, Any] | None = None) -> tuple[str, Any]:
    """Run a job, and return its text and its inputs."""
    answer = await peer.ask(f"run/{job}", inputs or {})
    assert answer["status"] == "ok", answer
    topic = f"comfy2mqtt/client/{peer.client}/job/{job.rpartition('/')[2]}"
    result = (await peer.next(f"{topic}/result")).json
    assert result["state"] == "succeeded", result
    return (await peer.next(f"{topic}/output/0")).payload.decode(), result["inputs"]


async def test_a_prompt_with_choices_is_drawn_for_each_job_and_reported(
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
        # Twelve equal ones would happen once in 170,000 times.
        assert len(animals) > 1
        assert animals <= {"cat", "dog", "mouse"}

        recipe = await peer.ask("recipe", {"job_id": "j3"})
        assert recipe["status"] == "ok", recipe
        assert (await text(peer, "choices/again", recipe["data"]["inputs"]))[0] == drawn[3][0]

        literal, _ = await text(peer, "choices/literal", {"prompt": "{as|it|is} // here"})
        assert literal == "{as|it|is} // here"


# A file's prompt, and all that may be drawn of it.
CHOICES: dict[str, tuple[str, set[str]]] = {
    "within": ("{a {red|blue} barn|a mill}", {"a red barn", "a blue barn", "a mill"}),
    "several": ("{2$$a|b|c}", {f"{x}, {y}" for x in "abc" for y in "abc" if x != y}),
    "comment": ("a mill // by day\n/* at */{ night}", {"a mill \n night"}),
    "plain": ("a \\{mill\\}", {"a {mill}"}),
}


async def test_choices_of_all_shapes_and_comments_are_worked_off(
    attached: StartBridge, broker: Mosquitto
) -> None:
    files = {}
    for name, (prompt, _) in CHOICES.items():
        drawing = Drawing()
        drawing.node(1, "TestPrompt", values=[prompt])
        files[name] = drawing.document()
    await attached(files)
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name, (_, drawn) in CHOICES.items():
            for number in range(3):
                said, inputs = await text(peer, f"{name}/{name}-{number}")
                assert said in drawn, name
                assert inputs["prompt"] == said


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
    drawing.node(4, "A label that nobody knows", values=["1"])
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 9, "images")
    return drawing.document()


def chained() -> dict[str, Any]:
    """A name that is set from another, behind a bypassed node, and is set and passed on."""
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "SetNode", values=["a"], inputs={"IMAGE": "IMAGE"}, outputs={"*": "*"})
    drawing.node(3, "GetNode", values=["a"], outputs={"IMAGE": "IMAGE"})
    drawing.node(4, "ImageInvert", mode=4, inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"})
    drawing.node(5, "SetNode", values=["b"], inputs={"IMAGE": "IMAGE"}, outputs={"*": "IMAGE"})
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "IMAGE")
    drawing.link(3, 0, 4, "image")
    drawing.link(4, 0, 5, "IMAGE")
    drawing.link(5, 0, 9, "images")
    return drawing.document()


def of_another_pack() -> dict[str, Any]:
    """A value that another pack's nodes set, and a reroute of a third one's."""
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "easy setNode", values=["a"], inputs={"IMAGE": "IMAGE"}, outputs={"*": "*"})
    drawing.node(3, "easy getNode", values=["a"], outputs={"IMAGE": "IMAGE"})
    drawing.node(4, "Reroute (rgthree)", inputs={"": "*"}, outputs={"": "*"})
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "IMAGE")
    drawing.link(3, 0, 4, "")
    drawing.link(4, 0, 9, "images")
    return drawing.document()


def set_outside() -> dict[str, Any]:
    """A subgraph that saves what is set outside of it."""
    inner = Drawing()
    inner.node(3, "GetNode", values=["a"], outputs={"IMAGE": "IMAGE"})
    inner.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    inner.link(3, 0, 9, "images")
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "SetNode", values=["a"], inputs={"IMAGE": "IMAGE"}, outputs={"*": "*"})
    drawing.link(1, 0, 2, "IMAGE")
    drawing.node(20, SUBGRAPH)
    return drawing.document(inner.definition(SUBGRAPH, {}))


def with_notes() -> dict[str, Any]:
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "Bookmark (rgthree)", values=["1"])
    drawing.node(3, "MarkdownNote", values=["# A note"])
    drawing.node(4, "Note", values=["another"])
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 9, "images")
    return drawing.document()


def with_switches() -> dict[str, Any]:
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "Fast Groups Muter (rgthree)", outputs={"OPT_CONNECTION": "*"})
    drawing.node(3, "Fast Bypasser (rgthree)", inputs={"": "*"}, outputs={"OPT_CONNECTION": "*"})
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 9, "images")
    drawing.link(1, 0, 3, "")
    return drawing.document()


def broadcast() -> dict[str, Any]:
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "Anything Everywhere", inputs={"anything": "*"})
    drawing.node(9, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "anything")
    return drawing.document()


async def test_what_only_the_page_knows_runs_as_it_does_there(
    attached: StartBridge, broker: Mosquitto
) -> None:
    groups = comparison.load("groups")
    files = {
        "set": set_and_got(),
        "chained": chained(),
        "pack": of_another_pack(),
        "outside": set_outside(),
        "label": labelled(),
        "notes": with_notes(),
        "switches": with_switches(),
        "everywhere": broadcast(),
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
