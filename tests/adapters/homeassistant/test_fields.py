from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from bridge.adapters.homeassistant.fields import DRAWN_ANEW, LARGEST_SEED, Field, fields
from tests.adapters.homeassistant.definitions import (
    CFG,
    PICTURE,
    PROMPT,
    SEED,
    STEPS,
    STYLE,
    UPSCALE,
    definition,
)


def field(schema: dict[str, Any], name: str = "wanted") -> Field:
    (found,) = fields(definition(**{name: schema}))
    return found


@pytest.mark.parametrize(
    ("schema", "platform"),
    [
        (PROMPT, "text"),
        (STEPS, "number"),
        (CFG, "number"),
        (SEED, "number"),
        (STYLE, "select"),
        (UPSCALE, "switch"),
        (PICTURE, "text"),
        ({"x-kind": "choice", "enum": [str(n) for n in range(500)]}, "select"),
        ({"x-kind": "choice", "enum": [str(n) for n in range(501)]}, "text"),
        ({"x-kind": "choice", "x-choices": "checkpoints"}, "text"),
        ({"x-kind": "choice", "enum": []}, "text"),
        ({"x-kind": "integer", "enum": [512, 768]}, "select"),
    ],
)
def test_each_kind_of_input_has_its_platform(schema: dict[str, Any], platform: str) -> None:
    assert field(schema).platform == platform


def test_a_list_that_a_definition_only_names_is_a_select_and_a_longer_one_is_checked() -> None:
    schema = {"x-kind": "choice", "x-choices": "checkpoints"}
    few = [f"model{number}" for number in range(500)]
    (found,) = fields(definition(model=schema), {"checkpoints": few})
    assert (found.platform, found.options) == ("select", tuple(few))
    (found,) = fields(definition(model=schema), {"checkpoints": [*few, "one more"]})
    assert found.platform == "text"
    assert (found.read("model7"), found.read("nothing")) == ("model7", None)


def test_what_has_no_name_or_is_json_is_not_shown() -> None:
    place = {"x-kind": "float", "x-place": "KSampler", "default": 1.0}
    assert fields(definition(**{"3.cfg": place}, curve={"x-kind": "json", "type": "object"})) == []


def test_a_number_always_has_bounds_and_steps_that_home_assistant_takes() -> None:
    steps, cfg, seed = field(STEPS), field(CFG), field(SEED)
    assert (steps.minimum, steps.maximum, steps.step) == (1, 100, 1)
    assert (cfg.minimum, cfg.maximum, cfg.step) == (0, 2**53, 0.01)
    assert (seed.minimum, seed.maximum, seed.default) == (DRAWN_ANEW, LARGEST_SEED, DRAWN_ANEW)
    assert field({**CFG, "x-step": 1e-9}).step == 0.001


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (PROMPT, "", ""),
        (PROMPT, "x" * 5000, "x" * 5000),
        ({**PROMPT, "maxLength": 3}, "four", None),
        (STEPS, "30", 30),
        (STEPS, "30.0", 30),
        (STEPS, "30.5", None),
        (STEPS, "101", None),
        (STEPS, "many", None),
        (CFG, "6.5", 6.5),
        (CFG, "nan", None),
        (SEED, "-1", -1),
        (SEED, str(2**32 - 1), 2**32 - 1),
        (STYLE, "ink", "ink"),
        (STYLE, "chalk", None),
        (UPSCALE, "ON", True),
        (UPSCALE, "OFF", False),
        (UPSCALE, "maybe", None),
    ],
)
def test_a_command_sets_what_the_input_can_have(
    schema: dict[str, Any], text: str, value: Any
) -> None:
    found = field(schema)
    read = found.read(text)
    assert (read, type(read)) == (value, type(value))
    if value is not None:
        assert found.takes(value)


@pytest.mark.parametrize(
    ("schema", "value"),
    [(STEPS, 101), (STEPS, "30"), (STYLE, "chalk"), (STYLE, 5), (UPSCALE, "ON"), (PROMPT, 5)],
)
def test_what_was_set_once_and_cannot_be_any_more_is_known(
    schema: dict[str, Any], value: Any
) -> None:
    assert not field(schema).takes(value)


@pytest.mark.parametrize(
    ("schema", "value", "shown"),
    [
        (PROMPT, "a barn", {"value": "a barn"}),
        (PROMPT, None, {"value": ""}),
        (PROMPT, "x" * 255, {"value": "x" * 255}),
        (PROMPT, "x" * 256, {"value": "x" * 254 + "…"}),
        (STEPS, 30, "30"),
        (STEPS, None, "None"),
        (STYLE, "ink", "ink"),
        (STYLE, "gone", "None"),
        (UPSCALE, True, "ON"),
        (UPSCALE, None, "None"),
    ],
)
def test_a_value_is_shown_as_a_state_can_be(schema: dict[str, Any], value: Any, shown: Any) -> None:
    assert field(schema).shown(value) == shown


@pytest.mark.parametrize(
    ("schema", "value", "given"),
    [
        (SEED, 7, 7),
        (SEED, DRAWN_ANEW, UNSET),
        (PICTURE, "", UNSET),
        (PICTURE, " https://host/a.png ", {"url": "https://host/a.png"}),
        (PICTURE, "cameras/door", {"topic": "cameras/door"}),
        (PROMPT, "", ""),
    ],
)
def test_a_job_is_given_what_a_value_means(schema: dict[str, Any], value: Any, given: Any) -> None:
    assert field(schema).given(value) == given


def test_names_that_are_no_ids_become_some_and_stay_apart() -> None:
    found = fields(definition(**{"a b": PROMPT, "a/b": PROMPT, "ä" * 80: PROMPT}))
    assert [each.key for each in found] == ["a_b", "a_b_2", "_" * 64]
    assert [each.name for each in found] == ["a b", "a/b", "ä" * 80]


def test_what_is_shown_of_very_many_choices_is_as_much_as_home_assistant_records() -> None:
    names = [f"checkpoints/{'ü' * 40}-{number:05}.safetensors" for number in range(9000)]
    found = field({"x-kind": "choice", "enum": names})
    assert found.is_searched
    shown = found.allowed()
    assert (shown["choices"], shown["found"], "like" in shown) == (9000, 9000, False)
    assert shown["allowed"] == names[: len(shown["allowed"])]
    # Of 16384 bytes; the rest is for what every text has.
    assert 11_000 < len(json.dumps(shown, ensure_ascii=False).encode()) < 13_000
    # Each is reached by a part of its name.
    for number in (0, 4711, 8999):
        found_now = found.allowed(f"{number:05}")
        assert found_now["allowed"] == [names[number]]
    assert found.allowed("") == shown
    for schema in (PROMPT, STYLE, {"x-kind": "choice", "enum": names[:500]}):
        assert not field(schema).is_searched


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        (STEPS, "30.5", "it takes a whole number from 1 to 100"),
        (SEED, "-2", "it takes a whole number from -1 to 4294967295"),
        (CFG, "nan", "it takes a number from 0 to 9.00719925474e+15"),
        (STYLE, "chalk", "it takes oil, ink"),
        (UPSCALE, "maybe", "it takes ON or OFF"),
        ({**PROMPT, "maxLength": 3}, "four", "it takes 3 characters at most"),
        (
            {"x-kind": "choice", "enum": [*"abcdef", "a_barn"]},
            "BARN",
            "it takes one of 7 choices; like it are a_barn",
        ),
        ({"x-kind": "choice", "enum": [*"abcdef"]}, "xyz", "it takes one of 6 choices"),
    ],
)
def test_a_refusal_says_what_is_taken(schema: dict[str, Any], text: str, said: str) -> None:
    assert field(schema).read(text) is None
    assert (
        field(schema).refusal(text) == f"{schema.get('title', 'wanted')} cannot be {text!r}: {said}"
    )


def test_a_refusal_is_short_enough_for_a_state() -> None:
    names = [f"{'m' * 30}{number}" for number in range(600)]
    refused = field({"x-kind": "choice", "enum": names}).refusal("m" * 5000)
    assert refused.startswith("wanted cannot be 'mmm")
    assert len(refused) <= 255
