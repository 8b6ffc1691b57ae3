"""`comfy2mqtt run` of many jobs, on a bridge in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.client import client as client_module
from bridge.client.testing import InMemoryBridge
from bridge.contract.errors import ExecutionError
from tests.support.definitions import PNG, definition


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> InMemoryBridge:
    bridge = InMemoryBridge()
    bridge.workflows["demo"] = definition("demo")
    bridge.outputs["demo"] = [("image/png", PNG)]
    monkeypatch.setattr(client_module, "connect_to", lambda _address: bridge.connect)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFY2MQTT_MQTT_URL", "mqtt://nowhere")
    return bridge


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def inputs(bridge: InMemoryBridge) -> list[dict[str, Any]]:
    return [each.inputs for each in bridge.submitted]


def test_a_repeat_is_many_jobs_with_a_line_and_files_for_each(bridge: InMemoryBridge) -> None:
    found = cli("run", "demo", "-i", "prompt=x", "--repeat", "3", "--job-id", "s1", "-o", "out")
    assert found.exit_code == 0, found.output
    assert inputs(bridge) == [{"prompt": "x"}] * 3
    assert sorted(path.name for path in Path("out").iterdir()) == [
        f"demo-s1-{number}-0.png" for number in range(3)
    ]
    assert found.stdout.splitlines() == [
        str(Path(f"out/demo-s1-{number}-0.png").resolve()) for number in range(3)
    ]
    assert "3/3 s1-2 succeeded" in found.stderr


def test_what_the_set_collects_is_saved_too(bridge: InMemoryBridge) -> None:
    options = ("--repeat", "2", "--collect", "sheet", "--collect", "zip", "--job-id", "s1")
    found = cli("run", "demo", *options, "-o", "out")
    assert found.exit_code == 0, found.output
    assert found.stdout.splitlines()[2:] == [
        str(Path(f"out/demo-s1-{name}").resolve()) for name in ("sheet.png", "zip.zip")
    ]
    assert Path("out/demo-s1-sheet.png").read_bytes() == PNG
    as_json = json.loads(cli("run", "demo", *options, "-o", "out", "--json").stdout)
    assert len(as_json["files"]) == 4
    bridge.outputs["demo"] = [("text/plain", b"x")]
    found = cli("run", "demo", "--repeat", "2", "--collect", "sheet", "-o", "out")
    assert (found.exit_code, "no job gave what it is made of" in found.stderr) == (0, True)


def test_to_collect_is_for_sets(bridge: InMemoryBridge) -> None:
    found = cli("run", "demo", "--collect", "sheet")
    assert (found.exit_code, bridge.submitted) == (2, [])
    assert "--collect is for sets" in found.stderr


def test_a_grid_takes_lists_ranges_and_seeds(bridge: InMemoryBridge) -> None:
    options = ("--grid", 'prompt=a,"b, c"', "--grid", "steps=10..30:10")
    assert cli("run", "demo", *options, "--grid", "seed=seeds:2").exit_code == 0
    assert len(bridge.submitted) == 12
    assert inputs(bridge)[2] == {"prompt": "a", "steps": 20, "seed": 0}
    assert inputs(bridge)[-1] == {"prompt": "b, c", "steps": 30, "seed": 1}


def test_a_grid_maps_over_another_set(bridge: InMemoryBridge) -> None:
    cli("run", "demo", "--repeat", "2", "--job-id", "s1")
    assert cli("run", "demo", "--grid", "picture=set:s1").exit_code == 0
    assert inputs(bridge)[-1] == {"picture": {"job": "s1-1", "output": 0}}


def test_a_file_has_a_job_a_line(bridge: InMemoryBridge) -> None:
    Path("in").mkdir()
    Path("in/a.png").write_bytes(PNG)
    Path("in/jobs.csv").write_text('prompt,steps,picture\n"a, b",5,a.png\nc,,\n')
    found = cli("run", "demo", "--each", "in/jobs.csv")
    assert found.exit_code == 0, found.output
    first, second = inputs(bridge)
    assert (first["prompt"], first["steps"]) == ("a, b", "5")
    assert first["picture"].keys() >= {"base64"}
    assert second == {"prompt": "c"}
    Path("jobs.jsonl").write_text('{"prompt": "a"}\n\n{"steps": 7}\n')
    assert cli("run", "demo", "--each", "jobs.jsonl").exit_code == 0
    assert inputs(bridge)[2:] == [{"prompt": "a"}, {"steps": 7}]


def test_a_prompt_in_a_file_may_have_several_lines(bridge: InMemoryBridge) -> None:
    Path("jobs.csv").write_text('prompt,steps\r\n"a fox\nat night",5\r\nhen\u2028x,6\r\n')
    assert cli("run", "demo", "--each", "jobs.csv").exit_code == 0
    assert inputs(bridge) == [
        {"prompt": "a fox\nat night", "steps": "5"},
        {"prompt": "hen\u2028x", "steps": "6"},
    ]
    Path("jobs.jsonl").write_text('{"prompt": "a fox\u2028at night\x85asleep"}\r\n{"steps": 7}\n')
    assert cli("run", "demo", "--each", "jobs.jsonl").exit_code == 0
    assert inputs(bridge)[2:] == [{"prompt": "a fox\u2028at night\x85asleep"}, {"steps": 7}]


def test_a_folder_that_takes_no_files_is_found_before_anything_is_sent(
    bridge: InMemoryBridge,
) -> None:
    found = cli("run", "demo", "--repeat", "2", "-o", "/proc/self")
    assert (found.exit_code, bridge.submitted) == (2, [])
    assert "-o: nothing can be written to /proc/self" in found.stderr


@pytest.mark.usefixtures("bridge")
def test_a_file_that_cannot_be_written_is_reported_with_the_way_to_the_rest() -> None:
    Path("out/demo-s1-0-0.png").mkdir(parents=True)
    found = cli("run", "demo", "--repeat", "2", "--job-id", "s1", "-o", "out")
    assert found.exit_code == 1
    assert "Is a directory; the bridge has the outputs: comfy2mqtt get --set s1" in found.stderr


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--each", "none.csv"), "none.csv"),
        (("--each", "bad.jsonl"), "line 2"),
        (("--each", "deep.json"), "deep.json"),
        (("--each", "deep.jsonl"), "line 1"),
        (("--each", "list.jsonl"), "entry 1: expected a JSON object"),
        (("--each", "empty.csv"), "contains no job"),
        (("--each", "wide.csv"), "row 2 has more columns"),
        (("--each", "media.csv"), "is no file"),
        (("--grid", "steps"), "expected NAME=VALUE"),
        (("--grid", "steps=1", "--grid", "steps=2"), "each name once"),
        (("--grid", "steps=1..2.3.4"), "in numbers"),
        (("--grid", "seed=seeds:many"), "seeds:NUMBER"),
        (("--grid", "seed=seeds:²"), "seeds:NUMBER"),
        (("--grid", "picture=none.png"), "is no file"),
        (("--grid", "steps=1", "--repeat", "2"), "--each, --grid, --repeat: give one of them"),
        (("--repeat", "0"), "0"),
    ],
)
def test_what_is_no_set_is_refused_with_its_place(
    bridge: InMemoryBridge, options: tuple[str, ...], problem: str
) -> None:
    Path("bad.jsonl").write_text('{"prompt": "a"}\n{"prompt"\n')
    Path("deep.json").write_text("[" * 100_000)
    Path("deep.jsonl").write_text('{"prompt": ' + "[" * 100_000)
    Path("list.jsonl").write_text("[1]\n")
    Path("empty.csv").write_text("prompt\n")
    Path("wide.csv").write_text("prompt\na,b\n")
    Path("media.csv").write_text("picture\nnone.png\n")
    found = cli("run", "demo", *options)
    assert found.exit_code == 2
    assert problem in found.stderr
    assert "Traceback" not in found.output
    assert bridge.submitted == []


def test_a_set_that_fails_says_how_many_succeeded(bridge: InMemoryBridge) -> None:
    bridge.failures["demo"] = ExecutionError("the sampler is gone")
    found = cli("run", "demo", "--repeat", "2", "--job-id", "s1")
    assert found.exit_code == 1
    assert "s1-1 failed: the sampler is gone" in found.stderr
    assert "set s1 failed: 0 of 2 succeeded" in found.stderr


def test_json_has_the_files_and_the_sets_result(bridge: InMemoryBridge) -> None:
    found = cli("run", "demo", "--repeat", "2", "--json")
    answer = json.loads(found.stdout)
    assert (len(answer["files"]), answer["result"]["counts"]["succeeded"]) == (2, 2)
    assert len(bridge.submitted) == 2


def test_a_set_is_cancelled_by_its_id(bridge: InMemoryBridge) -> None:
    cli("run", "demo", "--repeat", "2", "--job-id", "s1")
    found = cli("cancel", "--set", "s1")
    assert (found.exit_code, found.stdout) == (0, "s1: succeeded\n")
    assert cli("cancel", "--set", "none").exit_code == 1
    assert len(bridge.submitted) == 2


def test_a_set_is_shown_and_fetched_by_its_id(bridge: InMemoryBridge) -> None:
    cli("run", "demo", "--repeat", "2", "--collect", "zip", "--job-id", "s1", "--detach")
    shown = cli("show", "--set", "s1")
    assert shown.exit_code == 0, shown.output
    for words in ("set", "s1", "2 succeeded", "output 0", "application/zip"):
        assert words in shown.stdout
    assert json.loads(cli("show", "--set", "s1", "--json").stdout)["total"] == 2
    assert cli("show", "--set", "none").exit_code == 1
    found = cli("get", "--set", "s1", "-o", "out")
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "demo-s1-0-0.png",
        "demo-s1-1-0.png",
        "demo-s1-zip.zip",
    ]
    for wrong in ("none", "a/b"):
        assert cli("get", "--set", wrong).exit_code == 1
    bridge.held.add("demo")
    cli("run", "demo", "--repeat", "2", "--job-id", "s2", "--detach")
    early = cli("get", "--set", "s2")
    assert (early.exit_code, "--wait" in early.stderr) == (1, True)
