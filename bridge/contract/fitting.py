"""Messages with less in them, for a packet that has room for so many bytes and no more. Pure."""

from __future__ import annotations

from msgspec import UNSET
from msgspec.structs import replace

from bridge.contract.messages import JobView, Result, encode
from bridge.contract.sets import SetJob, SetResult

# Of an error's message in a result that was cut.
_SHORT = 200


def fit_result(result: Result, room: int) -> Result:
    """Return a result of at most `room` bytes of JSON, or the smallest that there is.

    It leaves out first what the device sent itself, then an error's details and the end of its
    message, then outputs from the last, which can still be fetched, and finally the deliveries.
    """

    def too_large() -> bool:
        return len(encode(result)) > room

    if not too_large():
        return result
    result = replace(result, inputs={})
    if too_large() and result.error is not UNSET:
        short = replace(result.error, details={}, message=result.error.message[:_SHORT])
        result = replace(result, error=short)
    if too_large():
        result = replace(result, meta=UNSET, shown=UNSET)
    while result.outputs and too_large():
        result = replace(result, outputs=result.outputs[:-1])
    if too_large():
        result = replace(result, delivered=UNSET)
    return result


def fit_view(view: JobView, room: int) -> JobView:
    """Return a job as a listing shows it, in at most `room` bytes of JSON: without its result.

    Where that is not enough, without `meta` as well.
    """
    if len(encode(view)) <= room:
        return view
    view = replace(view, result=UNSET)
    return view if len(encode(view)) <= room else replace(view, meta=UNSET)


def fit_set_result(result: SetResult, room: int) -> SetResult:
    """Return a set's result of at most `room` bytes of JSON, or the smallest that there is.

    It leaves out first the inputs of its jobs, then `meta`, then jobs from the last, which `list`
    still has, and at last where the outputs went, `missing` and `outputs`: those can be fetched.
    """
    if len(encode(result)) <= room:
        return result
    result = replace(result, jobs=[replace(each, inputs={}) for each in result.jobs])
    if len(encode(result)) <= room:
        return result
    result = replace(result, meta=UNSET)
    left = _left(result, room)
    if left < 0:
        result = replace(result, missing=UNSET, shown=UNSET, delivered=UNSET)
        left = _left(result, room)
    if left < 0:
        result = replace(result, outputs=UNSET)
    jobs: list[SetJob] = []
    for each in result.jobs:
        left -= len(encode(each)) + len(b",")
        if left < 0:
            return replace(result, jobs=jobs, more=True)
        jobs.append(each)
    return result


def _left(result: SetResult, room: int) -> int:
    """Return how many bytes there are for the jobs of a set's result, and the commas between."""
    return room - len(encode(replace(result, jobs=[], more=True)))
