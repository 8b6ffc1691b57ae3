"""A set's result in a packet that has no room for all of it."""

from __future__ import annotations

from msgspec import UNSET

from bridge.contract.errors import ExecutionError
from bridge.contract.fitting import fit_set_result
from bridge.contract.messages import MissingOutput, OutputInfo, encode
from bridge.contract.sets import Counts, SetJob, SetResult


def result() -> SetResult:
    output = OutputInfo(
        index=0, name="sheet", kind="image", content_type="image/jpeg", size=1, sha256="0" * 64
    )
    missing = MissingOutput(name="zip", error=ExecutionError("no " * 100).wire())
    return SetResult(
        set_id="s1",
        workflow="demo",
        n=1,
        state="succeeded",
        total=2,
        counts=Counts(succeeded=2),
        jobs=[SetJob(job_id=f"s1-{each}", state="succeeded", inputs={"a": 1}) for each in (0, 1)],
        outputs=[output],
        missing=[missing],
    )


def test_what_was_collected_stays_longest() -> None:
    whole = result()
    room = len(encode(whole))
    assert fit_set_result(whole, room) == whole
    shorter = fit_set_result(whole, room - 10)
    assert (len(shorter.jobs), shorter.missing) == (2, whole.missing)
    without_jobs = fit_set_result(whole, room - 100)
    assert (without_jobs.jobs, without_jobs.more) == ([], True)
    assert without_jobs.missing == whole.missing
    less = fit_set_result(whole, 420)
    assert (less.missing, less.outputs) == (UNSET, whole.outputs)
    least = fit_set_result(whole, 280)
    assert (least.outputs, least.state) == (UNSET, "succeeded")
    for room, each in ((420, less), (280, least)):
        assert len(encode(each)) <= room
