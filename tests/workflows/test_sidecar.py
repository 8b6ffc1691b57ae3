from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import InvalidInput
from bridge.contract.messages import encode
from bridge.contract.requests import Text
from bridge.workflows import binding, definition, graph, sidecar
from bridge.workflows.binding import BoundPrompt
from bridge.workflows.graph import WorkflowError
from bridge.workflows.sidecar import SidecarError
from bridge.workflows.workflow import Workflow
from tests.vectors import comparison
from tests.workflows.graphs import INFO, NAMED, PLAIN

DOCUMENT = {
    **PLAIN,
    "5": {"class_type": "Text", "inputs": {"text": "a barn", "list": {"__value__": [1]}}},
    "10": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}


def dressed(text: str, document: dict[str, Any] = DOCUMENT) -> Workflow:
    found = graph.parse(document)
    return definition.build("demo", "v1", found, INFO, sidecar.read(text.encode()))


def bind(workflow: Workflow, given_: dict[str, Any], **options: Any) -> BoundPrompt:
    return binding.bind(workflow, given_, randint=lambda low, _: low + 42, **options)


def test_it_describes_a_workflow_to_people() -> None:
    found = dressed(
        """
        title = "Barns"
        description = "Paints barns."
        [inputs.prompt]
        title = "What to paint"
        description = "In plain words."
        [outputs.SaveImage]
        rename = "picture"
        title = "The picture"
        """
    ).definition()
    assert (found.title, found.description) == ("Barns", "Paints barns.")
    prompt = found.inputs["properties"]["prompt"]
    assert (prompt["title"], prompt["description"]) == ("What to paint", "In plain words.")
    assert [output.name for output in found.outputs] == ["picture", "SaveImage 10"]
    assert found.outputs[0].title == "The picture"


def test_an_input_gets_another_name_and_its_place_stays() -> None:
    found = dressed('[inputs.steps]\nrename = "quality"\n[inputs."2.sampler"]\nrename = "how"')
    assert {"quality", "how"} <= {spec.name for spec in found.inputs}
    assert bind(found, {"quality": 7, "how": "ddim"}).prompt["2"]["inputs"]["steps"] == 7
    assert bind(found, {"2.steps": 7}).inputs["quality"] == 7
    with pytest.raises(InvalidInput, match="unknown input 'steps'"):
        bind(found, {"steps": 7})
    with pytest.raises(InvalidInput, match="given twice"):
        bind(found, {"quality": 7, "The sampler.steps": 7})


def test_what_is_hidden_or_fixed_cannot_be_given_by_any_name() -> None:
    found = dressed("[inputs.steps]\nfix = 12\n[inputs.cfg]\nhide = true")
    properties = found.definition().inputs["properties"]
    assert not {"steps", "2.steps", "cfg", "2.cfg"} & properties.keys()
    bound = bind(found, {})
    assert bound.prompt["2"]["inputs"]["steps"] == 12
    assert bound.prompt["2"]["inputs"]["cfg"] == 7.5
    assert not {"steps", "cfg"} & bound.inputs.keys()
    for name in ("steps", "2.steps", "The sampler.steps", "cfg", "2.cfg", "The sampler.cfg"):
        with pytest.raises(InvalidInput, match="unknown input"):
            bind(found, {name: 5})


def test_a_hidden_seed_is_drawn_and_a_fixed_one_is_not() -> None:
    hidden = bind(dressed("[inputs.seed]\nhide = true"), {})
    assert hidden.prompt["2"]["inputs"]["seed"] == 42
    assert hidden.inputs["seed"] == 42  # so that the picture can be made again
    fixed = bind(dressed("[inputs.seed]\nfix = 5"), {})
    assert fixed.prompt["2"]["inputs"]["seed"] == 5


def test_limits_only_narrow() -> None:
    found = dressed(
        """
        [inputs.steps]
        minimum = 10
        maximum = 1000
        step = 5
        [inputs.prompt]
        max_length = 10
        [inputs.cfg]
        default = 3
        """
    )
    properties = found.definition().inputs["properties"]
    steps = properties["steps"]
    assert (steps["minimum"], steps["maximum"], steps["x-step"]) == (10, 100, 5)
    assert properties["prompt"]["maxLength"] == 10
    assert properties["cfg"]["default"] == 3.0
    assert bind(found, {}).prompt["2"]["inputs"]["cfg"] == 3.0
    for wrong in ({"steps": 9}, {"prompt": "a red barn by the sea"}):
        with pytest.raises(InvalidInput):
            bind(found, wrong)


def test_choices_are_cut_down_or_made() -> None:
    found = dressed(
        """
        [inputs."2.sampler"]
        choices = ["ddim"]
        default = "ddim"
        [inputs.steps]
        choices = [10, 20]
        """
    )
    properties = found.definition().inputs["properties"]
    assert properties["2.sampler"]["enum"] == ["ddim"]
    assert properties["steps"]["enum"] == [10, 20]
    assert bind(found, {"steps": "10"}).prompt["2"]["inputs"]["steps"] == 10
    with pytest.raises(InvalidInput, match="not one of the choices"):
        bind(found, {"2.sampler": "euler"})


def test_a_model_that_is_not_there_is_missing_and_the_sidecar_is_not_broken() -> None:
    found = dressed('[inputs."1.ckpt"]\nfix = "gone.safetensors"')
    assert found.missing is not None
    assert [each.value for each in found.missing.choices] == ["gone.safetensors"]


def test_a_place_of_a_workflow_with_our_nodes_can_be_opened() -> None:
    found = dressed('[inputs."8.sampler"]\nrename = "how"', NAMED)
    assert found.find_input("8.sampler") is None
    bound = bind(found, {"how": "ddim", "picture": {"base64": ""}})
    assert bound.prompt["8"]["inputs"]["sampler"] == "ddim"


def test_hidden_outputs_are_not_made() -> None:
    found = dressed('[outputs."SaveImage 10"]\nhide = true')
    assert [output.node for output in found.outputs] == ["58:4"]
    assert "10" not in bind(found, {}).prompt
    assert found.find_input("10.filename_prefix") is None
    document = {
        **DOCUMENT,
        "10": {"class_type": "SaveAndPass", "inputs": {"images": ["2", 0]}},
        "11": {"class_type": "OtherSave", "inputs": {"any": ["10", 0]}},
    }
    with pytest.raises(SidecarError, match="node 11 uses it"):
        dressed("[outputs.SaveAndPass]\nhide = true", document)


def test_our_nodes_get_the_names_of_the_results() -> None:
    document = copy.deepcopy(NAMED)
    document["10"] = copy.deepcopy(NAMED["9"])
    found = dressed('[outputs.result]\nrename = "picture"', document)
    assert [output.name for output in found.outputs] == ["picture", "result 10"]
    prompt = bind(found, {"picture": {"base64": ""}}).prompt
    assert [prompt[node]["inputs"]["name"] for node in ("9", "10")] == ["picture", "result 10"]


def test_a_bare_press_has_its_own_inputs() -> None:
    found = dressed('[press.inputs]\nprompt = "a mill"\nsteps = 30')
    bound = bind(found, {})
    assert (bound.inputs["prompt"], bound.inputs["steps"]) == ("a mill", 30)
    assert bound.given == {}
    for given_, main in (({"cfg": 3.0}, None), ({}, Text("a fox"))):
        assert bind(found, given_, main=main).inputs["steps"] == 20


def test_it_says_where_outputs_and_results_go() -> None:
    text = """
        put = [{url = "folder:photos", output = 1}, {url = "https://h/dav/", headers = {A = "b"}}]
        webhook = {url = "https://h/done"}
    """
    sinks = dressed(text).sinks
    assert [each.url for each in sinks.put] == ["folder:photos", "https://h/dav/"]
    assert sinks.put[1].headers == {"A": "b"}
    assert sinks.webhook is not None
    assert sinks.webhook.url == "https://h/done"
    assert dressed("").sinks.put == ()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('put = [{url = "ftp://x"}]', "put.url"),
        ('put = [{url = "folder:x", more = 1}]', "put.more"),
        ("put = [{}]", "put"),
        ('put = [{url = "https://h/", headers = {Host = "x"}}]', "put.url"),
        ('webhook = {url = "folder:x"}', "webhook.url"),
        ('webhook = "https://h/"', "webhook"),
    ],
)
def test_sinks_that_are_none_are_reported_with_their_key(text: str, key: str) -> None:
    with pytest.raises(SidecarError) as wrong:
        dressed(text)
    assert wrong.value.key == key


def test_a_payload_can_be_ignored_by_run() -> None:
    found = dressed('[press]\nignore_payload = true\ninputs = { prompt = "a mill" }')
    for given_, main in (({}, None), ({}, Text("PRESS")), ({"action": "single"}, None)):
        assert bind(found, given_, main=main).inputs["prompt"] == "a mill"
    assert bind(found, {"prompt": "a fox"}, simple=False).inputs["prompt"] == "a fox"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("title = 5", 1, "title: expected `str"),
        ("\ntitel = 'x'", 2, "titel: no such key; allowed: description, inputs"),
        ("title = 'x'\n[inputs.prompt]\n\nrenam = 'x'", 4, "inputs.prompt.renam: no such key"),
        ("[inputs.steps]\nminimum = 'low'", 2, "inputs.steps.minimum: expected"),
        ("[inputs]\nsteps.minimum = 'low'", 2, "inputs.steps.minimum: expected"),
        ("[inputs.promt]\ntitle = 'x'", 1, "inputs.promt: the workflow has no such input; allowed"),
        ("[inputs.'9.x']\ntitle = 'x'", 1, 'inputs."9.x": the workflow has no such input'),
        ("[inputs.prompt]\nminimum = 1", 2, "does not apply to an input of kind text; allowed"),
        ("[inputs.seed]\ndefault = 1", 2, "does not apply to an input of kind seed"),
        ("[inputs.image]\nfix = 'x'", 2, "does not apply to an input of kind image"),
        ("[inputs.steps]\nmaximum = inf", 2, "inputs.steps.maximum: is no finite number"),
        ("[inputs.steps]\nchoices = [1, nan]", 2, "inputs.steps.choices: is no finite number"),
        ("[press.inputs]\nsteps = nan", 1, "press.inputs: is no finite number"),
        ("[inputs.'5.list']\ndefault = ['a', 0]", 2, "which ComfyUI takes for a link"),
        ("[inputs.'5.list']\nfix = ['1', 0]", 2, "which ComfyUI takes for a link"),
        ("[inputs.steps]\nfix = 'many'", 2, "inputs.steps.fix: expected a whole number"),
        ("[inputs.steps]\nfix = 101", 2, "101 is above the maximum 100"),
        ("[inputs.steps]\nfix = 5\ndefault = 6", 3, "means nothing beside `fix`"),
        ("[inputs.steps]\nminimum = 200", 2, "nothing is left between 200 and 100"),
        ("[inputs.steps]\nminimum = 30", 2, "the graph's own value does not fit"),
        ("[inputs.'2.sampler']\nchoices = ['x']", 2, "none of them is there; allowed: ddim, euler"),
        ("[inputs.steps]\nrename = 'cfg'", 2, "the name 'cfg' is taken"),
        ("[inputs.steps]\nrename = '$x'", 2, "begins with $"),
        ("[inputs.steps]\n[inputs.'2.steps']", 2, "this is the input 'steps'"),
        ("[outputs.x]\nhide = true", 1, "the workflow has no such output; allowed: SaveImage"),
        ("[press.inputs]\nstep = 1", 2, "press.inputs.step: the workflow has no such input"),
        ("[press.inputs]\nsteps = 'x'", 2, "press.inputs.steps: expected a whole number"),
        ("[press]\nignore = true", 2, "press.ignore: no such key; allowed: ignore_payload, inputs"),
        ('title = """\ninputs = 1\n"""\ninputs = 1', 4, "inputs: expected"),
        ("[[put]]\nurl = 'http://a/{filename}'\n[[put]]\nurl = 'ftp://b'", 4, "put.url: "),
        ("title = 'x\n", 1, "not valid TOML"),
        ("a = 1\n\n[x", 3, "not valid TOML"),
    ],
)
def test_what_is_wrong_is_reported_with_key_line_and_what_is_allowed(
    text: str, line: int, said: str
) -> None:
    with pytest.raises(SidecarError) as caught:
        dressed(text)
    assert said in caught.value.reason
    assert caught.value.line == line


def test_what_must_be_given_cannot_be_hidden() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["3"]["inputs"]["image"] = "gone.png"
    with pytest.raises(SidecarError, match="must be given"):
        dressed("[inputs.image]\nhide = true", document)


def test_all_outputs_hidden_is_no_workflow() -> None:
    with pytest.raises(SidecarError, match="all outputs are hidden"):
        dressed("[outputs.SaveImage]\nhide = true\n[outputs.'SaveImage 10']\nhide = true")


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(SidecarError, match="not UTF-8") as caught:
        sidecar.read(b"title = 'x'\n\xff")
    assert caught.value.line == 2


def test_the_graph_that_others_use_is_not_touched() -> None:
    parsed = graph.parse(DOCUMENT)
    rules = sidecar.read(b"[inputs.steps]\nfix = 12")
    definition.build("demo", "v1", parsed, INFO, rules)
    assert parsed.nodes["2"].inputs["steps"] == 20


def test_the_example_of_the_manual_is_a_sidecar() -> None:
    _, _, rest = Path("docs/workflows.md").read_text().partition("```toml\n")
    example = rest.partition("```")[0]
    settings = {"seed": 1, "steps": 20, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal"}
    document = {
        "3": {"class_type": "KSampler", "inputs": {**settings, "positive": ["6", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a barn"}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
    }
    info = comparison.object_info("0.3.75")
    rules = sidecar.read(example.encode())
    found = definition.build("demo", "v1", graph.parse(document), info, rules)
    names = {spec.name for spec in found.inputs}
    assert names == {"prompt", "seed", "quality", "scheduler"}
    assert bind(found, {}).inputs["prompt"] == "a surprise"


KEYS = st.sampled_from(
    ["rename", "hide", "fix", "default", "minimum", "maximum", "choices", "title", "max_length"]
)
NAMES = st.sampled_from(["prompt", "seed", "steps", "2.sampler", "image", "nonsense", "2.tiled"])
LITERALS = st.sampled_from(['"euler"', "5", "true", "0.5", '["euler", "ddim"]', '"x"', "-1"])


@given(
    st.dictionaries(NAMES, st.dictionaries(KEYS, LITERALS, max_size=3), max_size=4),
    st.text(max_size=10),
)
def test_any_sidecar_fits_or_is_refused(tables: dict[str, dict[str, str]], rest: str) -> None:
    text = "\n".join(
        line
        for name, rules in tables.items()
        for line in (f'[inputs."{name}"]', *(f"{key} = {value}" for key, value in rules.items()))
    )
    for each in (text, f"{text}\n{rest}"):
        with suppress(WorkflowError):
            found = dressed(each)
            encode(found.definition())
            names = [spec.name for spec in found.inputs]
            assert len(set(names)) == len(names)
