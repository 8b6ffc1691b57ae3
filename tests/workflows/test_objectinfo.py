"""The view over `/object_info`: what each declared input is, in every dialect that exists."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.workflows.objectinfo import InputSpec, NodeClass, ObjectInfo, ObjectInfoError
from tests.vectors import comparison


def node_class(**raw: Any) -> NodeClass:
    found = ObjectInfo({"Node": raw}).get("Node")
    assert found is not None
    return found


def only_input(declared: Any) -> InputSpec:
    return node_class(input={"required": {"it": declared}}).inputs[0]


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_every_class_of_a_real_server_can_be_read(version: str) -> None:
    info = comparison.object_info(version)

    classes = [info.get(name) for name in info]

    assert len(classes) == len(info) > 500
    assert all(each is not None and each.name in info for each in classes)


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_the_sampler_of_a_real_server_is_read_as_it_is_declared(version: str) -> None:
    sampler = comparison.object_info(version).get("KSampler")

    assert sampler is not None
    assert [spec.name for spec in sampler.inputs] == [
        *("model", "seed", "steps", "cfg", "sampler_name", "scheduler"),
        *("positive", "negative", "latent_image", "denoise"),
    ]
    seed, steps, cfg = sampler.inputs[1:4]
    assert (seed.type, seed.maximum, seed.control_after_generate) == ("INT", 2**64 - 1, True)
    assert (steps.default, steps.minimum, steps.maximum) == (20, 1, 10_000)
    assert (cfg.type, cfg.default, cfg.step, cfg.rounding) == ("FLOAT", 8.0, 0.1, 0.01)
    assert "euler" in (sampler.inputs[4].choices or ())
    assert [spec.widget_type for spec in sampler.inputs if spec.choices is None] == [
        *("MODEL", "INT", "INT", "FLOAT", "CONDITIONING", "CONDITIONING", "LATENT", "FLOAT")
    ]
    assert [(each.name, each.type) for each in sampler.outputs] == [("LATENT", "LATENT")]
    assert not sampler.output_node


def test_inputs_stand_in_the_servers_order_also_where_the_keys_were_sorted() -> None:
    declared = node_class(
        input={"required": {"a": ["INT"], "z": ["INT"]}, "optional": {"b": ["INT"], "y": ["INT"]}},
        input_order={"required": ["z", "a"], "optional": ["y"]},
    )

    # What the order does not name comes last.
    assert [spec.name for spec in declared.inputs] == ["z", "a", "y", "b"]
    assert [spec.required for spec in declared.inputs] == [True, True, False, False]


def test_both_kinds_of_combo_give_their_choices() -> None:
    old = only_input([["a", "b"], {"default": "b"}])
    new = only_input(["COMBO", {"options": ["a", "b"], "default": "b"}])

    assert (old.type, old.choices, old.default) == (new.type, new.choices, new.default)
    assert (new.type, new.choices, new.default) == ("COMBO", ("a", "b"), "b")


@pytest.mark.parametrize(
    ("declared", "widget_type", "force_input"),
    [
        (["STRING", {"multiline": True}], "STRING", False),
        (["STRING", {"forceInput": True}], "STRING", True),
        (["IMAGE"], "IMAGE", False),
        (["FLOAT,INT", {"widgetType": "FLOAT"}], "FLOAT", False),
        (["COMFY_DYNAMICCOMBO_V3", {"options": []}], "COMFY_DYNAMICCOMBO_V3", False),
        ([["a"], {}], "COMBO", False),
    ],
)
def test_how_a_value_is_typed_in(declared: Any, widget_type: str, *, force_input: bool) -> None:
    spec = only_input(declared)
    assert (spec.widget_type, spec.force_input) == (widget_type, force_input)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"image_upload": True}, "image"),
        ({"animated_image_upload": True}, "image"),
        ({"video_upload": True, "file_upload": True}, "video"),
        ({"audio_upload": True}, "audio"),
        ({"file_upload": True}, "file"),
        ({}, None),
    ],
)
def test_an_input_says_what_kind_of_file_it_takes(options: Any, kind: str | None) -> None:
    assert only_input([["a.png"], options]).upload == kind


def test_a_choice_of_a_dynamic_combo_brings_its_inputs() -> None:
    spec = only_input(
        [
            "COMFY_DYNAMICCOMBO_V3",
            {
                "options": [
                    {"key": "auto", "inputs": {"required": {}}},
                    {
                        "key": "custom",
                        "inputs": {"required": {"w": ["INT"]}, "optional": {"m": ["MASK"]}},
                    },
                ]
            },
        ]
    )

    assert spec.choices == ("auto", "custom")
    custom = spec.branch("custom")
    assert custom is not None
    assert [(each.name, each.type, each.required) for each in custom.inputs] == [
        ("w", "INT", True),
        ("m", "MASK", False),
    ]
    assert spec.branch("other") is None
    assert [each.key for each in spec.branches] == ["auto", "custom"]


def test_a_growing_list_names_its_members() -> None:
    image = {"required": {"image": ["IMAGE", {}]}}
    numbered = only_input(
        ["COMFY_AUTOGROW_V3", {"template": {"input": image, "prefix": "img", "min": 2, "max": 50}}]
    ).growing()
    named = only_input(
        ["COMFY_AUTOGROW_V3", {"template": {"input": image, "names": ["a", "b"], "min": 1}}]
    ).growing()

    assert numbered is not None
    assert (numbered.minimum, numbered.maximum) == (2, 50)
    assert numbered.member_names(3) == ("img3",)
    assert named is not None
    assert named.maximum == 2
    assert [named.member_names(place) for place in range(3)] == [("a",), ("b",), ()]


def test_inputs_and_outputs_that_share_a_type_name_their_group() -> None:
    matched = ["COMFY_MATCHTYPE_V3", {"template": {"allowed_types": "*", "template_id": "t"}}]
    declared = node_class(
        input={"required": {"on": matched, "off": matched}},
        output=["COMFY_MATCHTYPE_V3"],
        output_name=["out"],
        output_matchtypes=["t"],
    )

    assert [spec.matched() for spec in declared.inputs] == [("t", "*"), ("t", "*")]
    assert [(each.name, each.match_group) for each in declared.outputs] == [("out", "t")]


def test_a_group_that_is_no_name_is_none() -> None:
    declared = ObjectInfo({"Odd": {"output": ["IMAGE"], "output_matchtypes": [["a"]]}}).get("Odd")

    assert declared is not None
    assert declared.outputs[0].match_group is None


def test_a_dotted_name_belongs_to_the_declared_name_before_the_dot() -> None:
    declared = node_class(input={"required": {"format": ["COMFY_DYNAMICCOMBO_V3", {}]}})

    assert declared.declares("format.codec.encoding")
    assert not declared.declares("formats.codec")


def test_hidden_inputs_are_none_that_anybody_fills_in() -> None:
    declared = node_class(input={"hidden": {"prompt": "PROMPT", "unique_id": ["UNIQUE_ID"]}})

    assert declared.inputs == ()
    assert [spec.type for spec in declared.hidden] == ["PROMPT", "UNIQUE_ID"]


def test_a_live_server_keeps_the_order_of_its_keys_and_a_sorted_file_has_lost_it() -> None:
    assert comparison.object_info("0.3.75").order_known()
    assert comparison.live_object_info().order_known()
    assert not comparison.object_info("0.33.0").order_known()


def test_an_order_that_names_no_inputs_says_nothing() -> None:
    inputs = {"required": {"b": ["INT", {}], "a": ["INT", {}]}}
    odd = {"input": inputs, "input_order": {"required": ["b", 7, None]}}
    good = {"input": inputs, "input_order": {"required": ["b", "a"]}}

    assert ObjectInfo({"Odd": odd}).order_known()
    assert ObjectInfo({"Odd": odd, "Good": good}).order_known()


def test_a_class_that_cannot_be_read_leaves_the_others_usable() -> None:
    grows = ["COMFY_AUTOGROW_V3", {"template": {"input": {"required": {"it": 7}}}}]
    brings = {"options": [{"key": "a", "inputs": {"required": {"it": grows}}}]}
    info = ObjectInfo(
        {
            "Bad": {"input": {"required": {"it": [7]}}},
            "Grows": {"input": {"required": {"it": grows}}},
            "Brings": {"input": {"required": {"it": ["COMFY_DYNAMICCOMBO_V3", brings]}}},
            "Good": {"input": {}},
            "Worse": 3,
        }
    )

    for name in ("Bad", "Grows", "Brings", "Worse"):
        with pytest.raises(ObjectInfoError) as caught:
            info.get(name)
        assert caught.value.class_type == name
    assert info.get("Good") is not None
    assert info.get("Missing") is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'"text"'])
def test_a_body_that_is_no_object_of_classes_is_refused(body: bytes) -> None:
    with pytest.raises(ObjectInfoError):
        ObjectInfo.decode(body)


def test_a_file_whose_name_is_not_utf_8_leaves_all_classes_usable() -> None:
    # As ComfyUI lists it; and the number of a class that has no limit.
    listed = {"input": {"required": {"image": [["a.png", "\udcff.png"], {}]}}}
    endless = {"input": {"required": {"it": ["FLOAT", {"min": 0, "max": float("inf")}]}}}
    info = ObjectInfo.decode(json.dumps({"Loads": listed, "Endless": endless}))

    loads, it = info.get("Loads"), info.get("Endless")
    assert loads is not None
    assert loads.inputs[0].choices == ("a.png", "?.png")
    assert it is not None
    assert (it.inputs[0].minimum, it.inputs[0].maximum) == (0, None)


def test_a_class_whose_json_is_no_text_leaves_the_others_usable() -> None:
    info = ObjectInfo.decode(b'{"Bad": {"description": "\xff"}, "Good": {"input": {}}}')

    with pytest.raises(ObjectInfoError) as caught:
        info.get("Bad")
    assert caught.value.class_type == "Bad"
    assert info.get("Good") is not None
    assert info.declares_key("input")
    assert info.order_known()


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    # On Python 3.14, which has more room on the stack, when the class is asked for.
    with pytest.raises(ObjectInfoError):
        ObjectInfo.decode(b'{"Deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}").get("Deep")


def test_what_a_server_says_takes_no_more_memory_than_its_json_until_it_is_asked_for() -> None:
    body = msgspec.json.encode(comparison.load("object-info-0.33.0"))
    tracemalloc.start()
    try:
        info = ObjectInfo.decode(body)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert info.get("KSampler") is not None
    assert held < len(body) / 4  # decoded it would be five times the body


def test_a_class_is_read_when_it_is_first_asked_for_and_then_kept() -> None:
    raw: dict[str, Any] = {"Node": {"input": {"required": {"it": ["INT"]}}}}
    info = ObjectInfo(raw)
    first = info.get("Node")
    raw["Node"]["input"] = {}

    assert info.get("Node") is first


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["input", "input_order", "output", "output_name", "output_matchtypes"]),
        json_values
        | st.fixed_dictionaries(
            {"required": json_values | st.dictionaries(st.just("it"), json_values)}
        ),
    )
)
def test_garbage_raises_only_the_documented_error(raw: dict[str, Any]) -> None:
    info = ObjectInfo({"Node": raw})
    try:
        declared = info.get("Node")
    except ObjectInfoError:
        return
    assert declared is not None
    for spec in declared.inputs:
        spec.growing()
        spec.matched()
        assert spec.upload in {"image", "video", "audio", "file", None}
