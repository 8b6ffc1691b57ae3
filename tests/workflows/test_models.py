"""The model files that a workflow names are read as what somebody else wrote."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from bridge.contract.missing import in_words
from bridge.contract.retained import Missing, MissingChoice
from bridge.workflows.graph import Node
from bridge.workflows.models import ModelFile, declared, described, is_safe

SHA = "ab" * 32
URL = "https://huggingface.co/Comfy-Org/flux1-schnell/resolve/main/flux1-schnell.safetensors"
FLUX = {"name": "flux1-schnell.safetensors", "directory": "diffusion_models", "url": URL}


def node(*models: Any) -> dict[str, Any]:
    return {"id": 1, "properties": {"models": [*models]}}


def test_files_of_nodes_and_of_subgraphs_are_found_once() -> None:
    vae = {"name": "ae.safetensors", "directory": "vae", "url": f"{URL}?download=true"}
    hashed = {**FLUX, "name": "b.gguf", "hash": SHA.upper(), "hash_type": "SHA256"}
    document = {
        "nodes": [node(FLUX), node(FLUX, vae), {"id": 2}, {"properties": {}}, "junk"],
        "definitions": {"subgraphs": [{"nodes": [node(hashed)]}, "junk"]},
        "models": [{"name": "c.safetensors", "directory": "loras"}],
    }
    assert declared(document) == (
        ModelFile("c.safetensors", "loras"),
        ModelFile("flux1-schnell.safetensors", "diffusion_models", URL),
        ModelFile("ae.safetensors", "vae", f"{URL}?download=true"),
        ModelFile("b.gguf", "diffusion_models", URL, SHA),
    )


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"nodes": {}},
        {"nodes": [node(3, None, [], "x")]},
        {"nodes": [{"properties": {"models": "x"}}]},
        {"definitions": {"subgraphs": {}}},
        {"nodes": [node({**FLUX, "name": 3})]},
        {"nodes": [node({"name": "a.safetensors"})]},
    ],
)
def test_what_is_no_list_of_models_is_none(document: Any) -> None:
    assert declared(document) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../../custom_nodes/evil.safetensors"),
        ("name", "/etc/a.safetensors"),
        ("name", "C:\\a.safetensors"),
        ("name", "a\n.safetensors"),
        ("name", ".hidden.safetensors"),
        ("name", "evil.py"),
        ("name", "a.safetensors/"),
        ("name", "a" * 300 + ".safetensors"),
        ("directory", ".."),
        ("directory", "vae/../../custom_nodes"),
        ("directory", "/opt"),
        ("directory", ""),
        ("directory", "vae "),
    ],
)
def test_no_name_leads_elsewhere(field: str, value: str) -> None:
    assert declared({"nodes": [node({**FLUX, field: value})]}) == ()


@pytest.mark.parametrize("url", ["http://host/a", "file:///a", "ftp://a/b", 3, "https://a/b\n", ""])
def test_only_https_is_a_url(url: Any) -> None:
    (model,) = declared({"nodes": [node({**FLUX, "url": url})]})
    assert model.url is None


@pytest.mark.parametrize(
    ("kind", "value"), [("SHA256", "xyz"), ("MD5", SHA), ("AutoV2", "ab" * 5), ("SHA256", 3)]
)
def test_only_a_sha256_is_a_hash(kind: str, value: Any) -> None:
    (model,) = declared({"nodes": [node({**FLUX, "hash": value, "hash_type": kind})]})
    assert model.sha256 is None


@pytest.mark.parametrize("name", ["a.safetensors", "flux/a b (v1.0).safetensors", "ä_[x].gguf"])
def test_names_as_people_give_them_are_taken(name: str) -> None:
    assert is_safe(name)


def test_a_missing_model_has_its_folder_and_the_url_that_the_workflow_names() -> None:
    def choice(node: str, input_name: str, value: str) -> MissingChoice:
        return MissingChoice(node=node, input=input_name, value=value, allowed=[])

    nodes = {"3": Node("3", "CLIPVisionLoader", {"clip_name": "v.safetensors"})}
    missing = described(
        Missing(
            nodes=["Rare"],
            choices=[
                choice("1", "unet_name", "flux1-schnell.safetensors"),
                choice("2", "lora_name", "sub\\mine.safetensors"),
                choice("3", "clip_name", "v.safetensors"),
                choice("4", "sampler_name", "gone"),
            ],
        ),
        declared({"nodes": [node(FLUX)]}),
        nodes,
    )
    assert [(each.folder, each.url) for each in missing.choices] == [
        ("diffusion_models", URL),
        ("loras", UNSET),
        ("clip_vision", UNSET),
        (UNSET, UNSET),
    ]
    assert missing.nodes == ["Rare"]
    assert in_words(missing.choices[0]) == f"models/diffusion_models/{FLUX['name']} ({URL})"
    assert in_words(missing.choices[3]) == "sampler_name 'gone'"
