from __future__ import annotations

import pytest

from bridge.contract.missing import advice, models, why_not_runnable
from bridge.contract.retained import Missing, MissingChoice, MissingInput


def choice(value: str) -> MissingChoice:
    return MissingChoice(node="1", input="ckpt_name", value=value, allowed=[])


MODEL = Missing(choices=[choice("sd15.safetensors")])


@pytest.mark.parametrize(
    ("workflow", "missing", "told", "helps"),
    [
        ("txt2img", MODEL, "optional: needs a model, sd15.safetensors", "docs/models.md"),
        ("mine", MODEL, "needs a model, sd15.safetensors", "docs/models.md"),
        (
            "mine",
            Missing(choices=[choice("a.ckpt"), choice("b.gguf")]),
            "needs models, a.ckpt, b.gguf",
            "docs/models.md",
        ),
        (
            "txt2img",
            Missing(nodes=["Rare"], choices=[choice("a.ckpt")]),
            "missing Rare, ckpt_name 'a.ckpt'",
            "install the nodes or models",
        ),
        ("mine", Missing(choices=[choice("euler")]), "missing ckpt_name 'euler'", "install"),
        ("mine", Missing(api_key=["Partner"]), "missing an API key for Partner", "api_key_file"),
        (
            "mine",
            Missing(inputs=[MissingInput(node="3", input="image", type="IMAGE")]),
            "missing input image of node 3",
            "connect the input",
        ),
    ],
)
def test_what_a_workflow_lacks_is_reported_with_what_helps(
    workflow: str, missing: Missing, told: str, helps: str
) -> None:
    assert why_not_runnable(workflow, missing) == told
    assert helps in advice(missing)


def test_nothing_missing_is_no_model() -> None:
    assert models(Missing()) == []
