from __future__ import annotations

from typing import Any

import pytest

from bridge.contract.retained import Missing
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


def test_nothing_is_known_before_a_comfyui_has_reported_its_nodes() -> None:
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

    def capable(wanted: dict[str, Any]) -> list[str]:
        needs = both.needs(wanted)
        return [name for name in ("one", "two", "three") if both.can_run(name, needs)]

    assert capable(prompt("a.safetensors")) == ["one"]
    assert capable(prompt("b.ckpt")) == ["one", "two"]
    assert capable(prompt("c.ckpt", "Extra")) == ["two"]
    assert capable(prompt("a.safetensors", "Extra")) == []
    assert capable(prompt("nowhere.ckpt")) == []


def test_choices_are_those_of_all_and_lacking_is_reported_of_the_one_that_lacks_least() -> None:
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


PAID = {"input": {"required": {}}, "output": ["STRING"], "api_node": True}
GIVEN_THE_KEY = {
    "input": {"required": {}, "hidden": {"key": ["API_KEY_COMFY_ORG"]}},
    "output": ["STRING"],
}


@pytest.mark.parametrize("declared", [PAID, GIVEN_THE_KEY])
def test_what_costs_money_runs_where_a_key_is(declared: dict[str, Any]) -> None:
    infos = {name: info("a.ckpt", Paid=declared) for name in ("one", "two")}
    some, none = NodeCatalogue(infos, keyed=["two"]), NodeCatalogue(infos)
    wanted = prompt("a.ckpt", "Paid")
    nodes = nodes_of(wanted).values()

    assert [name for name in infos if some.can_run(name, some.needs(wanted))] == ["two"]
    assert [name for name in infos if none.can_run(name, none.needs(wanted))] == []
    assert some.lacking(nodes) == Missing()
    assert none.lacking(nodes) == Missing(api_key=["Paid"])
    assert some.with_infos({"three": info()}).can_run("two", some.needs(wanted))
    free = prompt("a.ckpt")
    assert all(none.can_run(name, none.needs(free)) for name in infos)


def test_partner_nodes_are_those_that_any_comfyui_declares_so() -> None:
    both = NodeCatalogue({"one": info(Paid=GIVEN_THE_KEY), "two": info(Other=PAID, Free={})})
    assert both.partner_nodes(["Other", "Free", "Paid", "Unheard"]) == ["Other", "Paid"]
    assert NodeCatalogue().partner_nodes(["Paid"]) == []
