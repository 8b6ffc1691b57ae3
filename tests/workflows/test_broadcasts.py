"""Files that rely on Use Everywhere: what is sent to inputs without a link."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.workflows import source
from bridge.workflows.conversion import ConversionError, convert
from tests.vectors import comparison
from tests.vectors.drawing import INPUT_NODE, Drawing

MUTED, BYPASSED = 2, 4
SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"
CURRENT = {"version": "7.4.1"}


def empty(drawing: Drawing, identity: int, **more: Any) -> None:
    drawing.node(
        identity, "EmptyImage", values=[64, 48, 1, 255], outputs={"IMAGE": "IMAGE"}, **more
    )


def saver(drawing: Drawing, identity: int, **more: Any) -> None:
    drawing.node(identity, "SaveImage", values=["x"], inputs={"images": "IMAGE"}, **more)


def sender(
    drawing: Drawing, identity: int, origin: int, *, properties: Any = None, **more: Any
) -> None:
    """Draw a node that sends what an image node makes."""
    kind = more.pop("kind", "Anything Everywhere")
    own = {"ue_properties": {**CURRENT, **(properties or {})}} if properties != "old" else {}
    drawing.node(identity, kind, inputs={"anything": "*"}, properties=own, **more)
    drawing.link(origin, 0, identity, "anything")


def saved(drawing: Drawing, *nodes: int, version: str = "0.33.0") -> list[Any]:
    """Return the node that each saver takes its pictures from."""
    prompt = convert(drawing.document(), comparison.object_info(version))
    return [prompt[str(node)]["inputs"].get("images", [None])[0] for node in nodes]


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_what_is_sent_comes_to_all_that_takes_the_type_and_has_no_link(version: str) -> None:
    drawing = Drawing()
    empty(drawing, 1)
    empty(drawing, 2)
    sender(drawing, 3, 1)
    saver(drawing, 8)
    saver(drawing, 9)
    drawing.link(2, 0, 9, "images")

    assert saved(drawing, 8, 9, version=version) == ["1", "2"]
    prompt = convert(drawing.document(), comparison.object_info(version))
    assert prompt.keys() == {"1", "2", "8", "9"}


def test_a_link_that_the_extension_took_away_again_is_none() -> None:
    drawing = Drawing()
    empty(drawing, 1)
    sender(drawing, 3, 1)
    saver(drawing, 8)
    drawing.nodes[-1]["inputs"][0]["link"] = 77

    assert saved(drawing, 8) == ["1"]


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ({"title_regex": "^Save"}, ["1", None]),
        ({"title_regex": "^Save", "title_regex_invert": True}, [None, "1"]),
        ({"input_regex": "imag"}, ["1", "1"]),
        ({"input_regex": "^picture"}, [None, None]),
        ({"group_regex": "left"}, ["1", None]),
        ({"group_regex": "left", "group_regex_invert": True}, [None, "1"]),
        ({"group_restricted": 1}, ["1", None]),
        ({"group_restricted": 2}, [None, "1"]),
        ({"color_restricted": 1}, [None, "1"]),
        ({"color_restricted": 2}, ["1", None]),
        ({"color_restricted": 1, "group_restricted": 1}, [None, None]),
        ({"title_regex": "*"}, ["1", "1"]),
    ],
)
def test_a_sender_sends_as_far_as_it_is_let(rules: Any, wanted: list[Any]) -> None:
    drawing = Drawing()
    empty(drawing, 1)
    size = {"size": [100, 50]}
    sender(drawing, 3, 1, properties=rules, pos=[10, 50], color="#222", **size)
    saver(drawing, 8, pos=[10, 150], color="#333", **size)
    saver(drawing, 9, title="Other", pos=[500, 150], color="#222", **size)
    document = drawing.document()
    document["groups"] = [
        {"title": "left", "bounding": [0, 0, 200, 400]},
        {"title": "right", "bounding": [400, 0, 300, 400]},
    ]

    prompt = convert(document, comparison.object_info("0.33.0"))

    found = [prompt[node]["inputs"].get("images", [None])[0] for node in ("8", "9")]
    assert found == wanted


def test_what_is_drawn_nowhere_is_in_no_group() -> None:
    drawing = Drawing()
    empty(drawing, 1)
    sender(drawing, 3, 1, properties={"group_restricted": 1}, pos=[10, 50], size=[100, 50])
    saver(drawing, 8, pos=[10**400, 0.5], size=[100, 50])
    document = drawing.document()
    document["groups"] = [
        {"title": "left", "bounding": [0.5, 0, 200, 400]},
        {"title": "nowhere", "bounding": [0, 0, 10**400, 0.5]},
    ]

    prompt = convert(document, comparison.object_info("0.33.0"))
    assert "images" not in prompt["8"]["inputs"]


def test_of_two_senders_the_more_particular_counts_and_of_two_alike_none() -> None:
    for first, second, wanted in (
        ({}, {"title_regex": "Save"}, "2"),
        ({"group_restricted": 2}, {"color_restricted": 1}, "2"),
        ({"priority": 50}, {"title_regex": "Save"}, "1"),
        ({}, {}, None),
    ):
        drawing = Drawing()
        empty(drawing, 1)
        empty(drawing, 2)
        sender(drawing, 3, 1, properties=first)
        sender(drawing, 4, 2, properties=second)
        saver(drawing, 9)
        assert saved(drawing, 9) == [wanted], (first, second)


def test_who_takes_nothing_gets_nothing_and_who_sends_does_not_feed_itself() -> None:
    drawing = Drawing()
    drawing.node(
        1,
        "ImageInvert",
        inputs={"image": "IMAGE"},
        outputs={"IMAGE": "IMAGE"},
        properties={"ue_convert": True},
    )
    saver(drawing, 7, properties={"rejects_ue_links": True})
    saver(
        drawing,
        8,
        properties={"ue_properties": {"input_ue_unconnectable": {"images": True}}},
    )
    saver(drawing, 9)

    assert saved(drawing, 7, 8, 9) == [None, None, "1"]
    prompt = convert(drawing.document(), comparison.object_info("0.33.0"))
    assert "image" not in prompt["1"]["inputs"]


def test_what_is_muted_sends_nothing_and_what_is_bypassed_passes_on() -> None:
    for mode, wanted in ((MUTED, None), (BYPASSED, "1")):
        drawing = Drawing()
        empty(drawing, 1)
        drawing.node(
            2, "ImageInvert", inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"}, mode=mode
        )
        drawing.link(1, 0, 2, "image")
        sender(drawing, 3, 2)
        saver(drawing, 9)
        assert saved(drawing, 9) == [wanted]
    drawing = Drawing()
    empty(drawing, 1)
    sender(drawing, 3, 1, mode=BYPASSED)
    saver(drawing, 9)
    assert saved(drawing, 9) == [None]


def sampled(drawing: Drawing) -> None:
    """Draw a sampler whose `seed` has a slot."""
    drawing.node(
        5,
        "KSampler",
        values=[7, "fixed", 20, 8, "euler", "normal", 1],
        inputs={
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
        },
        widgets={"seed": "INT", "steps": "INT"},
        outputs={"LATENT": "LATENT"},
    )


def test_a_seed_goes_to_seeds_that_take_it_whether_the_extension_is_there_or_not() -> None:
    drawing = Drawing()
    sampled(drawing)
    drawing.node(4, "Seed Everywhere", values=[55, "randomize"], outputs={"INT": "INT"})

    prompt = convert(drawing.document(), comparison.object_info("0.33.0"))

    assert prompt["4"] == {
        "class_type": "PrimitiveInt",
        "inputs": {"value": 55},
        "_meta": {"title": "Int"},
    }
    inputs = prompt["5"]["inputs"]
    assert (inputs["seed"], inputs["steps"]) == (["4", 0], 20)

    drawing.nodes[0]["properties"] = {"ue_properties": {"widget_ue_connectable": {"steps": True}}}
    inputs = convert(drawing.document(), comparison.object_info("0.33.0"))["5"]["inputs"]
    assert (inputs["seed"], inputs["steps"]) == (7, 20)


@pytest.mark.parametrize("named", [True, False])
def test_prompts_go_by_the_names_of_what_takes_them(*, named: bool) -> None:
    drawing = Drawing()
    sampled(drawing)
    for identity in (1, 2):
        drawing.node(
            identity,
            "CLIPTextEncode",
            values=["x"],
            inputs={"clip": "CLIP"},
            outputs={"CONDITIONING": "CONDITIONING"},
        )
    own = {"ue_properties": {**CURRENT, "prompt_regexes": True}} if named else {}
    slots = {"positive": "*", "negative": "*"}
    drawing.node(3, "Prompts Everywhere", inputs=slots, properties=own)
    drawing.link(1, 0, 3, "positive")
    drawing.link(2, 0, 3, "negative")

    inputs = convert(drawing.document(), comparison.object_info("0.33.0"))["5"]["inputs"]

    assert (inputs["positive"], inputs["negative"]) == (["1", 0], ["2", 0])


@pytest.mark.parametrize(
    ("rule", "names", "title", "wanted"),
    [
        (0, ("images", "image"), None, "1"),
        (1, ("imag", "other"), None, "1"),
        (2, ("other", "ages"), None, "2"),
        (3, ("other", "Mine"), "Mine", "2"),
        (4, ("^i.*s$", "^other"), None, "1"),
        (0, ("one", "two"), None, None),
    ],
)
def test_values_of_one_type_are_distinguished_by_their_names(
    rule: int, names: tuple[str, str], title: str | None, wanted: str | None
) -> None:
    drawing = Drawing()
    empty(drawing, 1)
    empty(drawing, 2)
    properties = {"ue_properties": {**CURRENT, "repeated_type_rule": rule}}
    drawing.node(3, "Anything Everywhere", inputs=dict.fromkeys(names, "*"), properties=properties)
    for origin, name in enumerate(names, 1):
        drawing.link(origin, 0, 3, name)
    saver(drawing, 9, **({} if title is None else {"title": title}))

    assert saved(drawing, 9) == [wanted]


def test_a_subgraphs_outputs_are_sent_to_as_well() -> None:
    inner = Drawing()
    empty(inner, 1)
    sender(inner, 3, 1)
    drawing = Drawing()
    drawing.node(20, SUBGRAPH, outputs={"out0": "IMAGE"})
    saver(drawing, 9)
    drawing.link(20, 0, 9, "images")
    definition = inner.definition(SUBGRAPH, outputs=1)
    definition["outputs"][0]["type"] = "IMAGE"

    prompt = convert(drawing.document(definition), comparison.object_info("0.33.0"))

    assert prompt["9"]["inputs"]["images"] == ["20:1", 0]


def test_a_value_may_be_sent_to_any_type_where_that_is_allowed_and_never_to_combos() -> None:
    for rules, wanted in (
        ({}, ("nearest-exact", None)),
        # The page fails to make the link, and ComfyUI would refuse it.
        ({"string_to_combo": 1}, ("nearest-exact", None)),
        ({"send_to_any": 1}, ("nearest-exact", ["1", 0])),
        ({"send_to_any": 1, "apply_to_unrepeated": 1}, ("nearest-exact", None)),
    ):
        drawing = Drawing()
        drawing.node(1, "PrimitiveString", values=["lanczos"], outputs={"STRING": "STRING"})
        sender(drawing, 3, 1, properties=rules)
        may = {"ue_properties": {"widget_ue_connectable": {"upscale_method": True}}}
        widgets = {"upscale_method": "COMBO"}
        drawing.node(5, "ImageScale", values=["nearest-exact"], widgets=widgets, properties=may)
        drawing.node(6, "PreviewAny", inputs={"source": "*"})
        prompt = convert(drawing.document(), comparison.object_info("0.33.0"))
        found = prompt["5"]["inputs"]["upscale_method"], prompt["6"]["inputs"].get("source")
        assert found == wanted, rules


def test_three_at_once_and_patterns_as_widgets_are_what_former_versions_had() -> None:
    drawing = Drawing()
    drawing.node(
        1,
        "CheckpointLoaderSimple",
        values=["x"],
        outputs=dict.fromkeys(("MODEL", "CLIP", "VAE"), "*"),
    )
    slots = ("anything", "anything2", "anything3")
    drawing.node(2, "Anything Everywhere3", inputs=dict.fromkeys(slots, "*"))
    for place, name in enumerate(slots):
        drawing.link(1, place, 2, name)
    sampled(drawing)
    drawing.node(6, "VAEDecode", inputs={"samples": "LATENT", "vae": "VAE"})
    drawing.node(7, "EmptyLatentImage", values=[64, 64, 1], outputs={"LATENT": "LATENT"})
    for identity, origin, pattern in ((8, 5, "samples"), (9, 7, "latent_image")):
        drawing.node(
            identity,
            "Anything Everywhere?",
            values=[".*", pattern],
            inputs={"anything": "*"},
            properties={"group_restricted": False},
        )
        drawing.link(origin, 0, identity, "anything")

    prompt = convert(drawing.document(), comparison.object_info("0.33.0"))

    assert prompt["5"]["inputs"]["model"] == ["1", 0]
    assert prompt["5"]["inputs"]["latent_image"] == ["7", 0]
    assert prompt["6"]["inputs"] == {"vae": ["1", 2], "samples": ["5", 0]}


def test_a_subgraph_sends_what_it_is_given_within_itself() -> None:
    inner = Drawing()
    inner.node(3, "Anything Everywhere", inputs={"anything": "*"})
    inner.link(INPUT_NODE, 0, 3, "anything")
    saver(inner, 9)
    drawing = Drawing()
    empty(drawing, 1)
    drawing.node(20, SUBGRAPH, inputs={"image": "IMAGE"})
    saver(drawing, 8)
    sender(drawing, 4, 1, properties={"title_regex": "Subgraph"})
    document = drawing.document(inner.definition(SUBGRAPH, {"image": "IMAGE"}))

    prompt = convert(document, comparison.object_info("0.33.0"))

    assert prompt["20:9"]["inputs"]["images"] == ["1", 0]
    assert "images" not in prompt["8"]["inputs"]


def test_a_pattern_that_is_not_understood_is_refused_with_its_node() -> None:
    drawing = Drawing()
    empty(drawing, 1)
    sender(drawing, 3, 1, properties={"title_regex": "(?!Save)"}, title="All but savers")
    saver(drawing, 9)

    with pytest.raises(ConversionError, match="looking ahead") as caught:
        convert(drawing.document(), comparison.object_info("0.33.0"))
    assert (caught.value.code, caught.value.node) == ("unknown_pattern", "3")
    with pytest.raises(ConversionError):
        source.graph_of(drawing.document(), comparison.object_info("0.33.0"))
