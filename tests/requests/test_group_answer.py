"""An operator's command to a group: who carries it out, who is waited for, and the answer."""

from __future__ import annotations

import pytest

from bridge.contract import operator
from bridge.contract.errors import BadRequest, BridgeError, ComfyUIUnavailable, Conflict, Forbidden
from bridge.contract.operator import InstancesReport, LevelReport, ReleaseReport, ReloadReport
from bridge.contract.retained import ComfyUIState
from bridge.requests.group_answer import (
    Executor,
    Reply,
    carried_out_by,
    group_report,
    read_report,
    replies,
    report_of,
)

READY = ComfyUIState(state="ready", since=1.0, restarts=0, last_error="none")


def instances(*names: str) -> InstancesReport:
    return InstancesReport(instances=dict.fromkeys(names, READY))


@pytest.mark.parametrize(
    ("verb", "payload", "expected"),
    [
        ("comfyui/stop", b"ours", Executor.THIS),
        ("comfyui/stop", b"theirs", "b"),
        ("comfyui/update", b"theirs", "b"),
        ("comfyui/open", b"theirs", "b"),
        ("comfyui/stop", b"", Executor.ALL),
        ("comfyui/update", b"", Executor.ALL),
        # A link is for one page, and works once.
        ("comfyui/open", b"", Executor.THIS),
        ("workflows/reload", b"", Executor.ALL),
        ("log_level", b"debug", Executor.ALL),
        ("queue/release", b"", Executor.ALL),
        # The journal has these for all.
        ("queue/pause", b"", Executor.THIS),
        ("queue/list", b"", Executor.THIS),
        ("health_check", b"", Executor.THIS),
        ("gpu/request", b'{"holder": "games", "gpu": "theirs"}', "b"),
        ("gpu/release", b'{"holder": "games", "gpu": "ours"}', Executor.THIS),
        ("gpu/request", b"games", Executor.THIS),
    ],
)
def test_a_command_is_for_one_bridge_or_for_all(
    verb: str, payload: bytes, expected: Executor | str
) -> None:
    owner = {"theirs": "b"}.get
    assert carried_out_by(operator.decode(verb, payload), owner, owner) == expected


def test_a_bridge_that_runs_is_waited_for_and_one_that_died_is_not() -> None:
    done = ReleaseReport(released=1)
    assert replies(["b", "c"], {"b", "c"}, {"b": done}) is None
    assert replies(["b", "c"], {"b", "c"}, {"b": done, "c": done}) == {"b": done, "c": done}
    # What it reported before counts.
    found = replies(["b", "c"], set(), {"b": done})
    assert found is not None
    assert found["b"] is done
    assert isinstance(found["c"], ComfyUIUnavailable)
    assert found["c"].details == {"member": "c"}


def test_a_bridge_that_runs_is_not_waited_for_without_end() -> None:
    found = replies(["b", "c"], {"b"}, {}, waited_s=8.0)
    assert found is not None
    assert {name: each.code for name, each in found.items() if isinstance(each, BridgeError)} == {
        "b": "timeout",
        "c": "comfyui_unavailable",
    }
    assert "8 s" in str(found["b"])


def test_the_answer_has_what_all_did() -> None:
    answers: list[tuple[Reply, Reply, Reply]] = [
        (instances("a-one"), instances("b-one", "b-two"), instances("a-one", "b-one", "b-two")),
        (ReleaseReport(released=1), ReleaseReport(released=2), ReleaseReport(released=3)),
        (LevelReport(level="debug"), LevelReport(level="debug"), LevelReport(level="debug")),
        (
            ReloadReport(workflows=["demo", "new"], broken=["x: no JSON"], waiting=[]),
            ReloadReport(workflows=["demo"], broken=["x: no JSON"], waiting=["new"]),
            ReloadReport(workflows=["demo", "new"], broken=["x: no JSON"], waiting=["new"]),
        ),
    ]
    for ours, theirs, expected in answers:
        assert group_report("a", {"a": ours, "b": theirs}) == expected


def test_the_answer_names_the_bridges_that_did_not() -> None:
    report = group_report(
        "a",
        {
            "a": Forbidden("no updates are looked for"),
            "b": instances("b-one"),
            "c": ComfyUIUnavailable("bridge 'c' died before it reported", member="c"),
        },
    )
    assert isinstance(report, InstancesReport)
    assert list(report.instances) == ["b-one"]
    assert isinstance(report.failed, dict)
    assert {name: error.code for name, error in report.failed.items()} == {
        "a": "forbidden",
        "c": "comfyui_unavailable",
    }


def test_if_none_did_the_refusal_is_that_of_the_bridge_that_answers() -> None:
    refused = Forbidden("attached", instance="a-one")
    with pytest.raises(Forbidden, match="attached") as caught:
        group_report("a", {"a": refused, "b": Conflict("one is installed", version="2")})
    assert caught.value.details["instance"] == "a-one"
    assert caught.value.details["failed"] == {
        "b": {"code": "conflict", "message": "one is installed", "details": {"version": "2"}}
    }
    with pytest.raises(Forbidden) as caught:
        group_report("a", {"a": refused})  # it is alone
    assert caught.value.details == {"instance": "a-one"}


@pytest.mark.parametrize(
    ("verb", "reply"),
    [
        ("comfyui/restart", instances("b-one")),
        ("log_level", LevelReport(level="debug")),
        ("queue/release", ReleaseReport(released=2)),
    ],
)
def test_a_report_arrives_as_it_was_sent(verb: str, reply: Reply) -> None:
    assert read_report(verb, report_of(reply)) == reply


@pytest.mark.parametrize("report", [b"{", b'{"data": 5}', b'{"error": {}}'])
def test_a_report_that_cannot_be_read_is_an_error_of_its_bridge(report: bytes) -> None:
    read = read_report("comfyui/stop", report)
    assert isinstance(read, BridgeError)
    assert "cannot read" in read.message


def test_a_refusal_is_reported_with_its_code_and_details() -> None:
    read = read_report("comfyui/stop", report_of(BadRequest("no ComfyUI", allowed=["b-one"])))
    assert isinstance(read, BadRequest)
    assert (read.message, read.details) == ("no ComfyUI", {"allowed": ["b-one"]})
