"""The commands that need neither broker nor bridge, and the messages where those are offline."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from bridge.adapters.web.keyring import Keyring
from bridge.cli.main import main
from bridge.comfyui.managed import CurrentVersion, Version
from bridge.jobs.journal import Journal
from tests.jobs.drafts import draft
from tests.workflows.graphs import INFO, NAMED

Cli = Callable[..., Result]
NOWHERE = "mqtt://127.0.0.1:9"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    for name, value in {"MQTT_URL": NOWHERE, "DATA": "data", "WORKFLOWS": "workflows"}.items():
        monkeypatch.setenv(f"COMFY2MQTT_{name}", value)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    before = os.umask(0o022)
    yield call
    os.umask(before)


def test_a_key_is_made_shown_and_revoked(cli: Cli) -> None:
    made = cli("keys", "add", "alice", "--name", "the tablet")
    assert made.exit_code == 0, made.stderr
    keyring = Keyring(Path("data/keys.json"))
    keyring.refresh()
    found = keyring.find(made.stdout.strip())
    assert found is not None
    assert (found.client, found.name) == ("alice", "the tablet")
    shown = cli("keys", "list").stdout
    assert found.id in shown
    assert made.stdout.strip() not in shown
    assert cli("keys", "revoke", found.id).exit_code == 0
    again = cli("keys", "revoke", found.id)
    assert (again.exit_code, "no such key" in again.stderr) == (1, True)


def test_a_key_for_what_is_no_client_is_refused(cli: Cli) -> None:
    assert cli("keys", "add", "no id/").exit_code == 2
    assert cli("keys", "add", "alice", "--name", "x\x1b").exit_code == 2


def test_a_file_of_keys_that_cannot_be_read_is_reported(cli: Cli) -> None:
    Path("data").mkdir()
    Path("data/keys.json").write_text("{")
    for command in (("add", "alice"), ("list",), ("revoke", "x")):
        told = cli("keys", *command)
        assert (told.exit_code, "keys.json: not a file of keys" in told.stderr) == (1, True)
        assert "make new keys with `comfy2mqtt keys add`" in told.stderr


def test_the_documents_are_printed_written_and_compared(cli: Cli) -> None:
    assert json.loads(cli("asyncapi").stdout)["asyncapi"].startswith("3")
    assert cli("asyncapi", "--write", "docs").exit_code == 0
    assert cli("asyncapi", "--write", "docs", "--check").exit_code == 0
    Path("docs/asyncapi.json").write_text("{}")
    stale = cli("asyncapi", "--write", "docs", "--check")
    assert (stale.exit_code, "asyncapi.json" in stale.stderr) == (1, True)


async def _journal_with_a_job() -> None:
    journal = Journal(Path("data/journal.db"))
    await journal.open()
    await journal.accept(draft("j1"), 1.0)
    await journal.close()


def test_a_backup_is_made_once_and_put_back_once(cli: Cli) -> None:
    Path("data").mkdir()
    asyncio.run(_journal_with_a_job())
    made = cli("backup", "backup.tar")
    assert (made.exit_code, made.stdout.startswith("backup.tar: 1 jobs")) == (0, True), made.stderr
    assert cli("backup", "backup.tar").exit_code == 1
    assert cli("restore", "backup.tar").exit_code == 1  # over a journal
    assert cli("restore").exit_code == 2
    restored = cli("restore", "backup.tar", "--data", "other")
    assert restored.exit_code == 0, restored.stderr
    assert "lost" in restored.stdout
    open_to_others = [path for path in Path("other").rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []
    assert cli("restore", "workflows/none.tar", "--data", "third").exit_code == 1


def test_a_journal_in_postgresql_is_backed_up_by_its_own_tools(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY2MQTT_JOURNAL", "postgresql://127.0.0.1:9/x")
    assert "pg_dump" in cli("backup", "x.tar").stderr
    assert "pg_restore" in cli("restore", "x.tar").stderr


def findings(told: Result) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in told.stdout.splitlines()]
    return {each["what"]: each for each in found}


def test_the_doctor_reports_what_is_away_and_what_to_do(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("COMFY2MQTT_MQTT_ULR", "misspelt")
    told = cli("doctor")
    assert told.exit_code == 1
    for line in (
        "BAD  COMFY2MQTT_MQTT_ULR is no setting",
        "BAD  broker: ",
        "     -> is it running, and is that its address (mqtt_url)?",
        "BAD  ComfyUI 'default' at http://127.0.0.1:9",
        "ok   data (data, by the settings here) is not there yet, and can be made",
    ):
        assert line in told.stdout, told.stdout
    assert not Path("data").exists()
    Path("data").mkdir()
    assert "ok   data (data, by the settings here) can be written" in cli("doctor").stdout
    assert list(Path("data").iterdir()) == []


def test_the_doctor_reports_each_setting_that_would_stop_a_bridge(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("comfy2mqtt.toml").write_text(
        'journal = "postgresql://h:x/d"\nmqtt_url = "mqtt://h:x"\ndata = "comfy2mqtt.toml"\n'
        'public_url = "h"\n[[display]]\nname = "kitchen"\nwidth = 0\n'
    )
    for name in ("MQTT_URL", "DATA"):
        monkeypatch.delenv(f"COMFY2MQTT_{name}")
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_URL", "http://[::1")
    told = cli("doctor")
    assert told.exit_code == 1
    assert isinstance(told.exception, SystemExit), told.exception
    for line in (
        "BAD  COMFY2MQTT_COMFYUI_URL: 'http://[::1': expected http",
        "BAD  comfy2mqtt.toml, line 1: journal: 'postgresql://h:***': the port must",
        "BAD  comfy2mqtt.toml, line 2: mqtt_url: 'mqtt://h:***': the port must",
        "BAD  comfy2mqtt.toml, line 3: data: 'comfy2mqtt.toml': comfy2mqtt.toml cannot be written",
        "BAD  comfy2mqtt.toml, line 4: public_url: 'h': expected http",
        "BAD  comfy2mqtt.toml, line 7: display.kitchen.width: '0': expected a whole number",
    ):
        assert line in told.stdout, told.stdout
    assert "Traceback" not in told.output


def test_the_doctor_reports_whether_the_page_could_be_served(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("COMFY2MQTT_WEBSOCKET_LISTEN", address)
        answering = threading.Thread(target=_answer_each, args=(taken,), daemon=True)
        answering.start()
        told = cli("doctor").stdout
        taken.shutdown(socket.SHUT_RDWR)
        answering.join()
    assert f"BAD  COMFY2MQTT_WEBSOCKET_LISTEN: '{address}': another program listens" in told
    assert f"ok   {address} is free (websocket_listen)" in cli("doctor").stdout


def _answer_each(server: socket.socket) -> None:
    """Answer each connection as another program's web page."""
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


def test_the_doctor_reports_updates_that_are_wanted_and_cannot_be(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_URL", "http://127.0.0.1:9")
    assert "comfyui_updates" not in cli("doctor").stdout
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_UPDATES", "true")
    assert "BAD  comfyui_updates is on, and there is no ComfyUI" in cli("doctor").stdout


def test_the_doctor_checks_what_is_kept_and_repairs_it(cli: Cli) -> None:
    assert "no journal" in cli("doctor", "--journal").stdout
    asyncio.run(_journal_with_a_job())
    sound = cli("doctor", "--journal")
    assert (sound.exit_code, "is sound" in sound.stdout) == (0, True)
    path = Path("data/journal.db")
    with closing(sqlite3.connect(path)) as journal:
        (page,) = journal.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'jobs_by_number'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))
    repaired = cli("doctor", "--journal")
    assert (repaired.exit_code, "1 jobs" in repaired.stdout) == (1, True)
    assert "journal.db.damaged-" in repaired.stdout
    assert cli("doctor", "--journal").exit_code == 0
    path.write_bytes(b"no journal " * 1000)
    hopeless = cli("doctor", "--journal", "--json")
    assert hopeless.exit_code == 1
    assert "comfy2mqtt restore" in hopeless.stdout


def test_the_doctor_takes_the_address_of_a_journal_as_before(cli: Cli) -> None:
    told = cli("doctor", "--journal", "postgresql://127.0.0.1:9/nobody").stdout
    assert "the journal:" in told
    assert "the settings are valid" in told


@pytest.mark.parametrize(
    ("options", "kept"),
    [((), "default"), (("--journal", "postgresql://127.0.0.1:9/a", "--member", "b"), "b-default")],
)
def test_the_doctor_looks_at_the_workflows(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], kept: str
) -> None:
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("COMFY2MQTT_DENY_NODES", "LoadImage")
    rare = {"1": {"class_type": "Rare", "inputs": {}}, **NAMED}
    denied = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "there.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    for name, content in {"rare": rare, "named": NAMED, "denied": denied}.items():
        Path(f"workflows/{name}.json").write_bytes(msgspec.json.encode(content))
    Path("workflows/broken.json").write_text("{")
    Path("data/object_info").mkdir(parents=True)
    Path(f"data/object_info/{kept}.json").write_bytes(msgspec.json.encode(INFO.raw))
    found = findings(cli("doctor", "--json", *options))
    assert found["workflow named"]["good"]
    assert any("broken" in what and not each["good"] for what, each in found.items())
    assert any("denied is not allowed: LoadImage" in what for what in found)


def test_the_doctor_reports_an_interpreter_that_is_not_there(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("comfyui").mkdir()
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_PATH", "comfyui")
    monkeypatch.setenv("COMFY2MQTT_COMFYUI_PYTHON", "./none/python")
    found = findings(cli("doctor", "--json"))
    (bad,) = (each for what, each in found.items() if "cannot be executed" in what)
    assert "comfyui_python" in bad["advice"]


def test_a_comfyui_that_is_not_installed_yet_is_no_fault(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def finding() -> dict[str, Any]:
        (found,) = (
            each for what, each in findings(cli("doctor", "--json")).items() if "ComfyUI" in what
        )
        return found

    first = finding()
    assert first["good"]
    assert "not installed yet: the first `comfy2mqtt serve` installs it (about " in first["what"]
    assert "comfy2mqtt comfyui install" in first["advice"]
    # A version that `comfyui install` made is found, and a damaged one is a fault.
    folder = tmp_path / "data" / "managed"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "main.py").touch()
    python = Path(sys.executable)
    version = Version("0.9.9", str(folder / "code"), str(python), str(python.resolve()))
    (folder / "current.json").write_bytes(msgspec.json.encode(CurrentVersion(used=version)))
    assert finding() == {
        "good": True,
        "what": "the managed ComfyUI 0.9.9 is installed",
        "advice": "",
    }
    (folder / "code" / "main.py").unlink()
    assert not finding()["good"]


@pytest.mark.parametrize(
    "words",
    [
        ("queue",),
        ("comfyui", "stop"),
        ("jobs",),
        ("cancel", "j1"),
        ("run", "demo"),
        ("watch",),
        ("logs",),
    ],
)
def test_a_broker_that_is_away_is_reported_with_its_own_status(
    cli: Cli, words: tuple[str, ...]
) -> None:
    told = cli(*words)
    assert (told.exit_code, told.stderr.count("\n")) == (3, 1), told.stderr


def test_options_that_do_not_go_together_are_refused(cli: Cli) -> None:
    assert cli("queue", "pause", "--of", "alice").exit_code == 2
    assert cli("comfyui", "stop", "--now").exit_code == 2
    assert cli("comfyui", "--now", "stop").exit_code == 2
    assert cli("comfyui", "install", "--device", "abacus").exit_code == 2


def test_a_comfyui_that_is_not_there_cannot_be_upgraded(cli: Cli, tmp_path: Path) -> None:
    told = cli("comfyui", "upgrade", "--data", str(tmp_path / "data"))
    assert told.exit_code == 1
    assert "comfy2mqtt comfyui install" in told.stderr
