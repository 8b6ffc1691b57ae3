"""The conversion of each thing that can be drawn, shown on small workflows.

What is expected here was seen in the official front end, except where a test says that it does
something else.
"""

from __future__ import annotations

from typing import Any

import pytest

from bridge.workflows.conversion import convert, is_ui_format
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison
from tests.vectors.drawing import INPUT_NODE, Drawing
from tests.workflows.drawings import (
    BYPASSED,
    EARLIER,
    LATER,
    MUTED,
    converted,
    image_chain,
    load_image,
    sampler,
    save_image,
    text_encoder,
)

SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"


def test_links_and_literals_become_named_inputs() -> None:
    prompt = converted(image_chain().document())

    assert prompt == {
        "1": {
            "class_type": "LoadImage",
            "inputs": {"image": "in.png"},
            "_meta": {"title": "Load Image"},
        },
        "2": {
            "class_type": "ImageInvert",
            "inputs": {"image": ["1", 0]},
            "_meta": {"title": "Invert Image Colors"},
        },
        "3": {
            "class_type": "SaveImage",
            "inputs": {"filename_prefix": "out", "images": ["2", 0]},
            "_meta": {"title": "Save Image"},
        },
    }


def test_a_title_of_the_file_is_kept() -> None:
    drawing = Drawing()
    sampler(drawing, 1, [], title="My sampler")

    assert converted(drawing.document())["1"]["_meta"] == {"title": "My sampler"}


def test_the_control_of_a_seed_has_a_place_among_the_values_and_is_not_sent() -> None:
    drawing = Drawing()
    sampler(drawing, 1, [5, "randomize", 20, 7.5, "euler", "simple", 0.9])

    assert converted(drawing.document())["1"]["inputs"] == {
        "seed": 5,
        "steps": 20,
        "cfg": 7.5,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 0.9,
    }


def test_values_that_the_file_does_not_have_are_the_defaults() -> None:
    drawing = Drawing()
    sampler(drawing, 1, [5, "fixed", 33])

    inputs = converted(drawing.document())["1"]["inputs"]

    assert (inputs["seed"], inputs["steps"], inputs["cfg"]) == (5, 33, 8.0)
    assert inputs["scheduler"] == "simple"


def test_values_by_name_are_taken_by_name() -> None:
    """Only the nodes whose extension saves them so can read them in the front end."""
    drawing = Drawing()
    sampler(drawing, 1, {"steps": 33, "scheduler": "karras", "unheard_of": 1})

    inputs = converted(drawing.document())["1"]["inputs"]

    assert (inputs["steps"], inputs["scheduler"], inputs["seed"]) == (33, "karras", 0)


def test_a_file_of_a_newer_class_has_its_values_in_the_right_inputs() -> None:
    """The class had an input more, in front of the others: the page then uses names, too."""
    drawing = Drawing()
    listed = ["fast", 5, "fixed", 33, 7.5, "euler", "karras", 0.9]
    names = ["mode", "seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler"]
    named = dict(zip([*names, "denoise"], listed, strict=True))
    sampler(drawing, 1, listed, widgets_values_named=named)
    # Somebody has changed the list alone.
    sampler(drawing, 2, [5, "fixed", 8, 7.5], widgets_values_named={"steps": 20, "cfg": 7.5})

    prompt = converted(drawing.document())

    inputs = prompt["1"]["inputs"]
    assert (inputs["seed"], inputs["steps"], inputs["denoise"]) == (5, 33, 0.9)
    assert (inputs["sampler_name"], inputs["scheduler"]) == ("euler", "karras")
    assert "mode" not in inputs
    assert prompt["2"]["inputs"]["steps"] == 8


def test_a_subgraphs_values_are_the_right_ones_where_an_inner_input_is_not_there() -> None:
    inner = Drawing()
    inner.node(
        5,
        "EmptyImage",
        values=[64, 48, 1, 0],
        inputs={"newer": "COMBO"},
        widgets={"width": "INT", "height": "INT"},
        outputs={"IMAGE": "IMAGE"},
    )
    inner.node(6, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    for place, name in enumerate(("newer", "width", "height")):
        inner.link(INPUT_NODE, place, 5, name)
    inner.link(5, 0, 6, "images")
    slots = {"newer": "COMBO", "width": "INT", "height": "INT"}
    drawing = Drawing()
    named = {"height": 32, "newer": "flow", "width": 16}
    drawing.node(8, SUBGRAPH, values=["flow", 16, 32], widgets=slots, widgets_values_named=named)

    inputs = converted(drawing.document(inner.definition(SUBGRAPH, slots)))["8:5"]["inputs"]

    assert (inputs["width"], inputs["height"]) == (16, 32)


def test_a_seed_of_64_bits_stays_whole() -> None:
    """In the front end it becomes the nearest JavaScript number, which servers refuse."""
    drawing = Drawing()
    sampler(drawing, 1, [2**64 - 1, "fixed"])

    assert converted(drawing.document())["1"]["inputs"]["seed"] == 18446744073709551615


def test_a_link_takes_the_place_of_a_widget_and_its_value_keeps_its_place() -> None:
    drawing = Drawing()
    drawing.node(1, "PrimitiveInt", values=[30, "fixed"], outputs={"INT": "INT"})
    sampler(drawing, 2, [5, "fixed", 99, 7.5, "euler", "simple", 0.9], widgets={"steps": "INT"})
    drawing.link(1, 0, 2, "steps")

    inputs = converted(drawing.document())["2"]["inputs"]

    assert (inputs["steps"], inputs["cfg"], inputs["denoise"]) == (["1", 0], 7.5, 0.9)


def test_dummy_values_of_inputs_that_take_links_only_are_skipped() -> None:
    info = ObjectInfo(
        {
            "Node": {
                "input": {
                    "required": {
                        "a": ["INT", {"forceInput": True}],
                        "b": ["INT", {}],
                        "c": ["STRING", {}],
                    }
                },
                "output": [],
            }
        }
    )
    drawing = Drawing()
    drawing.node(1, "Node", values=[0, 5, "text"])

    assert convert(drawing.document(), info)["1"]["inputs"] == {"b": 5, "c": "text"}


def test_notes_are_left_out() -> None:
    drawing = Drawing()
    drawing.node(1, "Note", values=["read me"])
    drawing.node(2, "MarkdownNote", values=["# read me"])
    save_image(drawing, 3)

    assert list(converted(drawing.document())) == ["3"]


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_reroutes_are_followed(version: str) -> None:
    drawing = Drawing()
    load_image(drawing, 1, "in.png")
    drawing.node(4, "Reroute", inputs={"": "*"}, outputs={"": "MASK"})
    drawing.node(5, "Reroute", inputs={"": "*"}, outputs={"": "MASK"})
    drawing.node(6, "MaskToImage", inputs={"mask": "MASK"}, outputs={"IMAGE": "IMAGE"})
    drawing.link(1, 1, 4, "")
    drawing.link(4, 0, 5, "")
    drawing.link(5, 0, 6, "mask")

    assert converted(drawing.document(), version)["6"]["inputs"] == {"mask": ["1", 1]}


def test_link_level_reroutes_do_not_matter() -> None:
    document = image_chain().document()
    document["extra"] = {
        "reroutes": [{"id": 1, "pos": [0, 0], "linkIds": [1]}],
        "linkExtensions": [{"id": 1, "parentId": 1}],
    }

    assert converted(document)["2"]["inputs"] == {"image": ["1", 0]}


def test_a_muted_node_and_what_it_gave_are_left_out() -> None:
    prompt = converted(image_chain(mode=MUTED).document())

    assert list(prompt) == ["1", "3"]
    assert prompt["3"]["inputs"] == {"filename_prefix": "out"}


def test_a_bypassed_node_passes_on_the_input_of_the_same_type() -> None:
    drawing = image_chain(mode=BYPASSED)
    prompt = converted(drawing.document())

    assert list(prompt) == ["1", "3"]
    assert prompt["3"]["inputs"]["images"] == ["1", 0]


def test_a_bypassed_node_without_a_fitting_input_passes_on_nothing() -> None:
    drawing = Drawing()
    drawing.node(
        1, "MaskToImage", inputs={"mask": "MASK"}, outputs={"IMAGE": "IMAGE"}, mode=BYPASSED
    )
    load_image(drawing, 2, "in.png")
    save_image(drawing, 3)
    drawing.link(2, 1, 1, "mask")
    drawing.link(1, 0, 3, "images")

    assert converted(drawing.document())["3"]["inputs"] == {"filename_prefix": "out"}


def test_an_earlier_front_end_lets_a_muted_reroute_through_and_a_later_one_does_not() -> None:
    drawing = Drawing()
    load_image(drawing, 1, "in.png")
    drawing.node(2, "Reroute", inputs={"": "*"}, outputs={"": "IMAGE"}, mode=MUTED)
    save_image(drawing, 3)
    drawing.link(1, 0, 2, "")
    drawing.link(2, 0, 3, "images")

    assert converted(drawing.document(), EARLIER)["3"]["inputs"]["images"] == ["1", 0]
    assert "images" not in converted(drawing.document(), LATER)["3"]["inputs"]


def primitive(value: Any, *targets: tuple[str, str]) -> Drawing:
    """Draw a primitive (1) that feeds widgets of nodes of the given classes, from id 2 on."""
    drawing = Drawing()
    drawing.node(1, "PrimitiveNode", values=value, outputs={"INT": "INT"})
    for node, (kind, name) in enumerate(targets, start=2):
        drawing.node(node, kind, widgets={name: "INT"})
        drawing.link(1, 0, node, name)
    return drawing


@pytest.mark.parametrize("version", comparison.VERSIONS)
@pytest.mark.parametrize(
    ("value", "entered"),
    [
        (1024, 1024),
        # A number is rounded to the widget's step and kept within what it allows.
        (1027.4, 1024),
        (99_999_999, 16384),
        (-5, 16),
    ],
)
def test_a_primitive_puts_its_value_into_widgets(version: str, value: Any, entered: int) -> None:
    drawing = primitive([value, "fixed"], ("EmptyLatentImage", "width"))

    prompt = converted(drawing.document(), version)

    assert list(prompt) == ["2"]
    assert prompt["2"]["inputs"]["width"] == entered


def test_a_primitive_for_two_widgets_respects_both() -> None:
    drawing = primitive(
        [99_999_999, "fixed"], ("EmptyLatentImage", "batch_size"), ("KSampler", "steps")
    )

    prompt = converted(drawing.document())

    assert prompt["2"]["inputs"]["batch_size"] == 4096
    assert prompt["3"]["inputs"]["steps"] == 4096


def test_a_prompts_comments_go_and_the_first_of_its_choices_stays() -> None:
    drawing = Drawing()
    text = "a {red|{dark|light} blue} /* never */car // at night\nby {day|night} \\{x\\} http://y"
    text_encoder(drawing, 1, text)

    sent = converted(drawing.document())["1"]["inputs"]["text"]

    # The front end picks one at random.
    assert sent == "a red car \nby day {x} http:"


def test_a_comment_that_is_never_closed_is_none() -> None:
    drawing = Drawing()
    text_encoder(drawing, 1, "a /* b")

    assert converted(drawing.document())["1"]["inputs"]["text"] == "a /* b"


def test_a_file_name_can_hold_another_nodes_value() -> None:
    drawing = Drawing()
    sampler(drawing, 1, [42, "fixed"], properties={"Node name for S&R": "KSampler"})
    save_image(drawing, 2, "%KSampler.seed%-%KSampler.sampler_name%-%date:yyyy%-%Nobody.x%")

    sent = converted(drawing.document())["2"]["inputs"]["filename_prefix"]

    # The front end fills in the date, too: the moment of sending, which is not known here.
    assert sent == "42-euler-%date:yyyy%-%Nobody.x%"


@pytest.mark.parametrize(("version", "sent"), [(EARLIER, "a\nb\nc"), (LATER, "a\r\nb\rc")])
def test_line_ends_are_what_the_front_end_makes_of_them(version: str, sent: str) -> None:
    drawing = Drawing()
    text_encoder(drawing, 1, "a\r\nb\rc")

    assert converted(drawing.document(), version)["1"]["inputs"]["text"] == sent


def test_a_combo_without_a_value_gets_its_first_choice() -> None:
    drawing = Drawing()
    sampler(drawing, 1, [1, "fixed", 20, 7, None, None, 1])

    inputs = converted(drawing.document())["1"]["inputs"]

    assert (inputs["sampler_name"], inputs["scheduler"]) == ("euler", "simple")


def test_a_choice_brings_its_inputs_with_values_and_links() -> None:
    drawing = Drawing()
    load_image(drawing, 1, "in.png")
    drawing.node(2, "PrimitiveInt", values=[64, "fixed"], outputs={"INT": "INT"})
    drawing.node(
        3,
        "ResizeImageMaskNode",
        values=["scale dimensions", 512, 768, "center", "lanczos"],
        inputs={"input": "IMAGE,MASK"},
        widgets={"resize_type.width": "INT"},
        outputs={"resized": "IMAGE"},
    )
    drawing.link(1, 0, 3, "input")
    drawing.link(2, 0, 3, "resize_type.width")

    assert converted(drawing.document())["3"]["inputs"] == {
        "input": ["1", 0],
        "resize_type": "scale dimensions",
        "resize_type.width": ["2", 0],
        "resize_type.height": 768,
        "resize_type.crop": "center",
        "scale_method": "lanczos",
    }


def test_a_list_where_a_choices_inputs_have_a_control_is_none() -> None:
    drawing = Drawing()
    drawing.node(1, "TextGenerate", values=["a cat", 256, "on", *[["fixed"]] * 9])

    assert converted(drawing.document())["1"]["inputs"]["sampling_mode"] == "on"


def test_members_of_a_growing_list_keep_their_names() -> None:
    drawing = Drawing()
    load_image(drawing, 1, "a.png")
    load_image(drawing, 2, "b.png")
    members = ["images.image0", "images.image1", "images.image2"]
    drawing.node(3, "BatchImagesNode", inputs=dict.fromkeys(members, "IMAGE"))
    drawing.link(1, 0, 3, "images.image0")
    drawing.link(2, 0, 3, "images.image1")

    assert converted(drawing.document())["3"]["inputs"] == {
        "images.image0": ["1", 0],
        "images.image1": ["2", 0],
    }


def test_lists_are_wrapped_so_that_they_are_not_taken_for_links() -> None:
    drawing = Drawing()
    drawing.node(1, "ImageCompare", values=[])

    inputs = converted(drawing.document())["1"]["inputs"]

    assert inputs["compare_view"] == {"__value__": ["", ""]}


def test_options_that_the_page_collects_are_sent_with_the_choices_place() -> None:
    drawing = Drawing()
    drawing.node(1, "CustomCombo", values=["b", 0, "a", "b", ""])

    inputs = converted(drawing.document())["1"]["inputs"]

    assert (inputs["choice"], inputs["index"], inputs["option2"]) == ("b", 1, "b")


def test_links_may_be_written_as_objects_in_the_root_too() -> None:
    document = image_chain().document()
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    document["version"] = 1
    document["links"] = [dict(zip(names, link, strict=True)) for link in document["links"]]
    document["state"] = {"lastNodeId": 3}

    assert converted(document)["2"]["inputs"] == {"image": ["1", 0]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (image_chain().document(), True),
        ({"nodes": []}, True),
        ({"1": {"class_type": "SaveImage", "inputs": {}}}, False),
        ({"nodes": {}}, False),
        ([], False),
        (None, False),
    ],
)
def test_the_two_formats_are_distinguished(document: Any, *, expected: bool) -> None:
    assert is_ui_format(document) is expected
