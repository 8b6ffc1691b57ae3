"""Sentences about what a workflow lacks to run. Pure."""

from __future__ import annotations

from msgspec import UNSET

from bridge.contract.retained import Missing, MissingChoice

# The workflows that come with the bridge and need a model that does not.
OPTIONAL = frozenset({"txt2img", "img2img"})
# Files of weights.
WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")


def lacking(missing: Missing) -> str:
    """Return what is missing, each with where it is used."""
    choices = map(in_words, missing.choices)
    links = (f"input {each.input} of node {each.node}" for each in missing.inputs)
    keys = (f"an API key for {each}" for each in missing.api_key)
    return ", ".join((*missing.nodes, *choices, *links, *keys))


def in_words(choice: MissingChoice) -> str:
    """Return a missing choice; a model with its folder, and its URL where the workflow names it."""
    return f"{choice.input} {choice.value!r}" if choice.folder is UNSET else _file(choice)


def _file(choice: MissingChoice) -> str:
    folder = "" if choice.folder is UNSET else f"models/{choice.folder}/"
    source = "" if choice.url is UNSET else f" ({choice.url})"
    return f"{folder}{choice.value}{source}"


def models(missing: Missing) -> list[str]:
    """Return the models that a workflow lacks; none if it lacks anything else as well."""
    if missing.nodes or missing.inputs or missing.api_key:
        return []
    if not all(choice.value.endswith(WEIGHTS) for choice in missing.choices):
        return []
    return [_file(choice) for choice in missing.choices]


def why_not_runnable(workflow: str, missing: Missing) -> str:
    """Return why a workflow cannot run."""
    needed = models(missing)
    if not needed:
        return f"missing {lacking(missing)}"
    model = f"needs {'a model' if len(needed) == 1 else 'models'}, {', '.join(needed)}"
    return f"optional: {model}" if workflow in OPTIONAL else model


def advice(missing: Missing, workflow: str = "WORKFLOW") -> str:
    """Return how to get the nodes, models or the key of Comfy.org that a workflow lacks."""
    if any(choice.url is not UNSET for choice in missing.choices):
        return f"fetch the models: comfy2mqtt models get {workflow}"
    if models(missing):
        return "docs/models.md says where to get it, and where it goes"
    if missing.inputs and not (missing.nodes or missing.choices):
        return "connect the input in ComfyUI, and save the workflow again"
    if missing.nodes or missing.choices:
        return "install the nodes or models in ComfyUI, then restart it"
    return "set comfyui_api_key_file to a file with a key of Comfy.org"
