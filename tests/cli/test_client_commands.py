"""The commands that speak to a bridge as a client, on a bridge in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from msgspec import UNSET

from bridge.cli.main import main
from bridge.client import client as client_module
from bridge.client.testing import InMemoryBridge
from bridge.contract.errors import Busy, ExecutionError, InvalidInput
from bridge.contract.retained import Definition, Missing, MissingChoice, OutputDefinition
from tests.media.images import encoded, photo

PNG = encoded(photo(8, 8))
Cli = Callable[..., Result]
PROPERTIES: dict[str, Any] = {
    "prompt": {"x-kind": "text", "type": "string", "maxLength": 20, "description": "What to draw"},
    "steps": {"x-kind": "integer", "type": "integer", "minimum": 1, "default": 20},
    "sampler": {"x-kind": "choice", "enum": ["euler", "ddim"]},
    "model": {"x-kind": "choice", "x-choices": "checkpoints"},
    "picture": {"x-kind": "image", "type": "object", "contentMediaType": "image/*"},
}


def definition(name: str, **changes: Any) -> Definition:
    values: dict[str, Any] = {
        "title": f"The {name}",
        "version": "1",
        "inputs": {"type": "object", "properties": PROPERTIES, "required": ["prompt"]},
        "outputs": [OutputDefinition(name="image", kind="image", node="9")],
        "runnable": True,
    }
    return Definition(name=name, **{**values, **changes})


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> InMemoryBridge:
    bridge = InMemoryBridge()
    bridge.workflows["demo"] = definition("demo")
    bridge.outputs["demo"] = [("image/png", PNG)]
    monkeypatch.setattr(client_module, "connect_to", lambda _address: bridge.connect)
    return bridge


@pytest.fixture
def cli(bridge: InMemoryBridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    del bridge
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFY2MQTT_MQTT_URL", "mqtt://nowhere")

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    return call


def test_a_job_is_run_and_its_outputs_are_files(cli: Cli, bridge: InMemoryBridge) -> None:
    ran = cli("run", "demo", "-i", "prompt=a barn", "-i", "steps=5", "-o", "out")
    assert ran.exit_code == 0, ran.stderr
    (path,) = Path("out").iterdir()
    assert path.read_bytes() == PNG
    assert ran.stdout.splitlines() == [str(path.resolve())]
    assert bridge.submitted[0].inputs == {"prompt": "a barn", "steps": "5"}


def test_a_script_is_given_json(cli: Cli) -> None:
    ran = cli("run", "demo", "--json", "--job-id", "j1")
    told = json.loads(ran.stdout)
    assert told["result"]["job_id"] == "j1"
    assert [Path(each).read_bytes() for each in told["files"]] == [PNG]


def test_media_is_given_as_a_file(cli: Cli, bridge: InMemoryBridge) -> None:
    Path("photo.png").write_bytes(PNG)
    assert cli("run", "demo", "-i", "picture=@photo.png").exit_code == 0
    assert "base64" in bridge.submitted[0].inputs["picture"]
    ran = cli("run", "demo", "-i", "picture=@none.png")
    assert (ran.exit_code, "is no file" in ran.stderr) == (2, True)
    assert cli("run", "demo", "-i", "prompt").exit_code == 2


def test_how_a_job_fails_is_told(cli: Cli, bridge: InMemoryBridge) -> None:
    bridge.failures["demo"] = ExecutionError("a node failed")
    ran = cli("run", "demo", "--json")
    assert ran.exit_code == 1
    assert "a node failed" in ran.stderr
    assert json.loads(ran.stdout)["files"] == []


def test_a_refusal_is_told_with_what_is_allowed(cli: Cli, bridge: InMemoryBridge) -> None:
    bridge.refusals = [InvalidInput("no such sampler", allowed=["euler", "ddim"])]
    ran = cli("run", "demo")
    assert (ran.exit_code, "allowed: euler, ddim" in ran.stderr) == (1, True)
    ran = cli("run", "other")
    assert (ran.exit_code, "'other'" in ran.stderr) == (1, True)
    bridge.refusals = [Busy("full")]
    assert "full" in cli("run", "demo").stderr


def test_a_job_is_run_again_as_it_ran(cli: Cli, bridge: InMemoryBridge) -> None:
    assert cli("run", "demo", "-i", "prompt=a barn", "--job-id", "j1").exit_code == 0
    again = cli("replay", "j1", "-i", "steps=9", "-o", "again")
    assert again.exit_code == 0, again.stderr
    assert bridge.submitted[1].inputs == {"prompt": "a barn", "steps": "9"}
    assert bridge.submitted[1].workflow_version == "1"
    assert "unknown_job" in cli("replay", "none").stderr or cli("replay", "none").exit_code == 1


def test_workflows_are_shown_in_brief_and_in_full(cli: Cli, bridge: InMemoryBridge) -> None:
    choice = MissingChoice(node="1", input="ckpt", value="old", allowed=[])
    lacking = Missing(nodes=["Rare"], choices=[choice])
    bridge.workflows["broken"] = definition("broken", runnable=False, missing=lacking)
    bridge.workflows["denied"] = definition("denied", runnable=False, forbidden=["Shell"])
    bridge.workflows["new"] = definition("new", runnable=UNSET)
    listed = dict(line.split("\t", 1) for line in cli("workflows").stdout.splitlines())
    assert listed["demo"] == "yes\tThe demo"
    assert "missing Rare, ckpt 'old'" in listed["broken"]
    assert "not allowed: Shell" in listed["denied"]
    assert "unknown yet" in listed["new"]
    shown = cli("workflows", "demo").stdout
    for part in ("(required)", "euler, ddim", "1 to", "up to 20 characters", "bridge/choices/"):
        assert part in shown, part
    assert "cannot run" in cli("workflows", "broken").stdout
    assert {each["name"] for each in json.loads(cli("workflows", "--json").stdout)} == set(
        bridge.workflows
    )
    assert json.loads(cli("workflows", "demo", "--json").stdout)["title"] == "The demo"


def test_no_workflows_is_an_error(cli: Cli, bridge: InMemoryBridge) -> None:
    bridge.workflows.clear()
    assert cli("workflows").exit_code == 1


def test_jobs_are_listed_and_cancelled(cli: Cli, bridge: InMemoryBridge) -> None:
    assert cli("run", "demo", "--job-id", "done").exit_code == 0
    (line,) = cli("jobs").stdout.splitlines()
    assert line.startswith("done\tdemo\tsucceeded\t")
    assert json.loads(cli("jobs", "--json").stdout)[0]["job_id"] == "done"
    assert cli("cancel", "done").stdout == "done: succeeded\n"
    assert json.loads(cli("cancel", "done", "--json").stdout)["state"] == "succeeded"
    assert not next(iter(bridge._jobs.values())).acked
    assert cli("cancel", "none").exit_code == 1


def test_words_are_completed_by_what_the_bridge_has(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_COMFY2MQTT_COMPLETE", "bash_complete")
    for words, last, offered in (
        ("comfy2mqtt run ", 2, "demo"),
        ("comfy2mqtt run demo -i ", 4, "prompt="),
    ):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(last))
        found = CliRunner().invoke(main, [], prog_name="comfy2mqtt")
        assert offered in found.output, found.output
    monkeypatch.delenv("_COMFY2MQTT_COMPLETE")
    for shell in ("bash", "zsh", "fish"):
        assert "comfy2mqtt" in cli("completion", shell).stdout


def test_a_name_that_is_no_id_is_refused(cli: Cli) -> None:
    assert cli("jobs", "--client", "no id/").exit_code == 2


def test_help_names_every_command(cli: Cli) -> None:
    names = cli("--help").stdout
    for command in main.commands:
        assert command in names
        assert cli(command, "--help").exit_code == 0
