"""Definitions of graphs that a server lacks something for, or refuses a value of."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from msgspec import UNSET

from bridge.contract.retained import Missing, MissingChoice, MissingInput
from bridge.workflows import definition, graph, source
from bridge.workflows.conversion import convert
from bridge.workflows.graph import NodeInput
from bridge.workflows.inputs import KINDS
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison
from tests.workflows.graphs import INFO, PLAIN, workflow


def test_what_is_missing_is_named() -> None:
    document = copy.deepcopy(PLAIN)
    document["1"]["inputs"]["ckpt"] = "gone.safetensors"
    document["5"] = {"class_type": "Unheard", "inputs": {}}
    document["6"] = {"class_type": "Unheard", "inputs": {}}
    definition = workflow(document).definition()
    assert definition.runnable is False
    assert definition.missing is not UNSET
    assert definition.missing.nodes == ["Unheard"]
    assert definition.missing.choices == [
        MissingChoice(
            node="1", input="ckpt", value="gone.safetensors", allowed=["a.safetensors", "b"]
        )
    ]


def test_a_picture_that_is_not_there_must_be_given() -> None:
    document = copy.deepcopy(PLAIN)
    document["3"]["inputs"]["image"] = "gone.png"
    definition = workflow(document).definition()
    assert definition.inputs["required"] == ["image"]
    assert definition.runnable is True
    # Also where ComfyUI has no file of that kind at all.
    empty = copy.deepcopy(dict(INFO.raw))
    empty["LoadImage"]["input"]["required"]["image"][0] = []
    assert workflow(document, ObjectInfo(empty)).definition().inputs["required"] == ["image"]


def test_a_number_that_is_written_as_a_text_is_a_number() -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"] |= {"steps": "16", "cfg": "7.5", "seed": "5"}
    found = workflow(document)
    assert [(spec.name, spec.kind, spec.default) for spec in found.inputs[1:]] == [
        ("seed", "seed", 5),
        ("steps", "integer", 16),
        ("cfg", "float", 7.5),
    ]
    document["2"]["inputs"] |= {"steps": "many", "cfg": "nan", "seed": "9" * 30}
    found = workflow(document)
    # ComfyUI would refuse a text that is none: the default counts, and the file is of a newer one.
    assert [(spec.name, spec.default) for spec in found.inputs[1:]] == [("steps", 20)]
    assert found.missing is not None
    assert found.missing.unknown_inputs == [MissingInput(node="2", input="steps", type="STRING")]
    for key, value in (("cfg", "nan"), ("seed", "9" * 30)):
        assert found.graph.nodes["2"].inputs[key] == value


@pytest.mark.parametrize(
    ("module", "steps", "taken"),
    [
        ("nodes", 20_000, 10_000),
        ("nodes", 0, 1),
        ("nodes", "20000", 10_000),
        ("nodes", 30, 30),
        # A pack's node may check its numbers itself.
        ("custom_nodes.a_pack", 20_000, 20_000),
    ],
)
def test_a_number_that_the_class_would_refuse_is_the_nearest_that_it_takes(
    module: str, steps: Any, taken: int
) -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"]["steps"] = steps
    declared = copy.deepcopy(INFO.raw["Sampler"])
    declared["input"]["required"]["steps"] = ["INT", {"default": 20, "min": 1, "max": 10_000}]
    info = ObjectInfo({**INFO.raw, "Sampler": {**declared, "python_module": module}})
    found = workflow(document, info)
    assert found.graph.nodes["2"].inputs["steps"] == taken
    assert found.missing is not None
    unknown = (
        [] if str(taken) == str(steps) else [MissingInput(node="2", input="steps", type="INT")]
    )
    assert found.missing.unknown_inputs == unknown


@pytest.mark.parametrize(
    "declared", [["FLOAT,INT", {"widgetType": "FLOAT"}], ["INT,FLOAT", {}], ["FLOAT", {}]]
)
def test_what_takes_every_number_takes_a_float_also_where_the_file_has_a_whole_one(
    declared: Any,
) -> None:
    raw = dict(comparison.load("object-info-0.33.0"))  # all of it takes long to copy
    name = "LTXVEmptyLatentAudio"
    raw[name] = copy.deepcopy(raw[name])
    limits = {"default": 25.0, "min": 1.0, "max": 1000.0}
    kind, options = declared
    raw[name]["input"]["required"]["frame_rate"] = [kind, options | limits]
    values = {"frames_number": 97, "frame_rate": 25, "batch_size": 1, "audio_vae": ["3", 0]}
    document = {
        "1": {"class_type": "LTXVEmptyLatentAudio", "inputs": values},
        "2": {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "x"}},
        "3": {"class_type": "LTXVAudioVAELoader", "inputs": {"ckpt_name": "a"}},
    }
    found = workflow(document, ObjectInfo(raw))
    rate = found.places["1.frame_rate"]
    assert (rate.kind, rate.default, rate.maximum) == ("float", 25, 1000)
    assert KINDS[rate.kind].coerce(rate, 23.976) == 23.976


def test_a_link_that_is_missing_before_an_output_is_named() -> None:
    document = copy.deepcopy(PLAIN)
    del document["2"]["inputs"]["model"]
    definition = workflow(document).definition()
    assert definition.runnable is False
    assert definition.missing == Missing(
        inputs=[MissingInput(node="2", input="model", type="MODEL")]
    )
    del document["2"]["inputs"]["steps"]
    definition = workflow(document).definition()
    assert definition.missing is not UNSET
    assert [each.input for each in definition.missing.inputs] == ["steps", "model"]
    # ComfyUI looks only at what an output needs.
    document["58:4"]["inputs"]["images"] = ["3", 0]
    assert workflow(document).definition().runnable is True


def test_an_input_that_the_server_is_too_old_for_is_named_and_the_rest_runs() -> None:
    sampler = {**INFO.raw["Sampler"], "python_module": "nodes"}
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"]["hint"] = ["3", 1]
    document["2"]["inputs"]["text"] = "a literal that the page leaves there"
    built = workflow(document, ObjectInfo({**INFO.raw, "Sampler": sampler}))
    definition = built.definition()
    assert definition.runnable is True
    # ComfyUI passes over values that it does not know, and fails at links.
    assert "hint" not in built.graph.nodes["2"].inputs
    assert "text" in built.graph.nodes["2"].inputs
    assert definition.missing == Missing(
        unknown_inputs=[MissingInput(node="2", input="hint", type="MASK")]
    )
    # Of nodes of others it cannot be known: many take what they do not declare.
    pack = {**sampler, "python_module": "custom_nodes.a_pack"}
    known = ObjectInfo({**INFO.raw, "Sampler": pack})
    of_pack = workflow(document, known)
    assert of_pack.definition().missing is UNSET
    assert "hint" in of_pack.graph.nodes["2"].inputs


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("3d_moge_perspective_to_mesh", ["67:55.refine_steps INT"]),
        ("api_recraft_v4_1_flash_t2i", ["12.style_id STRING", "12.style_match STRING"]),
        # Values of another type, in the root and in a subgraph, are the server's default.
        ("video_ltx2_3_t2v", ["267:242.color_space STRING", "267:242.bit_depth STRING"]),
        ("api_minimax_h3_max_i2v", ["24.seed STRING"]),
        # What the page keeps of its own is none: buttons, what becomes of a seed.
        ("api_bytedance_seedream_5_0_flash_image_edit", []),
        ("image_z_image_turbo", []),
    ],
)
def test_values_that_the_server_is_too_old_for_are_named(name: str, unknown: list[str]) -> None:
    data = json.dumps(comparison.load("templates-0.1.123")[name]).encode()
    info = comparison.live_object_info()
    found = source.read(f"{name}.json", data).build("any", info)
    assert found.missing is not None
    assert [
        f"{each.node}.{each.input} {each.type}" for each in found.missing.unknown_inputs
    ] == unknown
    inputs = [found.find_input(each.partition(" ")[0]) for each in unknown]
    # Most are no inputs here; a number is one nevertheless.
    assert all(each is None or isinstance(each.default, int) for each in inputs)


def test_a_choice_among_what_another_choice_brings_is_named_where_the_server_lacks_it() -> None:
    document = comparison.load("templates-0.1.123")["api_bytedance_seedream_5_0_lite_image_edit"]
    data = json.dumps(document).encode()
    found = source.read("any.json", data).build("any", comparison.live_object_info())
    assert found.missing is not None
    (choice,) = found.missing.choices
    assert (choice.node, choice.input) == ("35", "model.size_preset")
    assert choice.value == "(1K) 1024x1024 (1:1)"
    assert choice.allowed[0] == "(2K) 2048x2048 (1:1)"


def test_templates_of_a_newer_comfyui_name_what_they_need() -> None:
    info = comparison.live_object_info()
    document = comparison.load("templates-0.1.123")["image_flux3_klein_t2i"]
    prompt = convert(document, info, keep_unknown=True)
    found = definition.build("any", "v1", graph.parse(prompt), info)
    assert found.missing is not None
    assert [str(NodeInput(each.node, each.input)) for each in found.missing.unknown_inputs] == [
        "18:11.system_prompt"
    ]
