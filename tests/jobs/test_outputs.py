"""Outputs as nodes report them: files, texts, what is missing, and in which order."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import UNSET

from bridge.comfyui.errors import ComfyUIUnreachable, NotFound, UnexpectedAnswer
from bridge.comfyui.events import Executed
from bridge.contract.retained import OutputDefinition
from bridge.jobs.outputs import CollectedOutput, Collector
from bridge.jobs.ui_output import FileItem, TextItem, items

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 100


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"text": ["a barn"]}, [TextItem("a barn")]),
        ({"string": ["a barn"]}, [TextItem("a barn")]),
        ({"tags": ["1girl, barn"]}, [TextItem("1girl, barn")]),
        ({"text": "a barn"}, [TextItem("a barn")]),
        ({"text": ("one", "two")}, [TextItem("one"), TextItem("two")]),
        # ComfyUI goes through a bare text letter by letter.
        ({"text": list("a 雪 barn")}, [TextItem("a 雪 barn")]),
        ({"text": ["a"]}, [TextItem("a")]),
        ({"text": ["a", "bc"]}, [TextItem("a"), TextItem("bc")]),
        ({"text": [5, 3.5]}, [TextItem("5", is_json=True), TextItem("3.5", is_json=True)]),
        ({"text": [["a", "b"]]}, [TextItem('["a", "b"]', is_json=True)]),
        ({"value": [{"caption": "é"}]}, [TextItem('{"caption": "é"}', is_json=True)]),
        ({"text": ["a"], "score": [float("nan")]}, [TextItem("a")]),
        ({"value": [float("nan")]}, [TextItem("nan")]),
        ({"text": [None]}, []),
        ({"animated": (False,), "frame_rate": [24.0]}, []),
        ({"comfy2mqtt": [{"filename": "x.png"}]}, []),
        (
            {"images": [{"filename": "x.png", "subfolder": "s", "type": "temp"}]},
            [FileItem("x.png", "s", "temp")],
        ),
        ({"images": [{"filename": "x.png"}]}, [FileItem("x.png", "", "output")]),
        (
            {"a_images": [{"filename": "a.png"}], "images": [{"filename": "a.png"}]},
            [FileItem("a.png", "", "output")],
        ),
        (
            {"result": ["3D/crate_1.glb", None, {"x": 1}]},
            [FileItem("crate_1.glb", "3D", ""), TextItem('{"x": 1}', is_json=True)],
        ),
        # ComfyUI's viewers: a camera and a scene may be there, and the file's own entry.
        (
            {
                "result": ["3d/m_1.glb", None, []],
                "3d": [{"filename": "m_1.glb", "subfolder": "3d", "type": "output"}],
            },
            [FileItem("m_1.glb", "3d", "output")],
        ),
        ({"result": ["splat.spz [temp]", {}, None]}, [FileItem("splat.spz", "", "temp")]),
        (
            {"result": ["a.obj", {"fov": 35}, "temp/bg_1.png"]},
            [
                FileItem("a.obj", "", ""),
                TextItem('{"fov": 35}', is_json=True),
                FileItem("bg_1.png", "", "temp"),
            ],
        ),
        ({"mesh": ["sub\\b.STL"]}, [FileItem("b.STL", "sub", "")]),
        ({"glb_path": ["/opt/ComfyUI/output/3d/c.glb"]}, [FileItem("c.glb", "3d", "output")]),
        ({"ply": ["C:\\ComfyUI\\temp\\d.ply"]}, [FileItem("d.ply", "", "temp")]),
        ({"pointcloud": [{"path": "clouds/e.ply"}]}, [FileItem("e.ply", "clouds", "")]),
        ({"model": ["/elsewhere/f.fbx"]}, [FileItem("f.fbx", "/elsewhere", "")]),
        ({"text": ["a picture of crate.glb"]}, [TextItem("a picture of crate.glb")]),
        ({"text": ["crate.glb"]}, [TextItem("crate.glb")]),
        ({"result": ["a\nb.glb"]}, [TextItem("a\nb.glb")]),
        ({"latents": [{"filename": "x.latent"}]}, [FileItem("x.latent", "", "output")]),
        ({"result": ["a barn"]}, [TextItem("a barn")]),
    ],
)
def test_whatever_a_node_reports_is_read(output: Mapping[str, Any], expected: list[Any]) -> None:
    assert list(items(output)) == expected


class Rig:
    """Files by name, each bytes or an error; `offered` are outputs published early."""

    def __init__(self, **files: bytes | Exception) -> None:
        self.files = files
        self.offered: list[CollectedOutput] = []
        self.collector: Collector | None = None

    async def view(self, filename: str, _subfolder: str, _type: str) -> bytes:
        await asyncio.sleep(0)
        found = self.files[filename]
        if isinstance(found, Exception):
            raise found
        return found

    def offer(self, output: CollectedOutput) -> CollectedOutput:
        self.offered.append(output)
        return output

    async def collect(
        self, definitions: str, *executed: tuple[str, dict[str, Any]]
    ) -> list[CollectedOutput]:
        async with asyncio.TaskGroup() as tasks:
            collector = self.collector = Collector(
                tasks,
                self.view,
                [
                    OutputDefinition(name=f"n{node}", kind="image", node=node)
                    for node in definitions
                ],
                self.offer,
            )
            for node, output in executed:
                collector.executed(Executed(node, node, output))
            return await collector.all()


def image(name: str, kind: str = "output") -> dict[str, Any]:
    return {"images": [{"filename": name, "subfolder": "", "type": kind}]}


async def test_saved_outputs_come_before_those_that_are_only_shown() -> None:
    rig = Rig(shown=PNG, saved=PNG)
    outputs = await rig.collect("19", ("1", image("shown", "temp")), ("9", image("saved")))
    assert [(each.info.index, each.info.filename) for each in outputs] == [
        (0, "saved"),
        (1, "shown"),
    ]
    assert [each.info.preview for each in outputs] == [UNSET, True]


@pytest.mark.parametrize("status", [404, 403, 400])
async def test_a_file_that_is_not_there_costs_that_output_alone(status: int) -> None:
    gone = UnexpectedAnswer("GET /view", status=status, excerpt="/home/me/secret")
    rig = Rig(gone=gone, good=PNG)
    outputs = await rig.collect("16", ("1", image("gone")), ("6", image("good")))
    assert [(each.info.index, each.info.name) for each in outputs] == [(0, "n6")]
    assert rig.collector is not None
    (missing,) = rig.collector.missing
    assert (missing.name, missing.filename) == ("n1", "gone")
    assert "secret" not in missing.error.message


@pytest.mark.parametrize(
    ("said", "name"),
    [("../../.bashrc", ".bashrc"), ("/etc/a.png", "a.png"), ("b\\c.png", "c.png"), ("..", UNSET)],
)
async def test_the_name_of_a_file_leads_no_client_out_of_its_folder(
    said: str, name: object
) -> None:
    (output,) = await Rig(**{said: PNG}).collect("1", ("1", image(said)))
    assert output.info.filename == name


@pytest.mark.parametrize(
    "error", [ComfyUIUnreachable("reset", sent=True), UnexpectedAnswer("x", status=502)]
)
async def test_a_comfyui_that_fails_costs_the_attempt(error: Exception) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await Rig(a=error).collect("1", ("1", image("a")))
    assert raised.group_contains(type(error))


async def test_the_only_nodes_outputs_are_offered_in_their_order() -> None:
    rig = Rig(a=PNG, b=PNG)
    both = {"images": [*image("a")["images"], *image("b")["images"]]}
    await rig.collect("1", ("1", both))
    assert [each.info.filename for each in rig.offered] == ["a", "b"]
    missing = Rig(a=NotFound("GET /view", status=404), b=PNG)
    outputs = await missing.collect("1", ("1", both))
    assert missing.offered == []
    assert [(each.info.index, each.info.filename) for each in outputs] == [(0, "b")]


@pytest.mark.parametrize("data", [b"", b"<html>Sign in</html>", "…".encode() * 5000])
@pytest.mark.parametrize("name", ["a.png", "A.JPEG", "a.webm", "a.flac", "a.heic"])
async def test_a_text_in_the_place_of_a_picture_sound_or_film_is_no_output(
    name: str, data: bytes
) -> None:
    rig = Rig(**{name: data, "b.png": PNG, "c.txt": b"", "d": b"text"})
    files = {"images": [*(image(each)["images"][0] for each in (name, "b.png", "c.txt", "d"))]}
    outputs = await rig.collect("1", ("1", files))
    assert [each.info.filename for each in outputs] == ["b.png", "c.txt", "d"]
    assert rig.collector is not None
    assert [each.filename for each in rig.collector.missing] == [name]


async def test_a_text_is_a_text_whatever_it_begins_with() -> None:
    (output,) = await Rig().collect("1", ("1", {"text": ["BMW on a road"]}))
    assert (output.info.kind, output.info.content_type) == ("text", "text/plain; charset=utf-8")
    (output,) = await Rig().collect("1", ("1", {"value": [{"a": 1}]}))
    assert (output.info.kind, output.info.content_type) == ("text", "application/json")


async def test_a_3d_file_is_fetched_from_the_folder_that_has_it() -> None:
    class Folders(Rig):
        async def view(self, filename: str, subfolder: str, type_: str) -> bytes:
            return await super().view(f"{type_}/{subfolder}/{filename}", subfolder, type_)

    nowhere = NotFound("GET /view", status=404)
    files: dict[str, bytes | Exception] = {"output/3d/a.ply": nowhere}
    rig = Folders(**files, **{"temp/3d/a.ply": b"ply\nformat ascii 1.0\n"})
    (output,) = await rig.collect("1", ("1", {"result": ["3d/a.ply", None]}))
    info = output.info
    assert (info.kind, info.content_type, info.preview) == ("file", "model/ply", True)
    gone = Folders(**{f"{folder}/3d/a.ply": nowhere for folder in ("output", "temp", "input")})
    assert await gone.collect("1", ("1", {"result": ["3d/a.ply", None]})) == []
    assert gone.collector is not None
    (missing,) = gone.collector.missing
    assert (missing.filename, missing.error.details["reason"]) == ("a.ply", "not_found")


async def test_files_that_nobody_wants_any_more_leave_no_trace() -> None:
    async def view(*_: str) -> bytes:
        raise AssertionError

    async def ends_at_once() -> None:
        async with asyncio.TaskGroup() as tasks:
            collector = Collector(tasks, view, [], lambda output: output)
            collector.executed(Executed("1", "1", {"images": [{"filename": "a.png"}]}))
            raise KeyError  # before anything was asked for

    with pytest.raises(ExceptionGroup):
        await ends_at_once()
    gc.collect()  # what was made and never awaited is an error
