"""Prompts with choices and comments: what is drawn, when, and what stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import InvalidInput
from bridge.workflows import binding, dynamic_prompts, source
from bridge.workflows.binding import BoundPrompt
from bridge.workflows.conversion import convert
from bridge.workflows.objectinfo import ObjectInfo
from bridge.workflows.sidecar import SidecarError
from bridge.workflows.workflow import Workflow
from tests.vectors.drawing import INPUT_NODE, Drawing
from tests.workflows.graphs import INFO as BASE

MULTILINE = {"multiline": True}
INFO = ObjectInfo(
    {
        **BASE.raw,
        "Prompt": {
            "input": {
                "required": {
                    "text": ["STRING", {**MULTILINE, "dynamicPrompts": True}],
                    "plain": ["STRING", MULTILINE],
                }
            },
            "output": ["*"],
            "output_node": True,
        },
    }
)


def first(_: int) -> int:
    return 0


def last(count: int) -> int:
    return count - 1


@pytest.mark.parametrize(
    ("text", "pick", "wanted"),
    [
        ("a {cat|dog|mouse} on a sofa", first, "a cat on a sofa"),
        ("a {cat|dog|mouse} on a sofa", last, "a mouse on a sofa"),
        ("{a|{b|c}}{d}", last, "cd"),
        ("{|a}{b|}", first, "b"),
        ("{a|}", last, ""),
        ("{a|{b||c}|}", lambda count: count // 2, ""),
        ("open {a|b", last, "open b"),
        ("shut } and | stay", first, "shut } and | stay"),
        (r"\{a\|b\}", last, "{a|b}"),
        (r"{a\|b|c}", first, "a|b"),
        (r"\(weight:1.2\)", first, r"\(weight:1.2\)"),
        ("/*\nStart\n*/Hello /* this */ world!\n// it\nEnd", first, "Hello  world!\n\nEnd"),
        ("never /* closed", first, "never /* closed"),
        ("{2$$a|b|c}", first, "a, b"),
        ("{2$$a|b|c}", last, "c, b"),
        ("{2$$ and $$a|b|c}", first, "a and b"),
        ("{1-3$$a|b|c}", first, "a"),
        ("{1-3$$a|b|c}", last, "c, b, a"),
        ("{9$$a|b}", first, "a, b"),
        ("{0$$a|b}", last, ""),
        ("{2$$a|{b|c}}", last, "c, a"),
        ("costs $$ and {$5|$6}", last, "costs $$ and $6"),
    ],
)
def test_a_prompt_is_drawn_as_it_is_meant(
    text: str, pick: Callable[[int], int], wanted: str
) -> None:
    assert dynamic_prompts.draw(text, pick) == wanted


@given(st.text("ab{}|$1-2\\/* \n"), st.randoms())
def test_any_text_can_be_drawn(text: str, random: Any) -> None:
    drawn = dynamic_prompts.draw(text, random.randrange)
    assert len(drawn) <= len(text) * 20
    if not dynamic_prompts.is_dynamic(text):
        assert drawn == text


def test_a_prompt_of_many_levels_is_drawn_in_no_time_and_depth() -> None:
    dynamic_prompts.draw("{" * 20_000 + "a" + "}" * 20_000, first)


def drawing(text: str = "a {cat|dog} // or so", plain: str = "{x|y}") -> dict[str, Any]:
    found = Drawing()
    found.node(1, "Prompt", values=[text, plain])
    return found.document()


def built(document: Any, sidecar: str | None = None) -> Workflow:
    data = msgspec.json.encode(document)
    beside = None if sidecar is None else sidecar.encode()
    return source.read("demo.json", data, beside).build("demo", INFO)


def bound(workflow: Workflow, pick: Callable[[int], int] = last, /, **given: Any) -> BoundPrompt:
    return binding.bind(workflow, given, randint=lambda low, high: low + pick(high - low + 1))


def sent(workflow: Workflow, pick: Callable[[int], int] = last, /, **given: Any) -> Any:
    return bound(workflow, pick, **given).prompt["1"]["inputs"]


def test_a_files_prompt_is_drawn_for_each_job_and_reported() -> None:
    workflow = built(drawing())
    (spec,) = (each for each in workflow.inputs if each.target.input == "text")

    assert sent(workflow, first)["text"] == "a cat "
    assert sent(workflow, last)["text"] == "a dog "
    assert bound(workflow, last).inputs[spec.name] == "a dog "
    assert bound(workflow).given == {}
    described = workflow.definition().inputs["properties"][spec.name]
    assert (described["default"], described["x-dynamic"]) == ("a {cat|dog} // or so", "default")


def test_what_the_node_does_not_draw_and_what_a_request_sends_stays() -> None:
    workflow = built(drawing())
    assert sent(workflow)["plain"] == "{x|y}"
    assert sent(workflow, last, **{"1.text": "{one|two} // three"})["text"] == "{one|two} // three"


def test_a_recipe_gives_the_same_prompt_again() -> None:
    workflow = built(drawing())
    again = bound(workflow, last).inputs
    assert sent(workflow, first, **again)["text"] == "a dog "


def test_a_form_that_repeats_the_default_means_the_default() -> None:
    workflow = built(drawing())
    given = {"1.text": "a {cat|dog} // or so"}
    assert sent(workflow, last, **given)["text"] == "a dog "
    one, two = (bound(workflow, pick, **given).given for pick in (first, last))
    assert one == two


def test_a_prompt_without_a_name_is_drawn_too_also_beside_input_nodes_of_ours() -> None:
    found = Drawing()
    found.node(1, "Prompt", values=["a {cat|dog}", "x"])
    found.node(2, "Comfy2MQTTSeedInput", values=["seed", 7])
    workflow = built(found.document())
    assert [spec.name for spec in workflow.hidden] == ["1.text"]
    assert sent(workflow)["text"] == "a dog"
    assert bound(workflow).inputs["1.text"] == "a dog"
    with pytest.raises(InvalidInput):
        sent(workflow, last, **{"1.text": "no"})


def test_a_file_in_api_format_is_sent_as_it_is() -> None:
    api = {"1": {"class_type": "Prompt", "inputs": {"text": "a {cat|dog}", "plain": "x"}}}
    assert sent(built(api))["text"] == "a {cat|dog}"


def test_a_value_that_a_subgraph_shows_is_sent_as_it_is() -> None:
    inner = Drawing()
    inner.node(1, "Prompt", values=["a {cat|dog}", "x"], widgets={"text": "STRING"})
    link = inner.link(INPUT_NODE, 0, 1, "text")
    graph = {
        "id": "3c1e9c1e-0000-4000-8000-000000000001",
        "name": "Sub",
        **inner.document(),
        "inputs": [{"name": "text", "type": "STRING", "linkIds": [link]}],
        "outputs": [],
    }
    outer = Drawing()
    outer.node(5, graph["id"], values=["{shown|outside}"], widgets={"text": "STRING"})
    document = {**outer.document(), "definitions": {"subgraphs": [graph]}}
    workflow = built(document)
    assert bound(workflow).prompt["5:1"]["inputs"]["text"] == "{shown|outside}"


def test_a_sidecar_may_have_what_requests_send_drawn_or_nothing() -> None:
    always = built(drawing(), '[inputs."1.text"]\ndynamic = true\nrename = "about"')
    assert sent(always, about="{one|two}")["text"] == "two"
    one, two = (bound(always, pick, about="{one|two}").given for pick in (first, last))
    assert one == two == {"about": "{one|two}"}
    assert sent(always)["text"] == "a dog "

    never = built(drawing(), '[inputs."1.text"]\ndynamic = false')
    assert sent(never)["text"] == "a {cat|dog} // or so"

    plain = built(drawing(), '[inputs."1.plain"]\ndynamic = true')
    assert sent(plain)["plain"] == "y"


def test_a_sidecar_may_hide_fix_or_replace_a_prompt() -> None:
    hidden = built(drawing(), '[inputs."1.text"]\nhide = true')
    assert sent(hidden)["text"] == "a dog "
    with pytest.raises(InvalidInput):
        sent(hidden, last, **{"1.text": "no"})
    fixed = built(drawing(), '[inputs."1.text"]\nfix = "{as|is}"')
    assert sent(fixed)["text"] == "{as|is}"
    drawn = built(drawing(), '[inputs."1.text"]\nfix = "{as|is}"\ndynamic = true')
    assert sent(drawn)["text"] == "is"
    other = built(drawing(), '[inputs."1.text"]\ndefault = "{bird|fish}"')
    assert sent(other)["text"] == "fish"
    with pytest.raises(SidecarError, match="does not apply to an input of kind seed"):
        built(seeded(), "[inputs.seed]\ndynamic = true")


def seeded() -> dict[str, Any]:
    return {
        "1": {"class_type": "Sampler", "inputs": {"seed": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }


def test_a_conversion_takes_the_first_so_that_it_is_always_the_same() -> None:
    assert convert(drawing(), INFO)["1"]["inputs"] == {"text": "a cat ", "plain": "{x|y}"}
