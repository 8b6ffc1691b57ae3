"""The model files that a workflow names: where ComfyUI keeps each, and its URL. Pure.

ComfyUI's page keeps them with the nodes, in `properties.models`: name, directory, URL, and at times
a hash. A file is data of somebody else: a name or folder that leads elsewhere is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bridge.contract.messages import or_unset
from bridge.contract.retained import Missing, MissingChoice
from bridge.workflows.graph import Node

# Weights, and what goes with them; nothing that is run.
KINDS = (
    *(".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin", ".onnx"),
    *(".json", ".yaml", ".txt"),
)
_PART = re.compile(r"[\w(\[][\w .()\[\]+&,@-]*")
_LONGEST = 255
_DEEPEST = 8
_MOST = 1000
# Folders below `models`, by the names that inputs of ComfyUI's own nodes have.
_FOLDERS: Mapping[str, str] = {
    "ckpt_name": "checkpoints",
    "config_name": "configs",
    "vae_name": "vae",
    "lora_name": "loras",
    "unet_name": "diffusion_models",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "clip_name4": "text_encoders",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "audio_encoder_name": "audio_encoders",
    "photomaker_model_name": "photomaker",
}
# Where the input's name is the same for several.
_BY_CLASS: Mapping[str, str] = {
    "CLIPVisionLoader": "clip_vision",
    "UpscaleModelLoader": "upscale_models",
    "LatentUpscaleModelLoader": "latent_upscale_models",
    "ModelPatchLoader": "model_patches",
}


class ModelFile(Struct, frozen=True):
    """A model's file: `folder` is below ComfyUI's `models`, `name` may have folders of its own.

    `sha256` is in lower-case hexadecimal.
    """

    name: str
    folder: str
    url: str | None = None
    sha256: str | None = None


def declared(document: Any) -> tuple[ModelFile, ...]:
    """Return the files that a workflow in the page's format names, each once."""
    found: dict[tuple[str, str], ModelFile] = {}
    for entry in _entries(document):
        model = _read(entry)
        if model is not None and len(found) < _MOST:
            found.setdefault((model.folder, model.name), model)
    return tuple(found.values())


def described(missing: Missing, models: Iterable[ModelFile], nodes: Mapping[str, Node]) -> Missing:
    """Return the lacks with each missing model's folder, and the URL that the workflow names."""
    by_name = {model.name: model for model in models}
    return replace(
        missing,
        choices=[_described(choice, by_name, nodes) for choice in missing.choices],
    )


def _described(
    choice: MissingChoice, by_name: Mapping[str, ModelFile], nodes: Mapping[str, Node]
) -> MissingChoice:
    model = by_name.get(choice.value.replace("\\", "/"))
    if model is not None:
        return replace(choice, folder=model.folder, url=or_unset(model.url))
    node = nodes.get(choice.node)
    by_class = None if node is None else _BY_CLASS.get(node.class_type)
    return replace(choice, folder=or_unset(by_class or _FOLDERS.get(choice.input)))


def _entries(document: Any) -> Iterator[Any]:
    """Yield what stands under `models`, of the document, its nodes and its subgraphs' nodes."""
    match document:
        case {"models": [*entries]}:
            yield from entries
    match document:
        case {"nodes": [*nodes]}:
            for node in nodes:
                match node:
                    case {"properties": {"models": [*entries]}}:
                        yield from entries
    match document:
        case {"definitions": {"subgraphs": [*subgraphs]}}:
            for subgraph in subgraphs:
                # Subgraphs lie side by side, never in each other.
                if isinstance(subgraph, dict) and "definitions" not in subgraph:
                    yield from _entries(subgraph)


def _read(entry: Any) -> ModelFile | None:
    match entry:
        case {"name": str(name), "directory": str(folder)}:
            name, folder = name.replace("\\", "/"), folder.replace("\\", "/")
            if not (is_safe(name) and is_safe(folder) and name.lower().endswith(KINDS)):
                return None
            url = entry.get("url")
            return ModelFile(name, folder, url if _is_url(url) else None, _sha256(entry))
    return None


def is_safe(path: str) -> bool:
    """True if a relative path stays below where it begins, whatever the system."""
    parts = path.split("/")
    return (
        len(path) <= _LONGEST
        and len(parts) <= _DEEPEST
        and all(_PART.fullmatch(part) and part.rstrip(" .") == part for part in parts)
    )


def _is_url(url: Any) -> bool:
    return isinstance(url, str) and url.startswith("https://") and url.isprintable()


def _sha256(entry: Mapping[str, Any]) -> str | None:
    kind, value = str(entry.get("hash_type", "SHA256")), entry.get("hash")
    if kind.upper().replace("-", "") != "SHA256" or not isinstance(value, str):
        return None
    value = value.lower()
    return value if re.fullmatch("[0-9a-f]{64}", value) else None
