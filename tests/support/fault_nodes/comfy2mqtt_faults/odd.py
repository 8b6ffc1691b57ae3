"""Output nodes that report what they made in the ways that authors of node packs have found.

TestReport       a text, number or dict, under the key and in the shape that are asked for
TestFile         a picture that is there, and one whose entry leads nowhere
TestModelFile    a 3D file, by its entry, by its bare path or by both
TestWorkflow     what the prompt and the workflow that came with it say of the node
TestPoints       a widget of a type of its own, whose value is a list
TestValues       values of types that few nodes have
TestPictures     pictures one by one, as a list: what comes after it runs for each
"""

from __future__ import annotations

import json
import uuid
from importlib import import_module
from pathlib import Path
from typing import Any

# ComfyUI's modules are not there where these lines are type-checked.
folder_paths: Any = import_module("folder_paths")
torch: Any = import_module("torch")
picture: Any = import_module("PIL.Image")

InputTypes = dict[str, dict[str, Any]]
Report = dict[str, dict[str, Any]]


class Odd:
    """An output node, which never comes from the cache."""

    CATEGORY = "comfy2mqtt tests"
    FUNCTION = "run"
    RETURN_TYPES: tuple[str, ...] = ()
    OUTPUT_NODE = True

    @classmethod
    def IS_CHANGED(cls, **_inputs: object) -> float:  # noqa: N802 - ComfyUI's name
        return float("nan")


class TestReport(Odd):
    """`shape`: one value in a list, bare, in a list of lists, as a tuple, or beside a NaN."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "key": ("STRING", {"default": "text"}),
                "shape": (["list", "bare", "nested", "tuple", "numbers", "dict", "nan", "none"],),
                "words": ("STRING", {"default": "a barn", "multiline": True}),
            }
        }

    def run(self, *, key: str, shape: str, words: str) -> Report:
        values: dict[str, Any] = {
            "list": [words],
            "bare": words,
            "nested": [[words, words]],
            "tuple": (words, words),
            "numbers": [5, 3.5],
            "dict": [{"caption": words}],
            "nan": [words],
            "none": [None],
        }
        more = {"score": [float("nan")]} if shape == "nan" else {}
        return {"ui": {key: values[shape], **more}}


class TestFile(Odd):
    """`fault`: what is wrong with the second entry."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {"required": {"fault": (["gone", "outside", "unknown type", "twice"],)}}

    def run(self, *, fault: str) -> Report:
        name = f"{uuid.uuid4().hex}.png"
        path = Path(folder_paths.get_output_directory()) / "odd" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.new("RGB", (20, 10), "red").save(path)
        good = {"filename": name, "subfolder": "odd", "type": "output"}
        bad = {
            "gone": {**good, "filename": "gone.png"},
            "outside": {**good, "subfolder": "../../../../../../etc", "filename": "passwd"},
            "unknown type": {**good, "type": "elsewhere"},
            "twice": good,
        }[fault]
        return {"ui": {"gifs": [bad], "images": [good], "animated": (False,)}}


class TestModelFile(Odd):
    """`form`: the way in which the file is reported."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "form": (["entry", "path", "both", "dict"],),
                "suffix": ("STRING", {"default": "glb"}),
            }
        }

    def run(self, *, form: str, suffix: str) -> Report:
        name = f"{uuid.uuid4().hex}.{suffix}"
        folder = Path(folder_paths.get_output_directory()) / "3D"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"glTF\x02\0\0\0\x10\0\0\0odd!")
        entry = {"filename": name, "subfolder": "3D", "type": "output"}
        path = f"3D/{name}"
        reports: dict[str, dict[str, Any]] = {
            "entry": {"3d": [entry]},
            "path": {"result": [path, None, []]},
            "both": {"result": [path, {}], "3d": [entry]},
            "dict": {"pointcloud": [{"path": path}]},
        }
        return {"ui": reports[form]}


class TestWorkflow(Odd):
    """Needs the workflow, as the page sends it: it fails without one."""

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {
            "required": {"text": ("STRING", {"default": "x"})},
            "hidden": {
                "extra_pnginfo": "EXTRA_PNGINFO",
                "prompt": "PROMPT",
                "unique_id": "UNIQUE_ID",
            },
        }

    def run(
        self, *, text: str, extra_pnginfo: dict[str, Any], prompt: Any, unique_id: str
    ) -> Report:
        nodes = extra_pnginfo["workflow"]["nodes"]
        (mine,) = (node for node in nodes if str(node["id"]) == unique_id)
        title = prompt[unique_id].get("_meta", {}).get("title")
        said = {"text": text, "title": title, "values": mine["widgets_values"], "nodes": len(nodes)}
        return {"ui": {"text": [json.dumps(said)]}}


class TestPoints(Odd):
    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "points": ("TEST_POINTS",),
                "label": ("STRING", {"default": "l"}),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, **_inputs: object) -> bool:  # noqa: N802 - ComfyUI's name
        return True

    def run(self, *, points: object, label: str) -> Report:
        return {"ui": {"text": [f"{label}: {points!r}"]}}


class TestValues(Odd):
    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {
            "required": {
                "seed": ("INT", {"default": -1, "min": -1, "max": 2**64 - 1}),
                "size": ("INT,FLOAT", {"default": 1, "min": 0, "max": 10}),
                "one": ("INT", {"default": 5, "min": 5, "max": 5}),
            },
            "optional": {"mode": ([True, False, None],)},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, **_inputs: object) -> bool:  # noqa: N802 - ComfyUI's name
        return True

    def run(self, *, seed: int, size: float, one: int, mode: object = "") -> Report:
        return {"ui": {"text": [repr((seed, size, one, mode))]}}


class TestPictures(Odd):
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    OUTPUT_NODE = False

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        return {"required": {"count": ("INT", {"default": 3, "min": 0, "max": 100})}}

    def run(self, *, count: int) -> tuple[Any]:
        return ([torch.zeros((1, 16 + place, 16, 3)) for place in range(count)],)


class TestNoOutput(TestReport):
    """Listed by ComfyUI as an output node, and run by it for nobody."""

    OUTPUT_NODE = 1  # type: ignore[assignment] # as some node packages have it


NODES = (
    TestReport,
    TestNoOutput,
    TestFile,
    TestModelFile,
    TestWorkflow,
    TestPoints,
    TestValues,
    TestPictures,
)
