from __future__ import annotations

from typing import Any

import pytest

from bridge.cli.watch import _line, phrase
from bridge.mqtt import Incoming

JOB = {"job_id": "j1", "workflow": "demo"}
TIMINGS = {"queued_s": 1.0, "load_s": 0.5, "run_s": 4.0, "deliver_s": 0.5}


@pytest.mark.parametrize(
    ("topic", "message", "told"),
    [
        ("client/me/request/run/demo", "a barn", "a barn"),
        ("client/me/request/submit", {"workflow": "demo", "transaction": 1}, "workflow=demo"),
        (
            "client/me/response/run",
            {"status": "ok", "data": {"job_id": "j1", "state": "queued", "duplicate": True}},
            "ok j1 queued, known already",
        ),
        ("client/me/response/ack", {"status": "ok", "data": {"acked": 1}}, "ok"),
        (
            "client/me/response/run",
            {"status": "error", "error": {"code": "busy", "message": "full"}},
            "refused, busy: full",
        ),
        (
            "client/me/job/j1/status",
            {**JOB, "state": "queued", "position": 2, "eta_s": 30},
            "demo queued, 2 before it, done in about 30 s",
        ),
        ("client/me/job/j1/progress", {**JOB, "percent": 40.4, "eta_s": 3}, "40 %, 3 s left"),
        (
            "client/me/job/j1/result",
            {**JOB, "state": "succeeded", "outputs": [{"size": 2500}], "timings": TIMINGS},
            "demo succeeded: 1 outputs, 2.5 kB, in 6 s",
        ),
        (
            "client/me/job/j1/result",
            {**JOB, "state": "failed", "error": {"code": "timeout", "message": "too long"}},
            "demo failed, timeout: too long",
        ),
        (
            "workflow/demo",
            {"inputs": {"properties": {"prompt": {}, "seed": {}}}, "runnable": True},
            "can run; takes prompt, seed",
        ),
        ("bridge/comfyui/default", {"state": "ready"}, "ready"),
        ("bridge/comfyui/default", {"state": "busy", "yielding": True}, "busy, yielding"),
        ("bridge/health", {"running": 1, "queued": 4}, "1 running, 4 queued"),
        (
            "bridge/health/a",
            {"running": 0, "queued": 4, "held": "full"},
            "0 running, 4 queued, none starts: full",
        ),
        ("bridge/log", {"level": "warning", "logger": "a", "message": "b"}, "warning a: b"),
        ("bridge/state", "online", "online"),
        # What is not of the form that its topic has, or of none that is known.
        ("bridge/health", {"odd": 1}, '{"odd":1}'),
        ("client/me/job/j1/result", {"timings": 3, "workflow": 1}, '{"timings":3,"workflow":1}'),
        ("display/a/url", {"x": [1]}, '{"x":[1]}'),
        ("odd", "a\x1b[2Jb", "a [2Jb"),
        ("bridge/log", {"level": "\x1b", "logger": "a", "message": "b"}, "  a: b"),
    ],
)
def test_a_message_is_reported_in_a_phrase(topic: str, message: Any, told: str) -> None:
    assert phrase(topic, message, 10) == told


def test_bytes_are_counted_and_an_empty_payload_is_shown_as_such() -> None:
    assert phrase("client/me/job/j1/output/0", None, 2500) == "2.5 kB"
    assert phrase("odd", None, 2) == "2 bytes"
    assert phrase("workflow/x", "", 0) == "(nothing)"


@pytest.mark.parametrize(
    "payload",
    [b'{"a": "\xff"}', b"{", b"[" * 400 + b"]" * 400, b'{"a": ' + b"[" * 100_000, b"\xff\0"],
)
def test_of_what_cannot_be_read_only_the_size_is_shown(payload: bytes) -> None:
    message = Incoming(topic="c/odd", payload=payload, qos=0, retain=False, dup=False, mid=0)
    line = _line(message, "c")
    assert (line.topic, line.size, line.message) == ("odd", len(payload), None)
