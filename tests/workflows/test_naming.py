from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.workflows import graph, naming
from bridge.workflows.constraints import Declarations
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison

VANILLA = comparison.object_info("0.3.75")
Document = dict[str, dict[str, Any]]


def node(kind: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    meta = {} if title is None else {"_meta": {"title": title}}
    return {"class_type": kind, "inputs": inputs, **meta}


def names(document: Document, info: ObjectInfo | None = VANILLA) -> dict[str, str]:
    """Return the place of each plain name."""
    found = graph.parse(document)
    plain = naming.plain_names(found, Declarations(found, info))
    return {name: str(target) for target, name in plain.items()}


def text(words: str = "x") -> dict[str, Any]:
    return node("CLIPTextEncode", text=words, clip=["4", 1])


SAMPLER: dict[str, Any] = {
    "seed": 5,
    "steps": 20,
    "cfg": 8.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 1.0,
}
CLASSIC: Document = {
    "3": node(
        "KSampler",
        **SAMPLER,
        model=["10", 0],
        positive=["6", 0],
        negative=["7", 0],
        latent_image=["5", 0],
    ),
    "4": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": text(),
    "7": text(),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    "10": node("LoraLoaderModelOnly", lora_name="l", strength_model=1.0, model=["4", 0]),
}
PLAIN_NAMES = {
    "prompt": "6.text",
    "negative_prompt": "7.text",
    "seed": "3.seed",
    "steps": "3.steps",
    "cfg": "3.cfg",
    "denoise": "3.denoise",
    "width": "5.width",
    "height": "5.height",
    "batch_size": "5.batch_size",
    "sampler": "3.sampler_name",
    "scheduler": "3.scheduler",
    "checkpoint": "4.ckpt_name",
    "lora": "10.lora_name",
}


@pytest.mark.parametrize("info", [VANILLA, None], ids=["known", "not yet known"])
def test_what_most_requests_set_has_a_plain_name(info: ObjectInfo | None) -> None:
    assert names(CLASSIC, info) == PLAIN_NAMES
    assert list(names(CLASSIC, info)) == list(PLAIN_NAMES)


@pytest.mark.parametrize("info", [VANILLA, None], ids=["known", "not yet known"])
def test_texts_are_distinguished_by_what_they_feed_in_the_end(info: ObjectInfo | None) -> None:
    document = {
        **CLASSIC,
        "3": node("KSampler", **SAMPLER, positive=["20", 0], negative=["20", 1]),
        "20": node("ControlNetApplyAdvanced", positive=["21", 0], negative=["23", 0]),
        "21": node("ConditioningCombine", conditioning_1=["22", 0], conditioning_2=["7", 0]),
        "22": node("FluxGuidance", conditioning=["30", 0], guidance=3.5),
        "23": node("ConditioningSetTimestepRange", conditioning=["6", 0], start=0.0, end=1.0),
        "30": text(),
    }
    found = names(document, info)
    assert found["prompt"] == "7.text"  # the lower id
    assert found["prompt_2"] == "30.text"
    assert found["negative_prompt"] == "6.text"
    assert found["guidance"] == "22.guidance"


def test_a_negative_made_of_nothing_is_no_text() -> None:
    document = {
        **CLASSIC,
        "3": node("KSampler", **SAMPLER, positive=["6", 0], negative=["20", 0]),
        "20": node("ConditioningZeroOut", conditioning=["6", 0]),
        "7": node("Note"),
    }
    found = names(document)
    assert found["prompt"] == "6.text"
    assert "negative_prompt" not in found


def test_a_guider_without_a_negative_takes_the_prompt() -> None:
    document = {
        "1": node("BasicGuider", conditioning=["2", 0]),
        "2": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
        "4": node("CLIPLoader", clip_name="c"),
        "6": text(),
    }
    assert names(document)["prompt"] == "6.text"


def test_a_text_is_found_through_the_nodes_that_hand_it_on() -> None:
    document = {
        **CLASSIC,
        "6": node("CLIPTextEncode", text=["20", 0]),
        "7": node("CLIPTextEncode", text=["21", 0]),
        "20": node("StringConcatenate", string_a="a", string_b=["22", 0], delimiter=", "),
        "21": node("PrimitiveStringMultiline", value="bad"),
        "22": node("PrimitiveString", value="b"),
    }
    found = names(document)
    assert found["prompt"] == "20.string_a"
    assert found["prompt_2"] == "22.value"
    assert found["negative_prompt"] == "21.value"
    assert "20.delimiter" not in found.values()


def test_texts_of_api_nodes_go_by_their_inputs_names() -> None:
    document = {"1": node("KlingStartEndFrameNode", prompt="a", negative_prompt="b", cfg_scale=0.5)}
    assert names(document) == {"prompt": "1.prompt", "negative_prompt": "1.negative_prompt"}


def test_the_second_of_a_kind_is_numbered_by_its_nodes_id_and_stays_so() -> None:
    document = {**CLASSIC, "12": node("KSampler", **SAMPLER), "58:2": node("KSampler", **SAMPLER)}
    found = names(document)
    assert (found["seed"], found["seed_2"], found["seed_3"]) == ("3.seed", "12.seed", "58:2.seed")
    shuffled = dict(reversed(document.items()))
    assert names(shuffled) == found


def test_the_pictures_size_is_the_latents() -> None:
    document = {
        "1": node("ImageScale", width=64, height=64, upscale_method="area", crop="disabled"),
        "2": node("CLIPTextEncodeSDXL", width=1024, height=1024, text_g="g", text_l="l"),
        "5": node("EmptyLatentImage", width=512, height=512, batch_size=1),
    }
    found = names(document)
    assert found["width"] == "5.width"
    assert found["width_2"] == "1.width"
    assert not [name for name, place in found.items() if place == "2.width"]


def test_a_value_node_is_what_it_is_wired_to() -> None:
    document = {
        **CLASSIC,
        "5": node("EmptyLatentImage", width=["20", 0], height=["20", 0], batch_size=["21", 0]),
        "20": node("PrimitiveInt", value=512),
        "21": node("PrimitiveInt", "How many", value=2),
        "22": node("PrimitiveBoolean", "Turbo?", value=True),
        "23": node("PrimitiveInt", "PrimitiveInt", value=3),
    }
    found = names(document)
    assert found["size"] == "20.value"
    assert found["batch_size"] == "21.value"
    assert found["turbo"] == "22.value"  # wired to nothing known: its title tells
    assert "23.value" not in found.values()


def test_files_to_load_are_named_by_their_kind() -> None:
    document = {
        "1": node("LoadImage", image="a.png"),
        "2": node("LoadImageMask", image="b.png", channel="alpha"),
        "3": node("LoadVideo", file="c.mp4"),
        "4": node("LoadImage", image="d.png"),
    }
    for info in (VANILLA, None):
        found = names(document, info)
        assert found["image"] == "1.image"
        assert found["image_2"] == "4.image"
        assert found["mask"] == "2.image"
        assert found["video"] == "3.file"


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_in_real_workflows_names_are_unique_and_nearly_all_have_a_prompt(version: str) -> None:
    info = comparison.object_info(version)
    prompts = comparison.load(f"given-{version}") | comparison.load(f"more-{version}")
    with_prompt = 0
    for document in prompts.values():
        found = graph.parse(document)
        plain = naming.plain_names(found, Declarations(found, info))
        assert len(set(plain.values())) == len(plain)
        with_prompt += "prompt" in plain.values()
    # The others have none: upscalers, meshes, songs described by lyrics and tags.
    assert with_prompt > 0.8 * len(prompts)


def _node(kind: str, title: str | None, inputs: dict[str, Any]) -> dict[str, Any]:
    return node(kind, title, **inputs)


LINKS = st.tuples(st.sampled_from(list("123456")), st.integers(0, 2)).map(list)
CLASSES = st.sampled_from(
    [
        "KSampler",
        "CLIPTextEncode",
        "ConditioningCombine",
        "ConditioningZeroOut",
        "ControlNetApplyAdvanced",
        "StringConcatenate",
        "PrimitiveInt",
        "PrimitiveString",
        "LoadImage",
        "Unheard",
    ]
)
INPUTS = st.dictionaries(
    st.sampled_from(
        [
            "positive",
            "negative",
            "conditioning",
            "conditioning_1",
            "text",
            "value",
            "string_a",
            "seed",
            "width",
            "height",
            "image",
        ]
    ),
    LINKS | st.text(max_size=3) | st.integers(-(2**63), 2**64 - 1) | st.booleans() | st.none(),
)
TITLES = st.none() | st.sampled_from(["Seed", "prompt 2", "Prompt", "x", "!"])
GRAPHS = st.fixed_dictionaries({key: st.builds(_node, CLASSES, TITLES, INPUTS) for key in "123456"})


@given(GRAPHS, st.sampled_from([VANILLA, None]))
def test_any_graph_even_one_that_goes_in_circles_gets_unique_names(
    document: Document, info: ObjectInfo | None
) -> None:
    found = graph.parse(document)
    plain = naming.plain_names(found, Declarations(found, info))
    assert len(set(plain.values())) == len(plain)
    for target in plain:
        assert isinstance(found.nodes[target.node].inputs[target.input], str | int | float)


def test_a_chain_of_thousands_is_walked() -> None:
    count = 5000
    document: Document = {
        str(index): node("ConditioningSetTimestepRange", conditioning=[str(index + 1), 0])
        for index in range(count)
    }
    document[str(count)] = text()
    document["4"]["inputs"]["conditioning"] = [str(5), 0]
    document["top"] = node("KSampler", **SAMPLER, positive=["0", 0])
    assert names(document)["prompt"] == f"{count}.text"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Stimmung", "stimmung"),
        ("Größe", "größe"),
        ("雪 景", "雪_景"),
        ("Жщ №2", "жщ_2"),
        ("!", ""),
    ],
)
def test_a_title_of_any_script_names_a_primitive(title: str, name: str) -> None:
    document = {
        "1": node("PrimitiveString", title, value="x"),
        "2": node("PreviewAny", source=["1", 0]),
    }
    assert names(document) == ({name: "1.value"} if name else {})
