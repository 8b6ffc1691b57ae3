from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw
from msgspec.structs import replace

from bridge.contract.messages import (
    JobStatus,
    Result,
    Timings,
    encode,
)
from bridge.contract.numbering import MAX_N, numbered

# What is JSON inside of JSON, or looks like the place where the number goes.
HOSTILE = ['"n":0', '{"n":0}', "0", '\\"n\\":1,', ',"n":0,"state":"queued"', "\x00\u2028😀"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text() | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("n"), inner),
    max_leaves=20,
)


def result(**changes: object) -> Result:
    plain = Result(
        job_id="j1",
        workflow="demo",
        n=0,
        state="succeeded",
        inputs={},
        workflow_version="v1",
        reused=False,
        timings=Timings(queued_s=0.0, load_s=0.0, run_s=0.0, deliver_s=0.0),
        attempts=1,
    )
    return replace(plain, **changes)


@given(meta=JSON, inputs=st.dictionaries(st.text() | st.just("n"), JSON), n=st.integers(0, MAX_N))
def test_a_number_put_in_later_gives_the_same_bytes(
    meta: object, inputs: dict[str, object], n: int
) -> None:
    message = result(meta=Raw(msgspec.json.encode(meta)), inputs=inputs, n=5)
    assert numbered(message).with_n(n) == encode(replace(message, n=n))


@pytest.mark.parametrize("word", HOSTILE)
def test_the_number_goes_to_its_own_field_whatever_a_client_wrote(word: str) -> None:
    message = result(
        job_id=word,
        workflow=word,
        transaction=word,
        meta=Raw(msgspec.json.encode({"n": 0, word: word})),
        inputs={"n": 1, word: word},
    )
    found = msgspec.json.decode(numbered(message).with_n(1234))
    assert found["n"] == 1234
    assert (found["meta"]["n"], found["inputs"]["n"]) == (0, 1)


def test_a_status_is_numbered_too() -> None:
    status = JobStatus(
        job_id="j1", workflow="w", transaction=0, meta=UNSET, n=7, state="queued", attempt=0
    )
    assert numbered(status).with_n(MAX_N) == encode(replace(status, n=MAX_N))
