"""The table of output kinds: which nodes leave something, and what.

What an output really is, its bytes show when it is there; this is what is known before. To add
a kind: a row here, and an output node of ours. Nodes that are not in the table leave files, as far
as a ComfyUI says that they are output nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import UNSET, Struct

from bridge.contract.messages import or_unset
from bridge.contract.retained import OutputDefinition
from bridge.workflows.constraints import Declarations
from bridge.workflows.graph import Graph, Node, NodeInput
from bridge.workflows.graph_inputs import text


class OutputKind(Struct, frozen=True):
    """A node class's outputs; the Content Type may be decided by its input `format`."""

    kind: str
    content_type: str | None = None
    formats: dict[str, str] = {}


_IMAGES = {"PNG": "image/png", "JPEG": "image/jpeg", "WebP": "image/webp"}
_ANIMATIONS = {"WebP": "image/webp", "GIF": "image/gif", "APNG": "image/apng"}
_SOUNDS = {"FLAC": "audio/flac", "MP3": "audio/mpeg", "Opus": "audio/ogg", "WAV": "audio/wav"}
_FILMS = {
    "MP4": "video/mp4",
    "WebM": "video/webm",
    "auto": "video/mp4",
    "mp4": "video/mp4",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
}

# Ours: they give their outputs a name.
OURS: dict[str, OutputKind] = {
    "Comfy2MQTTImageOutput": OutputKind("image", None, _IMAGES),
    "Comfy2MQTTMaskOutput": OutputKind("mask", "image/png"),
    "Comfy2MQTTAnimationOutput": OutputKind("image", None, _ANIMATIONS),
    "Comfy2MQTTVideoOutput": OutputKind("video", None, _FILMS),
    "Comfy2MQTTAudioOutput": OutputKind("audio", None, _SOUNDS),
    "Comfy2MQTTTextOutput": OutputKind("text", "text/plain"),
    "Comfy2MQTTLatentOutput": OutputKind("latent", "application/octet-stream"),
}
# ComfyUI's own, known beforehand: for one that has not answered yet.
THEIRS: dict[str, OutputKind] = {
    "SaveImage": OutputKind("image", "image/png"),
    "PreviewImage": OutputKind("image", "image/png"),
    "SaveImageWebsocket": OutputKind("image", "image/png"),
    "MaskPreview": OutputKind("image", "image/png"),
    "SaveAnimatedWEBP": OutputKind("image", "image/webp"),
    "SaveAnimatedPNG": OutputKind("image", "image/png"),
    "SaveImageAdvanced": OutputKind("image", None, {"png": "image/png", "exr": "image/x-exr"}),
    "ImageCompare": OutputKind("image", "image/png"),
    "SaveSVGNode": OutputKind("file", "image/svg+xml"),
    "ImageCompositor": OutputKind("image", "image/png"),
    "LossGraphNode": OutputKind("image", "image/png"),
    "SAM3_TrackPreview": OutputKind("video", "video/mp4"),
    "SaveAudio": OutputKind("audio", "audio/flac"),
    "SaveAudioAdvanced": OutputKind(
        "audio", None, {"flac": "audio/flac", "mp3": "audio/mpeg", "opus": "audio/ogg"}
    ),
    "SaveAudioMP3": OutputKind("audio", "audio/mpeg"),
    "SaveAudioOpus": OutputKind("audio", "audio/ogg"),
    "PreviewAudio": OutputKind("audio", "audio/flac"),
    "SaveVideo": OutputKind("video", None, _FILMS),
    "SaveWEBM": OutputKind("video", "video/webm"),
    "SaveLatent": OutputKind("latent", "application/octet-stream"),
    "PreviewAny": OutputKind("text", "text/plain; charset=utf-8"),
    "SaveText": OutputKind(
        "text",
        None,
        {
            "txt": "text/plain; charset=utf-8",
            "csv": "text/csv; charset=utf-8",
            "md": "text/markdown; charset=utf-8",
            "json": "application/json",
        },
    ),
}
_WEIGHTS = (
    "CLIPSave",
    "CheckpointSave",
    "ImageOnlyCheckpointSave",
    "LoraSave",
    "ModelSave",
    "SaveLoRA",
    "VAESave",
)
# Files whose format depends on what is saved, in three dimensions.
_MODELS_3D = (
    "Preview3D",
    "Preview3DAdvanced",
    "PreviewGaussianSplat",
    "PreviewPointCloud",
    "Save3DAdvanced",
    "SaveGaussianSplat",
    "SavePointCloud",
)
THEIRS |= {
    **dict.fromkeys(_WEIGHTS, OutputKind("file", "application/octet-stream")),
    **dict.fromkeys(_MODELS_3D, OutputKind("file")),
    "SaveGLB": OutputKind("file", "model/gltf-binary"),
    # Data sets lie in a folder of ComfyUI's: nothing of them is reported.
    "SaveImageDataSetToFolder": OutputKind("file"),
    "SaveImageTextDataSetToFolder": OutputKind("file"),
    "SaveTrainingDataset": OutputKind("file"),
}
# Classes that do work of their own. All others only write down, show or send what they are given.
_MAKERS = frozenset(("CreateBoundingBoxes", "ImageCompositor", "LossGraphNode"))
_WRITERS = (OURS.keys() | THEIRS.keys()) - _MAKERS
# Classes that show something and save nothing, besides those that are called so.
_PREVIEWS = frozenset(("CreateBoundingBoxes", "ImageCompare", "ImageCompositor", "LossGraphNode"))
_PREVIEW = "Preview"
_FILE = OutputKind("file")


def outputs(graph: Graph, declared: Declarations) -> tuple[OutputDefinition, ...]:
    """Return the outputs, each with a name of its own: what is saved first, then previews.

    Both stand in the order of their nodes. The first output of a job is the one that is wanted,
    which a preview on the way to it is not.
    """
    return tuple(sorted(_outputs(graph, declared), key=lambda output: output.preview is True))


def only_writes(class_type: str) -> bool:
    """Return whether a node of this class makes nothing: it puts out what it is given, as it is."""
    return class_type in _WRITERS


def names_to_set(graph: Graph, found: Iterable[OutputDefinition]) -> dict[NodeInput, str]:
    """Return new names for our nodes, so that results match descriptions."""
    return {
        NodeInput(output.node, "name"): output.name
        for output in found
        if (node := graph.nodes[output.node]).class_type in OURS
        and text(node.inputs.get("name")) not in (None, output.name)
    }


def _outputs(graph: Graph, declared: Declarations) -> Iterator[OutputDefinition]:
    names: set[str] = set()
    for node in graph.nodes.values():
        kind = _kind(node, declared)
        if kind is None:
            continue
        given = node.inputs.get("name") if node.class_type in OURS else None
        chosen = node.inputs.get("format")
        by_format = kind.formats.get(chosen) if isinstance(chosen, str) else None
        yield OutputDefinition(
            name=_unused(text(given) or node.title or node.class_type, node.id, names),
            kind=kind.kind,
            node=node.id,
            title=or_unset(text(node.inputs.get("title"))),
            description=or_unset(text(node.inputs.get("description"))),
            content_type=or_unset(by_format or kind.content_type),
            preview=True if _is_preview(node) else UNSET,
        )


def _is_preview(node: Node) -> bool:
    return node.class_type in _PREVIEWS or _PREVIEW in node.class_type


def _kind(node: Node, declared: Declarations) -> OutputKind | None:
    known = OURS.get(node.class_type) or THEIRS.get(node.class_type)
    if known is not None:
        return known
    found = declared.node_class(node.class_type)
    return _FILE if found is not None and found.output_node else None


def _unused(name: str, node: str, names: set[str]) -> str:
    """Return the name, with the node's id if it is taken."""
    if name in names:
        name = f"{name} {node}"
    while name in names:
        name = f"{name}'"
    names.add(name)
    return name
