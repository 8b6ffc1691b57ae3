from __future__ import annotations

import base64
import copy
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import BridgeError, InvalidInput
from bridge.contract.requests import Text
from bridge.contract.sources import Inline, JobOutput, Upload, Url
from bridge.workflows import binding
from bridge.workflows.binding import BoundPrompt
from bridge.workflows.graph import NodeInput
from bridge.workflows.inputs import KINDS, Input, names_file
from bridge.workflows.objectinfo import ObjectInfo
from tests.workflows.graphs import INFO, NAMED, PLAIN, workflow

PNG = b"\x89PNG\r\n\x1a\n and the rest"
SHA = hashlib.sha256(PNG).hexdigest()
NOW = datetime(2026, 3, 9, 7, 4, 5, tzinfo=UTC)
PICTURE = {"base64": base64.b64encode(PNG).decode(), "content_type": "image/png"}


def bind(
    document: dict[str, Any], given_: dict[str, Any], main: Text | Inline | None = None
) -> BoundPrompt:
    return binding.bind(workflow(document), given_, main=main, randint=lambda low, _: low + 42)


def test_what_is_given_goes_to_its_place_and_the_rest_stays() -> None:
    bound = bind(NAMED, {"prompt": "a mill", "steps": 30, "picture": PICTURE})
    assert bound.prompt["1"]["inputs"]["value"] == "a mill"
    assert bound.prompt["3"]["inputs"]["value"] == 30
    assert bound.prompt["4"]["inputs"]["value"] == 7.0
    assert bound.prompt["7"]["inputs"]["image"] == ""
    assert bound.prompt["8"]["inputs"] == NAMED["8"]["inputs"]
    assert bound.names["3.value"] == "steps"


def test_a_seed_left_out_is_drawn_and_reported() -> None:
    bound = bind(NAMED, {"picture": PICTURE})
    assert bound.prompt["2"]["inputs"]["value"] == 42
    assert bound.inputs["seed"] == 42
    assert "seed" not in bound.given
    fixed = bind(NAMED, {"picture": PICTURE, "seed": 2**64 - 1})
    assert fixed.inputs["seed"] == 2**64 - 1
    assert bind(PLAIN, {}).inputs["seed"] == 42


SAVED: dict[str, Any] = {
    "class_type": "SaveImage",
    "inputs": {"images": ["2", 0], "filename_prefix": "x"},
}
BY_PLACE = {**PLAIN, "92": SAVED}
# Given by a text node of ours.
BY_NAME = {
    **NAMED,
    "90": {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "called", "value": "x"}},
    "92": {**SAVED, "inputs": {**SAVED["inputs"], "filename_prefix": ["90", 0]}},
}


@pytest.mark.parametrize("control", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u2028"])
@pytest.mark.parametrize(
    ("graph", "name"),
    [(BY_NAME, "called"), (BY_PLACE, "92.filename_prefix")],
    ids=["name", "place"],
)
def test_a_files_name_has_no_control_characters(
    graph: dict[str, Any], name: str, control: str
) -> None:
    picture = {"picture": PICTURE} if graph is BY_NAME else {}
    with pytest.raises(InvalidInput, match="control characters") as caught:
        bind(graph, {name: f"a{control}b", **picture})
    assert caught.value.details["input"] == name
    assert bind(graph, {name: "a b/ü-%date%", **picture}).prompt


def test_a_files_name_in_a_graph_of_somebodys_has_none_either() -> None:
    graph = copy.deepcopy(BY_PLACE)
    graph["92"]["inputs"]["filename_prefix"] = "a\nb"
    with pytest.raises(InvalidInput, match="control characters"):
        bind(graph, {})


@pytest.mark.parametrize(
    ("place", "is_one"),
    [
        ("filename_prefix", True),
        ("filename", True),
        ("output_path", True),
        ("subfolder", True),
        ("save_dir", True),
        ("directory", True),
        ("text", False),
        ("profile", False),
        ("prefix", False),
    ],
)
def test_the_names_of_inputs_that_name_files(place: str, *, is_one: bool) -> None:
    assert names_file(place) is is_one


def test_a_text_for_a_model_may_have_several_lines() -> None:
    assert bind(NAMED, {"picture": PICTURE, "prompt": "a\n\tb"}).inputs["prompt"] == "a\n\tb"


def test_a_batch_of_media_is_bounded() -> None:
    batch = [{"upload": f"u{number}"} for number in range(binding.MAX_BATCH)]
    *_, style = bind(NAMED, {"picture": PICTURE, "style": batch}).media
    assert len(style.sources) == binding.MAX_BATCH
    for refused in ([*batch, {"upload": "one-more"}], []):
        with pytest.raises(InvalidInput) as caught:
            bind(NAMED, {"picture": PICTURE, "style": refused})
        assert caught.value.details["input"] == "style"


def test_media_names_its_sources_and_is_put_in_by_its_hash() -> None:
    bound = bind(
        NAMED, {"picture": PICTURE, "style": [{"upload": "u1"}, {"job": "j", "output": 2}]}
    )
    picture, style = bound.media
    assert picture.sources == (Inline(PNG, "image/png"),)
    assert style.sources == (Upload("u1"), JobOutput("j", 2))
    assert "picture" not in bound.inputs
    binding.place(bound.prompt, picture.spec.target, picture.spec.via, [SHA], "png")
    assert bound.prompt["6"]["inputs"]["image"] == SHA
    binding.place(bound.prompt, style.spec.target, style.spec.via, [SHA, "other"], "png")
    assert bound.prompt["7"]["inputs"]["image"] == f'["{SHA}","other"]'


def test_media_of_comfyuis_own_nodes_is_put_in_by_its_uploaded_name() -> None:
    bound = bind(PLAIN, {"3.image": {"url": "http://host/x.png"}})
    (image,) = bound.media
    assert image.sources == (Url("http://host/x.png"),)
    binding.place(bound.prompt, image.spec.target, image.spec.via, [SHA], "png")
    assert bound.prompt["3"]["inputs"]["image"] == f"comfy2mqtt/{SHA}.png"


def test_a_bare_payload_is_the_first_input_of_its_kind() -> None:
    assert bind(NAMED, {"picture": PICTURE}, Text("a mill")).inputs["prompt"] == "a mill"
    bound = bind(NAMED, {"prompt": "x"}, Inline(PNG))
    assert bound.media[0].sources == (Inline(PNG),)
    text = {"5": {"class_type": "Text", "inputs": {"text": "a barn"}}}
    assert bind({**PLAIN, **text}, {}, Text("a mill")).inputs["prompt"] == "a mill"


@pytest.mark.parametrize(
    ("given_", "details"),
    [
        (
            {"nonsense": 1},
            {
                "input": "nonsense",
                "allowed": ["cfg", "picture", "prompt", "seed", "steps", "style", "tiled"],
            },
        ),
        ({"8.sampler": "ddim"}, {"input": "8.sampler"}),
        ({"steps": 4}, {"input": "steps", "minimum": 5, "maximum": 100}),
        ({"steps": 101}, {"input": "steps", "minimum": 5, "maximum": 100}),
        ({"steps": "many"}, {"input": "steps", "type": "integer", "minimum": 5, "maximum": 100}),
        ({"steps": 5.5}, {"input": "steps", "type": "integer"}),
        ({"steps": True}, {"input": "steps", "type": "integer"}),
        ({"cfg": "nan"}, {"input": "cfg", "type": "number"}),
        ({"cfg": None}, {"input": "cfg", "type": "number"}),
        ({"tiled": "perhaps"}, {"input": "tiled", "type": "boolean"}),
        ({"tiled": 2}, {"input": "tiled", "type": "boolean"}),
        ({"prompt": "x" * 21}, {"input": "prompt", "max_length": 20}),
        ({"prompt": {"a": 1}}, {"input": "prompt", "type": "string"}),
        ({"prompt": "\ud800"}, {"input": "prompt", "type": "string"}),
        ({"seed": -1}, {"input": "seed"}),
        ({"picture": "there.png"}, {"input": "picture", "type": "image"}),
        ({"picture": {"base64": "%%%"}}, {"input": "picture", "type": "image"}),
        ({"picture": {"base64": "aGk=", "more": 1}}, {"input": "picture", "type": "image"}),
        ({"picture": {"upload": "a/b"}}, {"input": "picture", "type": "image"}),
        ({"picture": {"upload": "u", "url": "http://x"}}, {"input": "picture"}),
        ({"picture": []}, {"input": "picture"}),
    ],
)
def test_a_wrong_value_names_the_input_and_what_is_allowed(
    given_: dict[str, Any], details: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        bind(NAMED, {"picture": PICTURE, **given_})
    assert caught.value.details.items() >= details.items()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("steps", "many", "expected a whole number from 5 to 100, not 'many'"),
        ("steps", [5], "expected a whole number from 5 to 100, not a list"),
        ("tiled", {}, "expected true or false, not an object"),
        ("prompt", None, "expected text, not null"),
        ("prompt", "x" * 21, "21 characters are too many: at most 20"),
        (
            "picture",
            "there.png",
            "expected an object with one of base64, upload, job, url, topic, not 'there.png'",
        ),
        ("picture", {"upload": 5}, "upload: expected text"),
        ("picture", {"job": "a", "more": 1}, "unknown field 'more'"),
    ],
)
def test_a_wrong_value_is_refused_in_words_that_name_no_type_of_ours(
    name: str, value: Any, told: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        bind(NAMED, {"picture": PICTURE, name: value})
    assert caught.value.message == f"input {name!r}: {told}"


@pytest.mark.parametrize("text", ["%%%", "YQ", "YQ=", " YQ==", "YQ==\n", "Y\u00e9==", "-_=="])
def test_base64_is_whole_and_of_its_own_alphabet(text: str) -> None:
    with pytest.raises(InvalidInput, match="`base64` is not valid base64"):
        bind(NAMED, {"picture": {"base64": text}})


@pytest.mark.parametrize(
    ("name", "value", "bound"),
    [
        ("steps", "30", 30),
        ("steps", 30.0, 30),
        ("cfg", "7", 7.0),
        ("tiled", "false", False),
        ("tiled", "OFF", False),
        ("tiled", 1, True),
        ("prompt", 5, "5"),
        ("seed", "5", 5),
        ("seed", None, 42),
    ],
)
def test_strings_are_read_by_the_declared_type(name: str, value: Any, bound: Any) -> None:
    found = bind(NAMED, {"picture": PICTURE, name: value}).inputs[name]
    assert found == bound
    assert type(found) is type(bound)


def test_a_choice_must_be_one() -> None:
    assert bind(PLAIN, {"1.ckpt": "b"}).inputs["1.ckpt"] == "b"
    with pytest.raises(InvalidInput) as caught:
        bind(PLAIN, {"1.ckpt": "c"})
    assert caught.value.details["allowed"] == ["a.safetensors", "b"]
    assert not {"more", "near"} & caught.value.details.keys()


def test_of_many_choices_those_that_are_like_a_wrong_one_are_named() -> None:
    choices = tuple(f"model{number}.safetensors" for number in range(200))
    spec = Input(name="ckpt", kind="choice", target=NodeInput("1", "ckpt"), choices=choices)
    with pytest.raises(InvalidInput) as caught:
        KINDS["choice"].coerce(spec, "model19")
    details = caught.value.details
    assert (len(details["allowed"]), details["more"]) == (50, 150)
    assert details["near"] == [f"model{n}.safetensors" for n in (19, 190, 191, 192, 193)]
    with pytest.raises(InvalidInput) as caught:
        KINDS["choice"].coerce(spec, "wan")
    assert "near" not in caught.value.details


def test_media_that_is_needed_is_required() -> None:
    with pytest.raises(InvalidInput, match="'picture': required"):
        bind(NAMED, {})


def test_nothing_is_given_twice() -> None:
    with pytest.raises(InvalidInput, match="given twice"):
        bind(NAMED, {"picture": PICTURE}, Inline(PNG))
    without_text = {key: node for key, node in NAMED.items() if key != "1"}
    with pytest.raises(InvalidInput, match="no input for it"):
        bind(without_text, {"picture": PICTURE}, Text("x"))


def test_a_text_for_a_workflow_that_has_none_by_name_is_refused_with_the_place_of_one() -> None:
    join = {"input": {"required": {"string_b": ["STRING", {}]}}, "output": ["STRING"]}
    joined = {
        "7": {"class_type": "Join", "inputs": {"string_b": "a mill"}},
        "8": {"class_type": "OtherSave", "inputs": {"any": ["7", 0]}},
    }
    info = ObjectInfo({**INFO.raw, "Join": join})
    with pytest.raises(InvalidInput, match=r"an object .* such as '7\.string_b'"):
        binding.bind(workflow(PLAIN | joined, info), {}, main=Text("x"), randint=max)
    # A file's name is no text to suggest.
    with pytest.raises(InvalidInput, match=r"no input for it$"):
        binding.bind(workflow(PLAIN, info), {}, main=Text("x"), randint=max)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.just(PICTURE),
    st.lists(st.integers(), max_size=2),
)
INPUTS = st.dictionaries(
    st.sampled_from(["prompt", "seed", "steps", "cfg", "tiled", "picture", "style", "x"]), VALUES
)


@given(first=INPUTS, second=INPUTS)
def test_two_requests_never_mix_and_the_graph_stays_as_it_is(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    shared = workflow(NAMED)
    before = copy.deepcopy(shared.graph)

    def attempt(given_: dict[str, Any]) -> BoundPrompt | str:
        try:
            return binding.bind(shared, given_, randint=lambda low, _: low)
        except BridgeError as error:
            return error.message

    alone = attempt(second)
    attempt(first)
    assert attempt(second) == alone
    assert shared.graph == before


def test_each_job_saves_into_a_folder_of_its_own() -> None:
    prompt = bind(PLAIN, {}).prompt
    isolated = binding.isolate(prompt, "p1", NOW)
    assert isolated["58:4"]["inputs"]["filename_prefix"] == "comfy2mqtt/p1/pic"
    assert prompt["58:4"]["inputs"]["filename_prefix"] == "some/where/pic"
    assert isolated["2"] == prompt["2"]


@pytest.mark.parametrize("prefix", ["../../x", "..", "a\\..\\b", "/", "%date:yyyy%/x", ""])
def test_no_prefix_leads_out_of_that_folder(prefix: str) -> None:
    prompt = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix}}}
    found = binding.isolate(prompt, "p1", NOW)["1"]["inputs"]["filename_prefix"]
    parts = found.split("/")
    assert parts[:2] == ["comfy2mqtt", "p1"]
    assert len(parts) == 3
    assert ".." not in parts


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("%date:yyyy-MM-dd%", "2026-03-09"),
        ("a_%date:yyMd_hhmmss%_b", "a_2639_070405_b"),
        ("%date:yyyy/MM/dd%", "09"),
        ("%date:h:m:s%", "7:4:5"),
        ("%date:yyyy-MM-dd%/%date:yy%", "26"),
        # As the page takes dots.
        ("%date:dd.MM%", "%date:dd.MM%"),
        ("%date:dd.MM.yyyy%", "09"),
        ("%width%x%height%", "%width%x%height%"),
        ("100% a date: yyyy", "100% a date: yyyy"),
    ],
)
def test_a_date_in_a_files_name_is_that_of_the_job(prefix: str, name: str) -> None:
    prompt = {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": prefix}}}
    found = binding.isolate(prompt, "p1", NOW)["1"]["inputs"]["filename_prefix"]
    assert found == f"comfy2mqtt/p1/{name}"
