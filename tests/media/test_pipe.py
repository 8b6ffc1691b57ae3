from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media import pipe
from bridge.media.pipe import PipeBroken


class Reluctant(io.BytesIO):
    """A stream that takes a few bytes at a time, as a pipe may."""

    def write(self, data: Any) -> int:
        return super().write(memoryview(data)[:7])


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_frame_comes_out_as_it_went_in(header: bytes, body: bytes) -> None:
    stream = Reluctant()
    pipe.send(stream, header, memoryview(body))
    pipe.send(stream, body)
    stream.seek(0)
    assert pipe.receive(stream) == (header, body)
    assert pipe.receive(stream) == (body, b"")
    assert pipe.receive(stream) is None


@given(st.binary(max_size=100), st.binary(max_size=100), st.data())
def test_a_frame_that_is_cut_off_is_broken(header: bytes, body: bytes, data: st.DataObject) -> None:
    stream = io.BytesIO()
    pipe.send(stream, header, body)
    whole = stream.getvalue()
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(PipeBroken):
        pipe.receive(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize("lengths", [(pipe.MAX_HEADER + 1, 0), (2, pipe.MAX_BODY + 1)])
def test_a_frame_that_is_too_long_is_not_read(lengths: tuple[int, int]) -> None:
    stream = io.BytesIO(struct.pack(">II", *lengths) + b"{}")
    with pytest.raises(PipeBroken, match="too long"):
        pipe.receive(stream)
    assert stream.tell() == 8
