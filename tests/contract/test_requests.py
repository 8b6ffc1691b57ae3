from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from bridge.contract import requests
from bridge.contract.errors import BadRequest, BridgeError, TooLarge
from bridge.contract.messages import (
    Ack,
    Cancel,
    Deliver,
    Fetch,
    List,
    Request,
    State,
    Status,
    Submit,
)
from bridge.contract.requests import Text
from bridge.contract.sets import FetchSet
from bridge.contract.sources import Inline

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    verb=st.sampled_from([*requests.VERBS, "nonsense"]),
    payload=st.binary() | JSON.map(msgspec.json.encode),
)
def test_garbage_raises_only_documented_errors(verb: str, payload: bytes) -> None:
    for decode in (
        lambda: requests.decode(verb, payload),
        lambda: requests.decode_run("demo", None, payload),
    ):
        try:
            decode()
        except BridgeError as error:
            msgspec.json.encode(error.wire())
    requests.transaction_of(payload, payload[:10])


def test_the_main_text_may_stand_beside_other_inputs() -> None:
    run = requests.decode_run("demo", None, b'{"$text": "a {barn", "width": 7, "$preview": true}')
    assert run.main == Text("a {barn")
    assert (run.submit.inputs, run.submit.preview) == ({"width": 7}, True)
    with pytest.raises(BadRequest) as caught:
        requests.decode_run("demo", None, b'{"$text": 7}')
    assert caught.value.details["field"] == "$text"


def test_an_empty_run_takes_the_defaults() -> None:
    run = requests.decode_run("demo", None, b"")
    assert run.main is None
    assert run.submit == Submit(workflow="demo")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"a red barn", "a red barn"),
        (b'"a red barn"', "a red barn"),
        (b"7", "7"),
        (b"007", "007"),
        (b"true", "true"),
        (b"[1, 2]", "[1, 2]"),
        ("ein Stück".encode(), "ein Stück"),
    ],
)
def test_text_is_the_main_text_input(payload: bytes, text: str) -> None:
    assert requests.decode_run("demo", None, payload).main == Text(text)


def test_an_object_is_inputs_by_name_and_fields_behind_dollars() -> None:
    payload = b'{"prompt": "x", "steps": 5, "$preview": true, "$job_id": "j", "$meta": {"a": [1]}}'
    submit = requests.decode_run("demo", None, payload).submit
    assert submit.inputs == {"prompt": "x", "steps": 5}
    assert submit.preview
    assert submit.job_id == "j"
    assert isinstance(submit.meta, msgspec.Raw)
    assert bytes(submit.meta) == b'{"a":[1]}'


def test_meta_is_echoed_as_it_came() -> None:
    request = requests.decode("submit", b'{"workflow": "w", "meta": {"b" : 1.0,  "a":2}}')
    assert isinstance(request, Submit)
    assert isinstance(request.meta, msgspec.Raw)
    assert bytes(request.meta) == b'{"b" : 1.0,  "a":2}'


def test_a_64_bit_seed_stays_whole() -> None:
    submit = requests.decode_run("demo", None, b'{"seed": 18446744073709551615}').submit
    assert submit.inputs["seed"] == 2**64 - 1


def test_bytes_are_the_main_media_input() -> None:
    png = b"\x89PNG\r\n\x1a\n\x00\x00"
    properties = [("input.prompt", "x"), ("$preview", "true"), ("other", "y")]
    properties.append(("$output", '{"format": "jpeg", "max_width": 200}'))
    run = requests.decode_run("demo", "j", png, None, properties)
    assert run.main == Inline(png, None)
    assert run.submit.inputs == {"prompt": "x"}
    assert run.submit.preview
    assert (run.submit.output.format, run.submit.output.max_width) == ("jpeg", 200)
    assert run.submit.job_id == "j"
    typed = requests.decode_run("demo", None, b"GIF89a", "image/gif")
    assert typed.main == Inline(b"GIF89a", "image/gif")


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b'{"$nonsense": 1}', "$nonsense"),
        (b'{"$workflow": "other"}', "$workflow"),
        (b'{"$job_id": "a/b"}', "job_id"),
        (b'{"$priority": "high"}', "priority"),
        (b'{"$priority": 1000}', "priority"),
        (b'{"$output": {"deliver": "pigeon"}}', "output.deliver"),
        (b'{"$transaction": {}}', "transaction"),
    ],
)
def test_a_wrong_field_is_named(payload: bytes, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        requests.decode_run("demo", None, payload)
    assert caught.value.details["field"] == field


@pytest.mark.parametrize(
    "payload", [b"{", b'{"a":', b"{\xff}", b'{"a":' * 100_000, b'{"a": NaN}', b'{"a": "\\ud800"}']
)
def test_what_begins_with_a_brace_must_be_json(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        requests.decode_run("demo", None, payload)


def test_two_job_ids_must_agree() -> None:
    with pytest.raises(BadRequest, match="different jobs"):
        requests.decode_run("demo", "one", b'{"$job_id": "two"}')
    assert requests.decode_run("demo", "one", b'{"$job_id": "one"}').submit.job_id == "one"


@pytest.mark.parametrize("meta", [b'"\xff"', b'{"a": "\xc3"}'])
def test_a_meta_that_others_could_not_read_is_refused(meta: bytes) -> None:
    with pytest.raises(BadRequest):
        requests.decode("submit", b'{"workflow": "w", "meta": ' + meta + b"}")


def test_a_meta_is_nested_no_deeper_than_any_reader_takes() -> None:
    def meta(depth: int) -> bytes:
        return b"[" * (depth - 1) + b'{"a": 1}' + b"]" * (depth - 1)

    requests.decode("submit", b'{"workflow": "w", "meta": %b}' % meta(50))
    requests.decode_run("w", None, b'{"$meta": %b}' % meta(50))
    with pytest.raises(BadRequest, match="50 deep") as caught:
        requests.decode("submit", b'{"workflow": "w", "meta": %b}' % meta(51))
    assert caught.value.details["field"] == "meta"
    with pytest.raises(BadRequest, match="50 deep"):
        requests.decode_run("w", None, b'{"$meta": %b}' % meta(51))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("inputs", b'{"a": %b}'),
        ("each", b'[{"a": %b}]'),
        ("grid", b'{"a": [%b]}'),
        ("prompt", b'{"1": {"inputs": {"a": %b}}}'),
    ],
)
@pytest.mark.parametrize("depth", [301, 900])
def test_what_is_any_json_is_nested_no_deeper_than_any_reader_takes(
    field: str, value: bytes, depth: int
) -> None:
    deep = value % (b"[" * depth + b"]" * depth)
    workflow = b"" if field == "prompt" else b'"workflow": "w", '
    with pytest.raises(BadRequest, match="300 deep") as caught:
        requests.decode("submit", b'{%b"%b": %b}' % (workflow, field.encode(), deep))
    assert caught.value.details["field"] == field


def test_a_large_meta_is_too_large() -> None:
    with pytest.raises(TooLarge) as caught:
        requests.decode("submit", b'{"workflow": "w", "meta": "' + b"x" * 4095 + b'"}')
    assert caught.value.details["limit"] == 4096


@pytest.mark.parametrize("payload", [b"{}", b'{"workflow": "w", "prompt": {}}'])
def test_a_submit_names_a_workflow_or_brings_a_prompt(payload: bytes) -> None:
    with pytest.raises(BadRequest, match="either"):
        requests.decode("submit", payload)


@pytest.mark.parametrize(
    ("verb", "payload", "request_"),
    [
        ("cancel", b"my-job", Cancel(job_id="my-job")),
        ("status", b" my-job\n", Status(job_id="my-job")),
        ("cancel", b'{"job_id": "j", "transaction": 5}', Cancel(job_id="j", transaction=5)),
        ("list", b"", List()),
        ("list", b'{"after": 3, "states": ["failed"]}', List(after=3, states=["failed"])),
        ("ack", b'{"up_to": 9}', Ack(up_to=9)),
        ("fetch", b'{"job_id": "j", "offset": 5}', Fetch(job_id="j", offset=5)),
        ("fetch", b'{"set_id": "s", "output": 1}', FetchSet(set_id="s", output=1)),
    ],
)
def test_each_verb_is_read(verb: str, payload: bytes, request_: Request) -> None:
    assert requests.decode(verb, payload) == request_


@pytest.mark.parametrize(
    ("verb", "payload", "details"),
    [
        ("cancel", b"", {"field": "job_id", "allowed": ["job_id", "transaction"]}),
        ("cancel", b"a/b", {"field": "job_id"}),
        ("list", b'{"limit": 0}', {"field": "limit"}),
        (
            "list",
            b'{"states": ["gone"]}',
            {"field": "states[0]", "allowed": sorted(get_args(State))},
        ),
        (
            "submit",
            b'{"workflow": "w", "output": {"deliver": "pigeon"}}',
            {"field": "output.deliver", "allowed": sorted(get_args(Deliver))},
        ),
        ("ack", b'{"up_to": -1}', {"field": "up_to"}),
        ("ack", b'{"upto": 1}', {"field": "upto", "allowed": ["transaction", "up_to"]}),
        ("fetch", b"[]", {}),
    ],
)
def test_a_wrong_request_says_what_is_allowed(
    verb: str, payload: bytes, details: dict[str, object]
) -> None:
    with pytest.raises(BadRequest) as caught:
        requests.decode(verb, payload)
    assert caught.value.details == details


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b'{"$priority": 1000}', "priority: expected a whole number from -100 to 100"),
        (b'{"$priority": "high"}', "priority: expected a whole number from -100 to 100"),
        (b'{"$repeat": 0}', "repeat: expected a whole number of at least 1"),
    ],
)
def test_a_number_beyond_its_limits_is_refused_with_both(payload: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        requests.decode_run("demo", None, payload)
    assert caught.value.message == told


def test_an_unknown_verb_says_which_there_are() -> None:
    with pytest.raises(BadRequest) as caught:
        requests.decode("dance", b"")
    assert "submit" in caught.value.details["allowed"]
    assert "run" in caught.value.details["allowed"]


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda: requests.decode("submti", b"{}"), "unknown verb 'submti'; did you mean 'submit'?"),
        (
            lambda: requests.decode_run("demo", None, b'{"prompt": "x"'),
            "the payload is not valid JSON: it ends too early: a bracket or a quote is missing",
        ),
        (
            lambda: requests.decode("cancel", b"{nothing}"),
            "the payload is not valid JSON: object keys must be strings (byte 1)",
        ),
        (
            lambda: requests.decode("submit", b'{"workflow": "demo", "inptus": {}}'),
            "inptus: unknown field; did you mean 'inputs'?",
        ),
        (
            lambda: requests.decode_run("demo", None, b'{"$output": {"dither": "spectra6"}}'),
            "output.dither: 'spectra6' is none of the allowed values; did you mean 'spectra-6'?",
        ),
        (
            lambda: requests.decode_run("demo", None, b'{"$outptu": {}}'),
            "unknown field '$outptu'; did you mean '$output'?",
        ),
    ],
)
def test_a_misspelt_word_is_recognised(read: Callable[[], object], told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read()
    assert caught.value.message == told


def test_a_bad_request_still_has_its_transaction() -> None:
    payload = b'{"transaction": "t1", "workflow": 5}'
    assert requests.transaction_of(payload, None) == "t1"
    assert requests.transaction_of(b"{", b"c1") == "c1"
    assert requests.transaction_of(b"{", b"\xff") is UNSET
    assert requests.transaction_of(b"", None) is UNSET
    assert requests.correlated(b"x" * 300) is UNSET


def encodings(text: str) -> list[bytes]:
    """Return what devices and editors make of a text."""
    return [
        text.encode("utf-8-sig"),
        f"{text}\0".encode(),
        f"{text}\0\0\0".encode("utf-8-sig"),
        codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        codecs.BOM_UTF16_LE + f"{text}\0".encode("utf-16-le"),
    ]


@pytest.mark.parametrize("payload", encodings("a barn, Stück 雪"))
def test_a_text_is_read_in_the_encodings_of_devices_and_editors(payload: bytes) -> None:
    assert requests.decode_run("demo", None, payload).main == Text("a barn, Stück 雪")


OBJECT = '{"prompt":\r\n "Stück",\r\n "$preview": true}\r\n'


@pytest.mark.parametrize(
    "payload", [*encodings(OBJECT), OBJECT.encode("utf-16-le"), OBJECT.encode("utf-16-be")]
)
def test_an_object_is_read_in_the_encodings_of_devices_and_editors(payload: bytes) -> None:
    run = requests.decode_run("demo", None, payload)
    assert (run.main, run.submit.inputs) == (None, {"prompt": "Stück"})
    assert run.submit.preview


@pytest.mark.parametrize("payload", encodings('{"prompt": "a barn"'))
def test_what_begins_with_a_brace_behind_a_mark_must_be_json(payload: bytes) -> None:
    with pytest.raises(BadRequest):
        requests.decode_run("demo", None, payload)


@pytest.mark.parametrize("payload", encodings('{"job_id": "j", "transaction": "t"}'))
def test_every_verb_is_read_in_the_encodings_of_devices_and_editors(payload: bytes) -> None:
    request = requests.decode("cancel", payload)
    assert isinstance(request, Cancel)
    assert request.job_id == "j"
    assert requests.transaction_of(payload, None) == "t"


@pytest.mark.parametrize("payload", encodings("my-job"))
def test_a_job_id_is_read_in_the_encodings_of_devices_and_editors(payload: bytes) -> None:
    request = requests.decode("cancel", payload)
    assert isinstance(request, Cancel)
    assert request.job_id == "my-job"


def test_a_string_of_c_that_is_empty_takes_the_defaults() -> None:
    assert requests.decode_run("demo", None, b"\0").main is None


@pytest.mark.parametrize("payload", [b"\xff\xfe\x01\x00\x02\x00", b"\xff\xfb\x90\x00\0\0", b"\xff"])
def test_bytes_that_only_begin_like_a_mark_stay_as_they_are(payload: bytes) -> None:
    assert requests.decode_run("demo", None, payload).main == Inline(payload, None)


TYPES = ["Image/PNG", "IMAGE/png; q=1", "Application/Octet-Stream"]


@pytest.mark.parametrize("content_type", TYPES)
def test_a_content_type_is_read_in_any_case(content_type: str) -> None:
    run = requests.decode_run("demo", None, b"a text", content_type)
    assert run.main == Inline(b"a text", content_type)
    announced = b'{"size": 5, "sha256": "' + b"0" * 64 + b'"}'
    assert requests.decode_begin_upload(announced, content_type) is None


def test_an_upload_is_announced_by_json_of_any_case() -> None:
    announced = b'{"size": 5, "sha256": "' + b"0" * 64 + b'"}\0'
    for content_type in (None, "Application/JSON", "application/json; charset=utf-8"):
        assert requests.decode_begin_upload(announced, content_type) is not None
