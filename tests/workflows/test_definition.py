from __future__ import annotations

import ast
import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from bridge.contract.errors import BridgeError, InvalidInput
from bridge.contract.messages import encode
from bridge.contract.topics import is_id
from bridge.workflows import binding, constraints, definition, graph, outputs
from bridge.workflows.conversion import ConversionError, convert
from bridge.workflows.graph import WorkflowError
from bridge.workflows.inputs import BY_NODE, KINDS, SEED_MAX, InputKind
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison
from tests.workflows.graphs import INFO, NAMED, PLAIN, workflow


def properties(document: dict[str, Any], info: ObjectInfo | None = INFO) -> dict[str, Any]:
    found: dict[str, Any] = workflow(document, info).definition().inputs["properties"]
    return found


def test_our_nodes_name_the_inputs() -> None:
    found = workflow(NAMED)
    assert [(spec.name, spec.kind) for spec in found.inputs] == [
        ("prompt", "text"),
        ("seed", "seed"),
        ("steps", "integer"),
        ("cfg", "float"),
        ("tiled", "boolean"),
        ("picture", "image"),
        ("style", "image"),
    ]
    definition = found.definition()
    assert definition.inputs["required"] == ["picture"]  # no default, no example
    assert [output.name for output in definition.outputs] == ["result"]
    assert definition.runnable is True
    assert definition.missing is UNSET


def test_an_input_describes_what_it_takes() -> None:
    found = properties(NAMED)
    assert found["prompt"] == {
        "x-kind": "text",
        "type": "string",
        "maxLength": 20,
        "x-multiline": True,
        "title": "Prompt",
        "default": "a barn",
    }
    # The node says 5 to 1000; what takes its value, 1 to 100.
    assert found["steps"] == {
        "x-kind": "integer",
        "type": "integer",
        "minimum": 5,
        "maximum": 100,
        "default": 20,
    }
    assert "default" not in found["seed"]  # a random one where it is left out
    assert (found["seed"]["minimum"], found["seed"]["maximum"]) == (0, SEED_MAX)
    assert (found["cfg"]["minimum"], found["cfg"]["maximum"]) == (0.0, 30.0)


def test_without_our_nodes_plain_names_come_first_and_every_literal_by_its_place() -> None:
    found = properties(PLAIN)
    assert {name: spec["x-kind"] for name, spec in found.items()} == {
        "image": "image",
        "seed": "seed",
        "steps": "integer",
        "cfg": "float",
        "1.ckpt": "choice",
        "2.sampler": "choice",
        "2.tiled": "boolean",
        "58:4.filename_prefix": "text",
    }
    assert list(found)[:4] == ["image", "seed", "steps", "cfg"]
    assert found["steps"]["title"] == "The sampler: steps"
    assert found["steps"]["description"] == "How many."
    # An input without a name is described in brief: its place and its present value.
    assert found["2.sampler"] == {
        "x-kind": "choice",
        "x-place": "The sampler: sampler",
        "default": "euler",
    }


def test_an_input_is_reached_by_its_place_and_by_an_unmistakable_title() -> None:
    found = workflow(PLAIN)
    assert found.find_input("2.steps") == found.find_input("The sampler.steps")
    assert found.find_input("2.steps") in found.inputs
    twice = copy.deepcopy(PLAIN)
    twice["3"]["_meta"] = {"title": "The sampler"}
    assert workflow(twice).find_input("The sampler.steps") is None
    assert workflow(NAMED).find_input("8.sampler") is None  # its own nodes name what can be given


def test_without_object_info_kinds_come_from_the_values() -> None:
    found = workflow(PLAIN, None)
    kinds = {spec.name: spec.kind for spec in found.places.values()}
    assert kinds["steps"] == "integer"
    assert kinds["cfg"] == "float"
    assert kinds["2.tiled"] == "boolean"
    assert kinds["1.ckpt"] == "text"
    assert found.definition().runnable is UNSET
    assert [output.name for output in found.outputs] == ["SaveImage"]


def test_outputs_of_one_name_are_distinguished() -> None:
    document = copy.deepcopy(PLAIN)
    document["9"] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}
    document["10"] = {"class_type": "OtherSave", "inputs": {"any": ["2", 0]}}
    assert [(output.name, output.kind) for output in workflow(document).outputs] == [
        ("SaveImage", "image"),
        ("SaveImage 9", "image"),
        ("OtherSave", "file"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"2": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "prompt"}}}, "is taken"),
        ({"2": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "$x"}}}, r"begins with \$"),
    ],
)
def test_a_bad_name_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkflowError, match=reason) as caught:
        workflow({**NAMED, **change})
    assert caught.value.node == "2"


def test_a_graph_without_an_output_is_no_workflow() -> None:
    with pytest.raises(WorkflowError, match="no output node"):
        workflow({"1": PLAIN["1"]})


def test_a_definition_can_be_sent() -> None:
    for document in (NAMED, PLAIN):
        for info in (INFO, None):
            encode(workflow(document, info).definition())


def test_every_input_and_output_node_of_ours_has_a_row_and_every_row_its_node() -> None:
    table = ast.parse(Path("custom_nodes/comfy2mqtt/table.py").read_text())
    words = {node.value for node in ast.walk(table) if isinstance(node, ast.Constant)}
    for rows, ending in ((BY_NODE, "Input"), (outputs.OURS, "Output")):
        named = {str(word) for word in words if str(word).startswith("Comfy2MQTT")}
        assert set(rows) == {word for word in named if word.endswith(ending)}


def test_many_choices_are_named_and_kept_apart() -> None:
    many = [f"model{index}" for index in range(51)]
    raw = copy.deepcopy(dict(INFO.raw))
    raw["Loader"]["input"]["required"] = {"ckpt_name": ["COMBO", {"options": many}]}
    document = {**PLAIN, "1": {"class_type": "Loader", "inputs": {"ckpt_name": "model7"}}}
    found = workflow(document, ObjectInfo(raw))
    (spec,) = [spec for spec in found.inputs if spec.name == "checkpoint"]
    described = found.definition().inputs["properties"]["checkpoint"]
    assert described["x-choices"] == "Loader-ckpt_name"
    assert "enum" not in described
    assert found.choices() == {"Loader-ckpt_name": tuple(many)}
    assert spec.choices == tuple(many)
    raw["Loader"]["input"]["required"] = {"ckpt_name": ["COMBO", {"options": many[:50]}]}
    few = workflow(document, ObjectInfo(raw))
    assert few.choices() == {}
    assert few.definition().inputs["properties"]["checkpoint"]["enum"] == many[:50]


def test_the_name_of_a_list_fits_into_a_topic() -> None:
    assert constraints.list_name("KSampler", "scheduler") == "KSampler-scheduler"
    for owner in ("Class with spaces", "x" * 100, "a/b", "ä+#"):
        name = constraints.list_name(owner, "model.name")
        assert is_id(name)
        assert name != constraints.list_name(f"{owner} ", "model.name")


def test_a_definition_lists_its_node_classes_and_an_example_that_can_be_sent() -> None:
    definition = workflow(NAMED).definition()
    assert definition.nodes == sorted({node["class_type"] for node in NAMED.values()})
    assert definition.example["picture"]["base64"]
    assert definition.example["prompt"] == "a barn"
    bound = binding.bind(workflow(NAMED), definition.example, randint=lambda low, _: low)
    assert [each.spec.name for each in bound.media] == ["picture"]


def test_outputs_have_their_content_type_before_there_are_any() -> None:
    document = {
        **NAMED,
        "10": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
        "11": {"class_type": "OtherSave", "inputs": {"any": ["8", 0]}},
    }
    document["9"] = {
        "class_type": "Comfy2MQTTImageOutput",
        "inputs": {"images": ["8", 0], "name": "result", "format": "WebP"},
    }
    found = {output.name: output.content_type for output in workflow(document).outputs}
    assert found == {"result": "image/webp", "SaveImage": "image/png", "OtherSave": UNSET}


def test_a_choice_input_of_ours_offers_its_lines_or_what_it_is_wired_to() -> None:
    inputs = {"name": "how", "value": "ddim", "choices": ""}
    node: dict[str, Any] = {"class_type": "Comfy2MQTTChoiceInput", "inputs": inputs}
    document = copy.deepcopy(NAMED)
    document["20"] = node
    document["8"]["inputs"]["sampler"] = ["20", 0]
    assert properties(document)["how"]["enum"] == ["euler", "ddim"]
    node["inputs"] = {"name": "how", "value": "b", "choices": "a\n\n b \na"}
    assert properties(document)["how"]["enum"] == ["a", "b"]
    node["inputs"] = {"name": "how", "value": "b", "choices": ""}
    assert properties(document, None)["how"]["type"] == "string"  # no ComfyUI has reported it yet
    lacking = workflow(document).missing
    assert lacking is not None
    assert [(each.node, each.input, each.value) for each in lacking.choices] == [
        ("20", "value", "b")
    ]


def test_a_list_or_an_object_is_given_as_json() -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"] |= {"curve": {"__value__": [1, 2]}, "box": {"x": 1}}
    found = properties(document)
    assert found["2.curve"] == {
        "x-kind": "json",
        "x-place": "The sampler: curve",
        "default": [1, 2],
    }
    values = {"2.curve": ["1", "0"], "2.box": {"y": ["1", 0]}}
    bound = binding.bind(workflow(document), values, randint=lambda low, _: low)
    assert bound.prompt["2"]["inputs"]["curve"] == {"__value__": ["1", "0"]}
    assert bound.prompt["2"]["inputs"]["box"] == {"y": ["1", 0]}
    with pytest.raises(InvalidInput):
        binding.bind(workflow(document), {"2.box": ["1", "0"]}, randint=lambda low, _: low)


DEEP: Any = 0
for _ in range(graph.MAX_NESTING + 1):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [["a", 0], ["1", 0], ["1", 1.5], ["1", True], ["", -1], DEEP, [float("nan")], [[10**30]]],
)
def test_a_value_that_comfyui_takes_for_something_else_is_refused(value: Any) -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"]["curve"] = {"__value__": [1, 2]}
    with pytest.raises(InvalidInput) as caught:
        binding.bind(workflow(document), {"2.curve": value}, randint=lambda low, _: low)
    assert caught.value.details["input"] == "2.curve"
    for inner in (value, {"__value__": value}, {"__type__": "CURVE", "__value__": value}):
        document["2"]["inputs"]["curve"] = inner
        if inner == ["1", 0]:
            continue  # in a file a link
        with pytest.raises(WorkflowError) as refused:
            graph.parse(document)
        assert refused.value.node == "2"


@pytest.mark.parametrize("value", [{"__value__": ["a", 0]}, {"__value__": 5, "x": 1}])
def test_an_object_that_comfyui_would_unwrap_is_refused(value: Any) -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"]["box"] = {"x": 1}
    with pytest.raises(InvalidInput, match="__value__"):
        binding.bind(workflow(document), {"2.box": value}, randint=lambda low, _: low)


@pytest.mark.parametrize("value", ["9" * 30, 2**64, -(2**63) - 1])
def test_an_integer_has_at_most_64_bits(value: Any) -> None:
    with pytest.raises(InvalidInput, match="64 bits"):
        binding.bind(workflow(PLAIN, None), {"steps": value}, randint=lambda low, _: low)


def test_a_chain_that_comfyui_cannot_follow_is_refused() -> None:
    document = copy.deepcopy(PLAIN)
    document |= {
        f"c{index}": {"class_type": "Unheard", "inputs": {"x": [f"c{index - 1}", 0]}}
        for index in range(1, graph.MAX_CHAIN)
    }
    document["c0"] = {"class_type": "Unheard", "inputs": {}}
    assert workflow(document).outputs
    document["c0"]["inputs"]["x"] = ["1", 0]
    with pytest.raises(WorkflowError, match="follow one another"):
        workflow(document)


def test_an_output_that_depends_on_itself_is_refused() -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"]["model"] = ["5", 0]
    document["5"] = {"class_type": "Unheard", "inputs": {"x": ["6", 0]}}
    document["6"] = {"class_type": "Unheard", "inputs": {"x": ["5", 0], "y": ["1", 0]}}
    with pytest.raises(WorkflowError, match="depends on its own output: ") as caught:
        workflow(document)
    assert caught.value.node in ("5", "6")
    del document["2"]["inputs"]["model"]
    assert workflow(document).outputs  # nobody needs the two


@pytest.mark.parametrize("output", [1, 7])
def test_a_link_to_an_output_that_a_node_has_not_is_refused(output: int) -> None:
    document = copy.deepcopy(PLAIN)
    document["2"]["inputs"]["model"] = ["1", output]
    with pytest.raises(WorkflowError, match=rf"takes output {output} of node 1 \(Loader\)"):
        workflow(document)
    assert workflow(document, None).outputs  # not known yet
    document["2"]["inputs"]["model"] = ["1", -1]
    with pytest.raises(WorkflowError, match="the first is 0"):
        workflow(document, None)


@pytest.mark.slow
@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_every_template_of_the_packages_can_be_drawn_and_described(version: str) -> None:
    info = comparison.object_info(version)
    drawn = incomplete = 0
    for name, document in comparison.load(f"templates-{version}").items():
        try:
            prompt = convert(document, info)
        except ConversionError:
            continue
        drawn += 1
        found = definition.build(name, "v1", graph.parse(prompt), info)
        assert len(encode(found.definition())) < 100_000
        assert not found.missing or not found.missing.nodes
        incomplete += bool(found.missing and found.missing.inputs)
        for spec in found.inputs:
            assert found.find_input(str(spec.target)) == spec
    assert incomplete == 0
    assert drawn == {"0.3.75": 177, "0.33.0": 499}[version]


LITERALS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
VALUES = st.recursive(
    LITERALS | st.tuples(st.sampled_from("123"), st.integers(0, 2)).map(list),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
NODES = st.builds(
    lambda kind, inputs, title: {"class_type": kind, "inputs": inputs, "_meta": {"title": title}},
    st.sampled_from([*INFO, *BY_NODE, "Unheard"]),
    st.dictionaries(
        st.sampled_from(["name", "value", "image", "seed", "text", "ckpt", "format", "minimum"])
        | st.text(max_size=4),
        VALUES,
    ),
    st.none() | st.text(max_size=3),
)


@given(st.fixed_dictionaries(dict.fromkeys("123", NODES)), st.sampled_from([INFO, None]))
def test_any_graph_is_drawn_or_refused_and_stays_as_it_is(
    document: dict[str, Any], info: ObjectInfo | None
) -> None:
    before = copy.deepcopy(document)
    with suppress(WorkflowError):
        found = definition.build("any", "v1", graph.parse(document), info)
        encode(found.definition())
        with suppress(BridgeError):
            bound = binding.bind(found, {}, randint=lambda low, _: low)
            for node in bound.prompt.values():
                node["inputs"]["changed"] = True
    assert repr(document) == repr(before)  # NaN is not equal to itself


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.media])
def test_media_goes_to_the_place_that_its_node_has_for_it(kind: InputKind) -> None:
    node = {"class_type": kind.node, "inputs": {"name": "given", kind.place: ""}}
    found = workflow({**NAMED, "20": node})
    (spec,) = [spec for spec in found.inputs if spec.name == "given"]
    assert (spec.kind, str(spec.target), spec.required) == (kind.name, f"20.{kind.place}", True)
    described = found.definition().inputs["properties"]["given"]
    assert described["contentMediaType"].endswith("/*")
    assert (described["type"] == ["object", "array"]) is kind.batch


def test_what_is_saved_comes_before_previews() -> None:
    document = {
        "10": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "11": {"class_type": "ImageCompare", "inputs": {"image_a": ["2", 0]}},
        **PLAIN,
        "12": {"class_type": "OtherSave", "inputs": {"any": ["2", 0]}},
    }
    assert [(output.node, output.preview) for output in workflow(document).outputs] == [
        ("58:4", UNSET),
        ("12", UNSET),
        ("10", True),
        ("11", True),
    ]


@pytest.mark.parametrize(
    ("class_type", "chosen", "kind", "content_type"),
    [
        ("SaveImageAdvanced", "png", "image", "image/png"),
        ("SaveImageAdvanced", "exr", "image", "image/x-exr"),
        ("SaveAudioAdvanced", "opus", "audio", "audio/ogg"),
        ("SaveText", "md", "text", "text/markdown; charset=utf-8"),
        ("SaveSVGNode", None, "file", "image/svg+xml"),
    ],
)
def test_savers_of_newer_servers_are_declared_with_their_kind(
    class_type: str, chosen: str | None, kind: str, content_type: str
) -> None:
    inputs = {} if chosen is None else {"format": chosen}
    (output,) = workflow({"1": {"class_type": class_type, "inputs": inputs}}).outputs
    assert (output.kind, output.content_type) == (kind, content_type)


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_every_class_of_comfyuis_own_that_saves_or_shows_something_is_declared(
    version: str,
) -> None:
    info = comparison.object_info(version)
    own = {
        name
        for name in info
        if (found := info.get(name)) is not None and found.output_node and not found.is_partner
    }
    # A canvas of the page: which file it leaves, if any, is not its to say.
    assert {name for name in own if name not in outputs.THEIRS} == (
        {"CreateBoundingBoxes"} & set(info)
    )


@pytest.mark.parametrize("said", [1, "yes", 0, None])
def test_a_node_that_comfyui_does_not_take_for_an_output_is_none(said: Any) -> None:
    # ComfyUI refuses a prompt whose only output node says `OUTPUT_NODE = 1`.
    odd = {"input": {"required": {}}, "output": [], "output_node": said}
    parsed = graph.parse({"1": {"class_type": "Odd", "inputs": {}}})
    with pytest.raises(WorkflowError, match="no output node"):
        definition.build("any", "v1", parsed, ObjectInfo({"Odd": odd}))
    found = definition.build("any", "v1", parsed, ObjectInfo({"Odd": {**odd, "output_node": True}}))
    assert [(each.name, each.kind) for each in found.outputs] == [("Odd", "file")]
