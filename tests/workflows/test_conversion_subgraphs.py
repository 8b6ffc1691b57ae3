"""The conversion of subgraphs, shown on small workflows.

What is expected here was seen in the official front end.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.vectors import comparison
from tests.vectors.drawing import INPUT_NODE, Drawing
from tests.workflows.drawings import (
    BYPASSED,
    EARLIER,
    LATER,
    MUTED,
    converted,
    load_image,
    save_image,
)

SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"
OUTER = "3c1e9c1e-0000-4000-8000-000000000002"


def inverting_subgraph() -> dict[str, Any]:
    """Draw a subgraph that inverts (4) its image, and shows the width of a latent (5)."""
    inner = Drawing()
    inner.node(4, "ImageInvert", inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"})
    inner.node(
        5,
        "EmptyLatentImage",
        values=[512, 256, 1],
        widgets={"width": "INT", "height": "INT"},
        outputs={"LATENT": "LATENT"},
    )
    inner.link(INPUT_NODE, 0, 4, "image")
    inner.link(INPUT_NODE, 1, 5, "width")
    inner.leave(4, 0, 0)
    return inner.definition(SUBGRAPH, {"picture": "IMAGE", "wide": "INT"}, outputs=1)


def hosting(values: Any, mode: int = 0, **more: Any) -> Drawing:
    """Draw LoadImage (1) -> the subgraph (8) -> SaveImage (3)."""
    drawing = Drawing()
    load_image(drawing, 1, "in.png")
    drawing.node(
        8,
        SUBGRAPH,
        values=values,
        inputs={"picture": "IMAGE"},
        widgets={"wide": "INT"},
        outputs={"out0": "IMAGE"},
        mode=mode,
        **more,
    )
    save_image(drawing, 3)
    drawing.link(1, 0, 8, "picture")
    drawing.link(8, 0, 3, "images")
    return drawing


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_a_subgraph_is_expanded_with_ids_that_name_the_path(version: str) -> None:
    prompt = converted(hosting([640]).document(inverting_subgraph()), version)

    assert sorted(prompt) == ["1", "3", "8:4", "8:5"]
    assert prompt["8:4"]["inputs"] == {"image": ["1", 0]}
    assert prompt["3"]["inputs"]["images"] == ["8:4", 0]


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_a_value_shown_outside_replaces_the_one_inside(version: str) -> None:
    shown = converted(hosting([640]).document(inverting_subgraph()), version)["8:5"]["inputs"]
    inner = converted(hosting([]).document(inverting_subgraph()), version)["8:5"]["inputs"]

    assert (shown["width"], shown["height"]) == (640, 256)
    assert inner["width"] == 512


def test_two_subgraph_nodes_show_values_of_their_own() -> None:
    drawing = hosting([640])
    drawing.node(9, SUBGRAPH, values=[1280], widgets={"wide": "INT"})

    prompt = converted(drawing.document(inverting_subgraph()))

    assert prompt["8:5"]["inputs"]["width"] == 640
    assert prompt["9:5"]["inputs"]["width"] == 1280
    assert "image" not in prompt["9:4"]["inputs"]


def test_a_link_from_outside_wins_over_the_value_shown() -> None:
    drawing = hosting([640])
    drawing.node(2, "PrimitiveInt", values=[64, "fixed"], outputs={"INT": "INT"})
    drawing.link(2, 0, 8, "wide")

    prompt = converted(drawing.document(inverting_subgraph()))

    assert prompt["8:5"]["inputs"]["width"] == ["2", 0]


@pytest.mark.parametrize(("version", "sent"), [(EARLIER, 256), (LATER, 1024)])
def test_an_older_files_window_to_an_inner_value_is_kept_or_made_an_input(
    version: str, sent: int
) -> None:
    """The later front end makes an input of it, with the value that the file lists."""
    drawing = hosting([640, 1024], properties={"proxyWidgets": [["-1", "wide"], ["5", "height"]]})

    inputs = converted(drawing.document(inverting_subgraph()), version)["8:5"]["inputs"]

    assert (inputs["width"], inputs["height"]) == (640, sent)


def test_nested_subgraphs_show_an_inner_value_all_the_way_out() -> None:
    middle = Drawing()
    middle.node(6, SUBGRAPH, values=[640], inputs={"picture": "IMAGE"}, widgets={"wide": "INT"})
    middle.link(INPUT_NODE, 0, 6, "wide")
    outer = Drawing()
    outer.node(7, OUTER, values=[896], widgets={"breadth": "INT"})

    prompt = converted(
        outer.document(middle.definition(OUTER, {"breadth": "INT"}), inverting_subgraph())
    )

    assert sorted(prompt) == ["7:6:4", "7:6:5"]
    assert prompt["7:6:5"]["inputs"]["width"] == 896


def test_a_bypassed_subgraph_node_passes_on_what_it_is_given() -> None:
    prompt = converted(hosting([640], mode=BYPASSED).document(inverting_subgraph()))

    assert list(prompt) == ["1", "3"]
    assert prompt["3"]["inputs"]["images"] == ["1", 0]


def test_a_muted_subgraph_node_is_left_out_with_all_that_is_inside() -> None:
    prompt = converted(hosting([640], mode=MUTED).document(inverting_subgraph()))

    assert list(prompt) == ["1", "3"]
    assert prompt["3"]["inputs"] == {"filename_prefix": "out"}


def test_an_input_can_go_straight_through_a_subgraph() -> None:
    """The front end fails to send such a workflow."""
    inner = Drawing()
    inner.leave(INPUT_NODE, 0, 0)
    definition = inner.definition(SUBGRAPH, {"picture": "IMAGE", "wide": "INT"}, outputs=1)

    prompt = converted(hosting([]).document(definition))

    assert prompt["3"]["inputs"]["images"] == ["1", 0]


@pytest.mark.parametrize(("version", "node"), [(EARLIER, "8:1"), (LATER, "8:9")])
def test_a_later_front_end_gives_new_ids_to_inner_nodes_whose_id_is_taken(
    version: str, node: str
) -> None:
    inner = Drawing()
    inner.node(1, "ImageInvert", inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"})
    inner.link(INPUT_NODE, 0, 1, "image")
    inner.leave(1, 0, 0)
    definition = inner.definition(SUBGRAPH, {"picture": "IMAGE"}, outputs=1)

    prompt = converted(hosting([]).document(definition), version)

    assert prompt[node]["inputs"] == {"image": ["1", 0]}
    assert prompt["3"]["inputs"]["images"] == [node, 0]
