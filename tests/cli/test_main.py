"""The commands are found, and only the one that is run is loaded."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from bridge.cli import commands
from bridge.cli.main import main
from bridge.cli.options import Commands


def test_each_command_stands_in_one_section_of_the_help() -> None:
    listed = [place for places in main.sections.values() for place in places.values()]
    assert sorted(listed) == sorted(defined_commands())


def defined_commands() -> Iterator[str]:
    """Yield the places of all commands of `bridge.cli.commands` that are in no group there."""
    for found in pkgutil.iter_modules(commands.__path__):
        module = importlib.import_module(f"{commands.__name__}.{found.name}")
        here = {
            name: each for name, each in vars(module).items() if isinstance(each, click.Command)
        }
        groups = [each for each in here.values() if isinstance(each, click.Group)]
        grouped = [below for group in groups for below in group.commands.values()]
        yield from (f"{found.name}:{name}" for name, each in here.items() if each not in grouped)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "modules"),
    [
        (["--version"], set()),
        (["jobs", "--help"], {"jobs"}),
        (["serve", "-h"], {"serve"}),
    ],
)
def test_only_the_command_that_is_run_is_loaded(words: list[str], modules: set[str]) -> None:
    program = (
        "import atexit, sys; from bridge.cli.main import main;"
        "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr));"
        f"main({words})"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    inside = f"{commands.__name__}."
    loaded = [name for name in ran.stderr.decode().split() if name.startswith(inside)]
    assert {name.removeprefix(inside) for name in loaded} == modules


@pytest.mark.parametrize(
    "moment",
    [
        "bridge.cli.options.import_module",
        "bridge.cli.init.write_file",
        "click.termui.visible_prompt_func",
    ],
)
def test_ctrl_c_has_its_own_status_whatever_a_command_does(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **_named: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _prompt: "")
    monkeypatch.setattr(moment, interrupt)
    # Another group than the program's, which keeps the commands that were loaded.
    group = Commands()
    group.sections = main.sections
    with pytest.raises(SystemExit) as ended:
        group.main(["init", "--file", str(tmp_path / "comfy2mqtt.toml")])
    assert ended.value.code == 130


def test_questions_that_nobody_answers_end_a_command_with_a_sentence(tmp_path: Path) -> None:
    words = ["init", "--file", str(tmp_path / "comfy2mqtt.toml")]
    found = CliRunner().invoke(main, words, input="")
    assert found.exit_code == 1
    assert "standard input ended before all questions were answered" in found.output


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_fail_no_command(closed: str, tmp_path: Path) -> None:
    words = (sys.executable, "-m", "bridge", "keys", "list")
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *words]
    environment = {**os.environ, "COMFY2MQTT_DATA": str(tmp_path)}
    ran = subprocess.run(shell, capture_output=True, check=False, env=environment)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.slow
def test_a_mistyped_command_is_looked_for_among_all_though_none_is_loaded() -> None:
    program = "from bridge.cli.main import main; main(['job'])"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ran.returncode == 2
    assert b"jobs" in ran.stderr
