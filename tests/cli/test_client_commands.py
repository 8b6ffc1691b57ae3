"""The commands that speak to a bridge as a client, on a bridge in memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from msgspec import UNSET

from bridge.cli.main import main
from bridge.client.testing import InMemoryBridge
from bridge.contract.errors import Busy, ExecutionError, InvalidInput
from bridge.contract.retained import Missing, MissingChoice
from tests.support.definitions import PNG, definition

Cli = Callable[..., Result]


def test_a_job_is_run_and_its_outputs_are_files(cli: Cli, bridge: InMemoryBridge) -> None:
    ran = cli("run", "demo", "-i", "prompt=a barn", "-i", "steps=5", "-o", "out")
    assert ran.exit_code == 0, ran.stderr
    (path,) = Path("out").iterdir()
    assert path.read_bytes() == PNG
    assert ran.stdout.splitlines() == [str(path.resolve())]
    assert bridge.submitted[0].inputs == {"prompt": "a barn", "steps": "5"}


def test_a_path_that_is_not_utf8_is_escaped(cli: Cli) -> None:
    ran = cli("run", "demo", "-o", os.fsdecode(b"caf\xe9/"))
    assert (ran.exit_code, ran.stderr.count("Traceback")) == (0, 0)
    assert "caf\\udce9/" in ran.stdout


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


def test_how_a_job_fails_is_reported(cli: Cli, bridge: InMemoryBridge) -> None:
    bridge.failures["demo"] = ExecutionError("a node failed")
    ran = cli("run", "demo", "--json")
    assert ran.exit_code == 1
    assert "a node failed" in ran.stderr
    assert json.loads(ran.stdout)["files"] == []


def test_what_is_published_and_cannot_be_read_is_a_line(
    cli: Cli, bridge: InMemoryBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = [(bridge.topics.workflow("demo"), b'{"name": 7}')]
    monkeypatch.setattr(bridge, "retained", lambda _: other)
    found = cli("workflows")
    assert (found.exit_code, "cannot be read: Expected" in found.stderr) == (1, True)


def test_a_refusal_is_reported_with_what_is_allowed(cli: Cli, bridge: InMemoryBridge) -> None:
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
    header, *lines = cli("workflows").stdout.splitlines()
    assert header.split() == ["workflow", "runnable", "inputs", "outputs"]
    listed = dict(line.split(maxsplit=1) for line in lines)
    assert listed["demo"].split()[:2] == ["yes", "prompt,"]
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
    header, line = cli("jobs").stdout.splitlines()
    assert header.split() == ["job", "workflow", "state", "accepted"]
    assert line.split()[:3] == ["done", "demo", "succeeded"]
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
    for command in main.list_commands(click.Context(main)):
        assert command in names
        assert cli(command, "--help").exit_code == 0


def test_the_doctor_has_flags_for_what_it_looks_at_alone(cli: Cli) -> None:
    shown = cli("doctor", "--help").stdout
    for flag in ("--mqtt-url", "--host", "--comfyui-url", "--workflows", "--data", "--journal"):
        assert flag in shown, flag
    for flag in ("--max-queue", "--websocket-listen", "--keep-results-s", "--comfyui-warm"):
        assert flag not in shown, flag
    assert "The broker:" in shown
    assert "ComfyUI:" in shown


def _options(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Option]]:
    """Yield every option of a command and of those below it, with the command's name."""
    for option in command.params:
        if isinstance(option, click.Option):
            yield f"{name} {option.opts[-1]}", option
    if isinstance(command, click.Group):
        context = click.Context(command)
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None, word
            yield from _options(below, f"{name} {word}".strip())


def test_each_flag_has_its_help_its_default_and_its_variable() -> None:
    for flag, option in _options(main):
        told = option.help or ""
        assert told, flag
        for variable in (option.envvar,) if isinstance(option.envvar, str) else ():
            assert f"[{variable}" in told, flag
        if isinstance(option.default, str | int | float) and option.default and not option.is_flag:
            assert option.show_default or "default" in told or flag.endswith("--count"), flag
        assert not re.search(r"default [(\[{']", told), f"{flag}: as Python writes it: {told}"


def test_the_web_adapter_alone_shows_the_flags_that_it_uses_and_takes_all(cli: Cli) -> None:
    shown = cli("websocket", "--help").stdout
    for flag in ("--websocket-listen", "--public-url", "--host", "--base-topic", "--log-level"):
        assert flag in shown, flag
    for flag in ("--comfyui-url", "--max-queue", "--homeassistant", "--keep-results-s"):
        assert flag not in shown, flag
    ran = cli("websocket", "--comfyui-url", "http://h:1", "--websocket-origins", "none")
    assert "--websocket-origins: 'none': expected" in ran.stderr


@pytest.mark.parametrize(
    ("flag", "shown"),
    [
        ("--max-publishes-per-s", "NUMBER"),
        ("--new-clients-per-s", "NUMBER"),
        ("--hook", "JSON"),
        ("--model-hosts", "default huggingface.co,civitai.com,github.com"),
    ],
)
def test_what_a_flag_takes_is_shown_as_it_is_typed(flag: str, shown: str, cli: Cli) -> None:
    text = " ".join(cli("serve", "--help").stdout.split())
    assert shown in text.split(flag + " ", 1)[1][:200].split(" --")[0]
