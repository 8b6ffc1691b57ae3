from __future__ import annotations

from typing import Any

import pytest

from bridge.workflows.catalogue import Needs, NodeCatalogue, nodes_of
from bridge.workflows.objectinfo import ObjectInfo


def info(*models: str, old: bool = True, **more: Any) -> ObjectInfo:
    """A ComfyUI with these checkpoints, declared as an older or a newer one does."""
    names = [list(models), {}] if old else ["COMBO", {"options": list(models)}]
    sampler = [["euler", "ddim"]]
    return ObjectInfo(
        {
            "Loader": {"input": {"required": {"ckpt_name": names}}, "output": ["MODEL"]},
            "Sampler": {"input": {"required": {"sampler": sampler}}, "output": ["IMAGE"]},
            **more,
        }
    )


def prompt(model: str, *classes: str) -> dict[str, Any]:
    return {
        "1": {"class_type": "Loader", "inputs": {"ckpt_name": model}},
        "2": {"class_type": "Sampler", "inputs": {"sampler": "euler", "steps": 3}},
        **{str(3 + i): {"class_type": each, "inputs": {}} for i, each in enumerate(classes)},
    }


def test_nothing_is_known_before_a_comfyui_has_told() -> None:
    nobody = NodeCatalogue()
    assert nobody.merged is None
    assert nobody.lacking(nodes_of(prompt("a.ckpt")).values()) is None
    assert not nobody.can_run("one", nobody.needs(prompt("a.ckpt")))


@pytest.mark.parametrize("old", [True, False])
def test_a_job_can_run_where_its_classes_and_models_are(*, old: bool) -> None:
    both = NodeCatalogue(
        {
            "one": info("a.safetensors", "b.ckpt", old=old),
            "two": info("b.ckpt", "c.ckpt", old=old, Extra={"input": {}, "output": []}),
        }
    )

    def able(wanted: dict[str, Any]) -> list[str]:
        needs = both.needs(wanted)
        return [name for name in ("one", "two", "three") if both.can_run(name, needs)]

    assert able(prompt("a.safetensors")) == ["one"]
    assert able(prompt("b.ckpt")) == ["one", "two"]
    assert able(prompt("c.ckpt", "Extra")) == ["two"]
    assert able(prompt("a.safetensors", "Extra")) == []
    assert able(prompt("nowhere.ckpt")) == []


def test_choices_are_those_of_all_and_lacking_is_told_of_the_one_that_lacks_least() -> None:
    both = NodeCatalogue({"one": info("a.ckpt"), "two": info("b.ckpt", old=True)})
    assert both.merged is not None
    loader = both.merged.get("Loader")
    assert loader is not None
    spec = loader.input("ckpt_name")
    assert spec is not None
    assert spec.choices == ("a.ckpt", "b.ckpt")
    lacking = both.with_infos({"three": info("a.ckpt", Extra={"input": {}})}).lacking(
        nodes_of(prompt("b.ckpt", "Extra")).values()
    )
    assert lacking is not None
    assert len(lacking.nodes) + len(lacking.choices) == 1


def test_what_jobs_need_is_the_same_whatever_their_texts_and_numbers() -> None:
    catalogue = NodeCatalogue({"one": info("a.ckpt")})
    first, second = prompt("a.ckpt"), prompt("a.ckpt")
    second["2"]["inputs"]["steps"] = 30
    assert catalogue.needs(first) == catalogue.needs(second)
    assert catalogue.needs(first) == Needs(
        ("Loader", "Sampler"), (("Loader", "ckpt_name", "a.ckpt"), ("Sampler", "sampler", "euler"))
    )
    assert catalogue.needs(first).models == ("a.ckpt",)
