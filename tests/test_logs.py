from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest

from bridge.logs import (
    LINES,
    NEVER_LEFT_OUT,
    PER_S,
    FloodFilter,
    JsonFormatter,
    TextFormatter,
    WithoutSecrets,
    about,
    set_up,
)


def record(message: str, *, fault: bool = False) -> logging.LogRecord:
    trace = None
    if fault:
        try:
            int("a\nfault")
        except ValueError:
            trace = sys.exc_info()
    return logging.LogRecord("bridge.x", logging.WARNING, "x.py", 1, message, (), trace)


async def test_a_line_names_client_and_job_also_in_tasks_begun_there() -> None:
    async def later() -> str:
        return TextFormatter().format(record("ran"))

    with about("alice", "j1"):
        task = asyncio.create_task(later())
        assert TextFormatter().format(record("ran")).endswith("ran client=alice job=j1")
    assert (await task).endswith("ran client=alice job=j1")
    assert TextFormatter().format(record("ran")).endswith("bridge.x: ran")


def test_a_record_is_one_line_of_text_whatever_is_in_it() -> None:
    line = TextFormatter().format(record("evil\r\n2026 ERROR forged", fault=True))
    first, *trace = line.split("\n")
    assert first.endswith("evil\\r\\n2026 ERROR forged")
    assert all(each.startswith("    ") for each in trace)


def test_a_record_is_one_line_of_json() -> None:
    with about("alice"):
        line = JsonFormatter().format(record("evil\nline", fault=True))
    assert "\n" not in line
    told = json.loads(line)
    assert told["message"] == "evil\nline"
    assert (told["level"], told["logger"], told["client"]) == ("warning", "bridge.x", "alice")
    assert "ValueError" in told["trace"]
    assert "job" not in told


def test_a_name_of_a_file_that_is_not_utf8_is_logged_as_json_too() -> None:
    fault = ValueError, ValueError("caf\udce9.json"), None
    named = logging.LogRecord("x", logging.ERROR, "x.py", 1, "caf\udce9.json", (), fault)
    told = json.loads(JsonFormatter().format(named))
    assert told["message"] == "caf?.json"
    assert told["trace"].endswith("ValueError: caf?.json")


@pytest.mark.parametrize(
    "mark",
    ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x1b[2J", "\x9b", "\0"],
)
def test_nothing_in_a_message_ends_a_line_or_speaks_to_a_terminal(mark: str) -> None:
    for line in (
        TextFormatter().format(record(f"a{mark}b")),
        JsonFormatter().format(record("a\nb")),
    ):
        assert len(line.splitlines()) == 1
        assert mark[0] not in line


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_a_secret_that_others_repeat_is_in_no_line(formatter: logging.Formatter) -> None:
    line = WithoutSecrets(formatter, ["hunter2", "a\nfault"]).format(
        record("x hunter2", fault=True)
    )
    assert "hunter2" not in line
    assert "x ***" in line


def test_what_one_place_logs_again_and_again_is_left_out_for_a_while() -> None:
    now = [0.0]
    flood = FloodFilter(lambda: now[0])
    passed = [each for each in (record(f"line {i}") for i in range(1000)) if flood.filter(each)]
    assert len(passed) == LINES
    assert passed[-2].getMessage() == f"line {LINES - 2}"
    assert passed[-1].getMessage() == f"line {LINES - 1}; more like this is left out for a while"
    # Another place, and what is for developers.
    assert flood.filter(logging.LogRecord("x", logging.ERROR, "y.py", 2, "other", (), None))
    assert flood.filter(logging.LogRecord("x", logging.DEBUG, "x.py", 1, "line", (), None))
    # What an operator did, though he did much before.
    command = record("command")
    command.__dict__.update(NEVER_LEFT_OUT)
    assert flood.filter(command)
    now[0] = PER_S
    assert flood.filter(record("line"))


def test_a_line_that_cannot_be_formatted_is_no_fault_of_who_logs_it() -> None:
    flood = FloodFilter(lambda: 0.0)
    faulty = [
        logging.LogRecord("x", logging.INFO, "x.py", 1, "%d of %d", (i,), None)
        for i in range(LINES)
    ]
    assert all(map(flood.filter, faulty))


def test_few_tracebacks_of_one_place_are_logged() -> None:
    flood = FloodFilter(lambda: 0.0)
    assert sum(flood.filter(record("fault", fault=True)) for _ in range(1000)) == LINES // 20


def test_a_flood_is_left_out_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    ours = logging.getLogger("bridge")
    level = ours.level
    set_up("info")
    ours.setLevel(level)
    (handler,) = root.handlers
    assert any(isinstance(each, FloodFilter) for each in handler.filters)
