"""Small workflow files that tests of the conversion share, and their prompts."""

from __future__ import annotations

from typing import Any

from bridge.workflows.conversion import convert
from tests.vectors import comparison
from tests.vectors.drawing import Drawing

MUTED, BYPASSED = 2, 4
EARLIER, LATER = comparison.VERSIONS


def converted(document: Any, version: str = LATER) -> Any:
    return convert(document, comparison.object_info(version))


def image_chain(*, middle: str = "ImageInvert", mode: int = 0) -> Drawing:
    """Draw LoadImage (1) -> a node in the middle (2) -> SaveImage (3)."""
    drawing = Drawing()
    load_image(drawing, 1, "in.png")
    drawing.node(2, middle, inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"}, mode=mode)
    save_image(drawing, 3)
    drawing.link(1, 0, 2, "image")
    drawing.link(2, 0, 3, "images")
    return drawing


def load_image(drawing: Drawing, node: int, name: str) -> None:
    drawing.node(
        node, "LoadImage", values=[name, "image"], outputs={"IMAGE": "IMAGE", "MASK": "MASK"}
    )


def save_image(drawing: Drawing, node: int, prefix: str = "out") -> None:
    drawing.node(node, "SaveImage", values=[prefix], inputs={"images": "IMAGE"})


def sampler(drawing: Drawing, node: int, values: Any, **more: Any) -> None:
    drawing.node(
        node,
        "KSampler",
        values=values,
        inputs={
            "model": "MODEL",
            "positive": "CONDITIONING",
            "negative": "CONDITIONING",
            "latent_image": "LATENT",
        },
        outputs={"LATENT": "LATENT"},
        **more,
    )


def text_encoder(drawing: Drawing, node: int, text: str, **more: Any) -> None:
    drawing.node(
        node,
        "CLIPTextEncode",
        values=[text],
        inputs={"clip": "CLIP"},
        outputs={"CONDITIONING": "CONDITIONING"},
        **more,
    )
