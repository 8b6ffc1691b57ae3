"""Nodes and files that are made in unusual ways: each stands for its kind, on the real ComfyUI."""

from __future__ import annotations

import codecs
import json
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.peer import Peer
from tests.vectors.drawing import Drawing

pytestmark = pytest.mark.comfyui

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
WORKFLOWS = "comfy2mqtt/workflow/+"


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
    return found if title is None else {**found, "_meta": {"title": title}}


def empty(size: int = 16) -> dict[str, Any]:
    return node("EmptyImage", width=size, height=size, batch_size=1, color=255)


def saved(source: str, title: str | None = None) -> dict[str, Any]:
    return node("SaveImage", title, images=[source, 0], filename_prefix="odd")


async def run(peer: Peer, workflow: str, payload: Any = b"", job: str = "") -> Any:
    """Run a job, and return its result."""
    job = job or workflow
    answer = await peer.ask(f"run/{workflow}/{job}", payload)
    assert answer["status"] == "ok", answer
    result = await peer.result(job)
    assert result["state"] == "succeeded", (workflow, result)
    return result


async def content(peer: Peer, job: str, result: Any) -> list[tuple[str, bytes]]:
    """Return content type and bytes of each of a job's outputs."""
    return [
        (each["content_type"], (await peer.job(job, f"output/{each['index']}")).payload)
        for each in result["outputs"]
    ]


# Key and shape of a report, and the outputs that it is.
REPORTS: list[tuple[str, str, list[tuple[str, bytes]]]] = [
    *((key, "list", [(TEXT, b"a barn")]) for key in ("text", "string", "value", "result", "tags")),
    ("text", "bare", [(TEXT, b"a barn")]),
    ("string", "nested", [(JSON, b'["a barn", "a barn"]')]),
    ("text", "tuple", [(TEXT, b"a barn"), (TEXT, b"a barn")]),
    ("text", "numbers", [(JSON, b"5"), (JSON, b"3.5")]),
    ("value", "dict", [(JSON, b'{"caption": "a barn"}')]),
    ("text", "nan", [(TEXT, b"a barn")]),
    ("text", "none", []),
]


async def test_a_file_whose_only_output_comfyui_would_not_run_says_so_before_a_job(
    attached: StartBridge, broker: Mosquitto
) -> None:
    async with Peer(broker.url) as peer:
        await peer.subscribe("comfy2mqtt/bridge/event")
        odd = node("TestNoOutput", key="text", shape="list", words="a barn")
        await attached({"odd": {"1": odd}, "fine": {"1": empty(), "2": saved("1")}})
        event = await peer.next(
            "comfy2mqtt/bridge/event", lambda each: each.json["type"] == "workflow_broken"
        )
        assert "odd.json: the workflow has no output node" in event.json["message"]


async def test_texts_come_under_any_key_and_in_any_shape(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"report": {"1": node("TestReport", key="text", shape="list", words="a barn")}})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number, (key, shape, wanted) in enumerate(REPORTS):
            job = f"j{number}"
            result = await run(peer, "report", {"1.key": key, "1.shape": shape}, job)
            assert await content(peer, job, result) == wanted, (key, shape)
        # A text is one also where it begins as a picture does, or could be a link.
        for number, words in enumerate(("BMW on a road", "GIF89a", '["1", 0]', "1, 0", "\0PNG")):
            job = f"t{number}"
            result = await run(peer, "report", {"1.words": words}, job)
            assert await content(peer, job, result) == [(TEXT, words.encode())]


async def test_a_value_that_looks_like_a_link_never_reaches_comfyui(
    attached: StartBridge, broker: Mosquitto
) -> None:
    points = {"1": node("TestPoints", points={"__value__": ["x", "y"]}, label="z")}
    await attached({"points": points}, clients={"alice": {"inline": True}})
    async with Peer(broker.url) as peer:
        await peer.listen()
        wrong: list[Any] = [
            ["a", 0],
            ["1", 0],
            ["", 1.5],
            {"__value__": ["a", 0]},
            {"__value__": 1},
        ]
        for value in wrong:
            refused = await peer.ask(
                "submit", {"workflow": "points", "inputs": {"1.points": value}}
            )
            assert refused["error"]["code"] == "invalid_input", value
        for value in (wrong[0], wrong[3]):
            inline = {"1": node("TestPoints", points=value, label="z")}
            refused = await peer.ask("submit", {"prompt": inline})
            assert refused["error"]["code"] == "invalid_input", value
        # The ComfyUI lives, and takes lists that are none.
        right: list[Any] = [["a", "b"], [["a", 0]], ["a", 0, 1], [3, 4]]
        for number, value in enumerate(right):
            result = await run(peer, "points", {"1.points": value}, f"j{number}")
            (said,) = await content(peer, f"j{number}", result)
            assert said == (TEXT, f"z: {value!r}".encode())


async def test_values_of_rare_types_reach_the_node_as_they_are_sent(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"values": {"1": node("TestValues", seed=3, size=1, one=5, mode=True)}})
    cases: list[tuple[dict[str, Any], str]] = [
        ({"seed": -1, "1.size": 2.5, "1.mode": None}, "(-1, 2.5, 5, None)"),
        ({"seed": 2**64 - 1, "1.size": 0, "1.mode": False}, f"({2**64 - 1}, 0.0, 5, False)"),
        ({"seed": 2**53 + 1, "1.mode": "True"}, f"({2**53 + 1}, 1, 5, True)"),
        ({"seed": 7, "1.one": 5}, "(7, 1, 5, True)"),
    ]
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number, (inputs, said) in enumerate(cases):
            result = await run(peer, "values", inputs, f"j{number}")
            assert await content(peer, f"j{number}", result) == [(TEXT, said.encode())], inputs
        for wrong in ({"1.one": 6}, {"1.size": 10.5}, {"1.size": "wide"}, {"1.mode": "maybe"}):
            refused = await peer.ask("submit", {"workflow": "values", "inputs": wrong})
            assert refused["error"]["code"] == "invalid_input", wrong


async def test_a_file_that_cannot_be_had_costs_that_output_alone(
    attached: StartBridge, broker: Mosquitto
) -> None:
    faults = ("gone", "outside", "unknown type")
    rest = {"5": empty(), "6": saved("5")}
    files = {
        fault.replace(" ", "-"): {"1": node("TestFile", fault=fault), **rest}
        for fault in (*faults, "twice")
    }
    await attached(files)
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name in files:
            result = await run(peer, name)
            sizes = [(each["width"], each["height"]) for each in result["outputs"]]
            assert (sizes, result["attempts"]) == ([(20, 10), (16, 16)], 1), name
            missing = result.get("missing", [])
            assert len(missing) == (name != "twice")
            for each in missing:
                assert each["name"] == "TestFile"
                assert "/" not in each["filename"]
                assert each["error"]["code"] == "execution_error"


async def test_what_a_newer_comfyui_would_take_is_named_and_left_out(
    attached: StartBridge, broker: Mosquitto
) -> None:
    mood = node("PrimitiveString", value="x")
    files = {
        # Of the older and of the newer kind of class, on the way and at the end.
        "older": {"1": empty(), "2": mood, "3": node("ImageInvert", image=["1", 0], hint=["2", 0])},
        "newer": {"2": mood, "3": node("PrimitiveInt", value=5, hint=["2", 0])},
        "saver": {"1": empty(), "2": mood, "3": {**saved("1")}},
        "value": {"1": empty(), "3": saved("1")},
    }
    files["older"]["4"] = saved("3")
    files["newer"]["4"] = node("PreviewAny", source=["3", 0])
    files["saver"]["3"]["inputs"]["hint"] = ["2", 0]
    files["value"]["3"]["inputs"]["hint"] = "a value"
    await attached(files)
    hint = {"node": "3", "input": "hint", "type": "STRING"}
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(WORKFLOWS)
        for name in files:
            described = (await peer.next(f"comfy2mqtt/workflow/{name}")).json
            unknown = described.get("missing", {}).get("unknown_inputs", [])
            assert (described["runnable"], unknown) == (True, [hint] * (name != "value")), name
            await run(peer, name)


async def test_what_is_saved_comes_before_what_is_shown(
    attached: StartBridge, broker: Mosquitto
) -> None:
    def scaled(size: int) -> dict[str, Any]:
        return node(
            "ImageScale",
            image=["1", 0],
            upscale_method="nearest-exact",
            width=size,
            height=size,
            crop="disabled",
        )

    shown = node("PreviewImage", images=["1", 0])
    files: dict[str, dict[str, Any]] = {
        "one": {"1": empty(), "2": shown, "3": scaled(64), "9": saved("3")},
        "text": {
            "1": empty(),
            "2": node("PreviewAny", source=["1", 0]),
            "3": scaled(64),
            "9": saved("3"),
        },
        "two": {"1": empty(), "2": shown, "3": scaled(64), "8": shown, "9": saved("3")},
        "list": {"1": empty(), "2": shown, "4": node("TestPictures", count=3), "9": saved("4")},
    }
    await attached(files)
    here = "comfy2mqtt/client/alice/reply/here"
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name, count in (("one", 1), ("text", 1), ("two", 1), ("list", 3)):
            fields = {"ResponseTopic": here, "UserProperty": [("reply", "output")]}
            peer.request(f"run/{name}/{name}", **fields)
            result = await peer.result(name)
            assert result["state"] == "succeeded", result
            previews = [each.get("preview", False) for each in result["outputs"]]
            assert previews == sorted(previews), name
            assert previews.count(False) == count, name
            first = (await peer.job(name, "output/0")).payload
            width = 16 if name == "list" else 64
            assert (first[:4], first[16:20]) == (b"\x89PNG", bytes([0, 0, 0, width])), name
            assert (await peer.next(here)).payload == first, name


async def test_3d_files_come_however_they_are_reported(
    attached: StartBridge, broker: Mosquitto
) -> None:
    model = {"1": node("TestModelFile", form="entry", suffix="glb")}
    await attached({"model": model})
    crate = b"glTF\x02\0\0\0\x10\0\0\0odd!"
    cases = [("entry", "glb"), ("path", "glb"), ("both", "glb"), ("dict", "ply"), ("path", "spz")]
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number, (form, suffix) in enumerate(cases):
            job = f"j{number}"
            result = await run(peer, "model", {"1.form": form, "1.suffix": suffix}, job)
            (output,) = result["outputs"]
            assert output["filename"].endswith(f".{suffix}"), form
            assert "preview" not in output
            assert (await peer.job(job, "output/0")).payload == crate


async def test_nodes_that_read_the_workflow_get_it_with_their_titles(
    attached: StartBridge, broker: Mosquitto
) -> None:
    files = {
        "titled": {"1": node("TestWorkflow", "Mood", text="x"), "2": empty(), "3": saved("2")},
        "plain": {"1": node("TestWorkflow", text="x")},
        # Ids of subgraphs, which the page does not know outside of them.
        "inner": {"5": node("TestWorkflow", text="x"), "58:4": empty(), "58:7": saved("58:4")},
    }
    await attached(files)
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name, title in (("titled", "Mood"), ("plain", None), ("inner", None)):
            result = await run(peer, name)
            (said,) = [
                data for kind, data in await content(peer, name, result) if kind.startswith("text")
            ]
            assert json.loads(said) == {
                "text": "x",
                "title": title,
                "values": ["x"],
                "nodes": len(files[name]),
            }


def titled(text: str, said: str, made: str, *, at: str = "") -> dict[str, Any]:
    """A text that is shown, and a picture that is saved, with titles; `at` is before their ids."""
    return {
        f"{at}10": node("PrimitiveString", text, value="evening"),
        f"{at}11": node("PreviewAny", said, source=[f"{at}10", 0]),
        f"{at}12": empty(),
        f"{at}13": saved(f"{at}12", made),
    }


def of_our_nodes() -> dict[str, Any]:
    about = {"name": "mood", "description": "In a word."}
    made: Any = {"name": "final", "format": "PNG", "quality": 90, "metadata": True}
    return {
        "1": node("Comfy2MQTTTextInput", value="evening", max_length=20, **about),
        "2": node("PreviewAny", "What was said", source=["1", 0]),
        "3": empty(),
        "4": node("Comfy2MQTTImageOutput", images=["3", 0], **made),
    }


def drawn_by_the_page() -> dict[str, Any]:
    drawing = Drawing()
    drawing.node(
        1,
        "PrimitiveString",
        title="Mood",
        values=["evening"],
        widgets={"value": "STRING"},
        outputs={"STRING": "STRING"},
    )
    drawing.node(2, "PreviewAny", title="What was said", inputs={"source": "*"})
    drawing.node(3, "EmptyImage", values=[16, 16, 1, 255], outputs={"IMAGE": "IMAGE"})
    drawing.node(
        4, "SaveImage", title="Finished picture", values=["odd"], inputs={"images": "IMAGE"}
    )
    drawing.link(1, 0, 2, "source")
    drawing.link(3, 0, 4, "images")
    return drawing.document()


def moving() -> dict[str, Any]:
    made = {"filename_prefix": "odd", "fps": 4.0, "lossless": True, "quality": 80}
    return {
        **titled("Mood", "What was said", "Finished picture"),
        "13": node("SaveAnimatedWEBP", "Finished", images=["12", 0], method="default", **made),
    }


# What a picture carries is what was run: the file of a picture has the names of its workflow.
MADE: list[tuple[str, dict[str, Any], str]] = [
    ("png", titled("Mood", "What was said", "Finished picture"), "mood"),
    ("scripts", titled("Laune für später", "雪山", "Готовая картина"), "laune_für_später"),
    ("inner", titled("Mood", "What was said", "Finished picture", at="58:"), "mood"),
    ("ours", of_our_nodes(), "mood"),
    ("drawn", drawn_by_the_page(), "mood"),
    ("webp", moving(), "mood"),
]


def named(definition: Any) -> Any:
    """Return what the inputs are called and take, and the names and kinds of the outputs."""
    inputs = {key: each["x-kind"] for key, each in definition["inputs"]["properties"].items()}
    return inputs, [(each["name"], each["kind"]) for each in definition["outputs"]]


async def test_a_picture_that_was_made_here_gives_the_same_names(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({name: file for name, file, _ in MADE})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(WORKFLOWS)

        async def described(name: str) -> Any:
            return (await peer.next(f"comfy2mqtt/workflow/{name}")).json

        for name, _, text in MADE:
            await run(peer, name, {text: "morning"})
            picture = (await peer.job(name, "output/0")).payload
            # Nothing of the job's folder, wherever the picture is dropped in.
            assert b'"comfy2mqtt/' not in picture
            suffix = "webp" if name == "webp" else "png"
            (bridge.workflows / f"again-{name}.{suffix}").write_bytes(picture)
            again, first = await described(f"again-{name}"), await described(name)
            assert named(again) == named(first), name
            inputs = again["inputs"]["properties"]
            assert inputs[text]["default"] == "morning", name
            # Nothing of the job that made it: its folder, its client.
            assert not any(each in json.dumps(inputs) for each in ("comfy2mqtt", "alice")), name
            result = await run(peer, f"again-{name}")
            outputs = [each["name"] for each in first["outputs"]]
            assert [each["name"] for each in result["outputs"]] == outputs, name
            assert (await peer.job(f"again-{name}", "output/1")).payload == b"morning", name


async def test_files_and_payloads_are_read_in_the_encodings_of_devices_and_editors(
    attached: StartBridge, broker: Mosquitto
) -> None:
    plain = {"1": empty(), "2": saved("1")}
    bridge = await attached(
        {"雪山": plain, "雪景": plain, "say": {"1": node("TestPrompt", text="x")}}
    )
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(WORKFLOWS)
        text = json.dumps(plain)
        (bridge.workflows / "mark.json").write_bytes(codecs.BOM_UTF8 + text.encode())
        (bridge.workflows / "wide.json").write_bytes(text.encode("utf-16"))
        found: dict[str, str] = {}
        while len(found) < 5:
            described = (await peer.next(WORKFLOWS)).json
            found[described["title"]] = described["name"]
        assert found.keys() == {"雪山", "雪景", "say", "mark", "wide"}
        for name in found.values():
            await run(peer, name)

        object_ = '{"prompt": "a mill"}'
        payloads = [
            b"a mill\0",
            codecs.BOM_UTF8 + b"a mill",
            codecs.BOM_UTF8 + object_.encode(),
            codecs.BOM_UTF16_LE + object_.encode("utf-16-le"),
            object_.encode() + b"\r\n\0",
        ]
        for number, payload in enumerate(payloads):
            job = f"j{number}"
            result = await run(peer, "say", payload, job)
            assert await content(peer, job, result) == [(TEXT, b"a mill")], payload
        refused = await peer.ask("run/say/bad", codecs.BOM_UTF8 + b'{"prompt": ')
        assert refused["error"]["code"] == "bad_request"
