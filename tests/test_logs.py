from __future__ import annotations

import asyncio
import json
import logging
import sys

import pytest

from bridge.logs import JsonFormatter, TextFormatter, WithoutSecrets, about


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
