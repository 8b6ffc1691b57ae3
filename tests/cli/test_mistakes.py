"""The messages for a user's mistakes: one line that says what is wrong, and what to do.

Read each aloud. None names what is inside, and none is a traceback.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.client.testing import InMemoryBridge
from bridge.contract.errors import Busy, Forbidden, InvalidInput, QuotaExceeded

Cli = Callable[..., Result]
NOWHERE = "mqtt://127.0.0.1:9"

# What was typed, the exit status, and the whole message: its last line, after `comfy2mqtt: `. Where
# it is a matter of usage, two lines before it name the command's usage and --help.
TYPED = [
    ("runn demo", 2, "Error: No such command 'runn'. Did you mean 'run'?"),
    ("run", 2, "Error: Missing argument 'WORKFLOW'."),
    (
        "run demo --otuput x",
        2,
        "Error: No such option '--otuput'. (Did you mean one of: '--input', '--output', '--put'?)",
    ),
    (
        "run demo --timeout soon",
        2,
        "Error: Invalid value for '--timeout': 'soon': expected a number of seconds above 0",
    ),
    (
        "run demo -p 0",
        2,
        "Error: Invalid value for '-p' / '--port': '0': expected a port, 1 to 65535",
    ),
    (
        "run demo -p 1 -H a --mqtt-url b",
        2,
        "--mqtt-url and --host name two brokers: give one of them",
    ),
    (
        "run demo -o nofolder.txt/x.png",
        2,
        "-o: nothing can be written to nofolder.txt: it is a file, not a folder; nothing was sent",
    ),
    (
        "run demo --json -o -",
        2,
        "-o - and --json would both write to standard output: give one of them",
    ),
    (
        "jobs --state done",
        2,
        (
            "Error: Invalid value for '--state': 'done' is not one of 'waiting', 'queued', "
            "'running', 'succeeded', 'failed', 'cancelled', 'expired'."
        ),
    ),
    ("jobs --all --limit 3", 2, "--all and --limit: give one of them"),
    (
        "jobs --client 'a b'",
        2,
        "--client: 'a b': expected 1 to 64 of the characters A-Z a-z 0-9 _ -",
    ),
    ("serve --max-queue many", 2, "--max-queue: 'many': expected a whole number"),
    ("serve --max-outputs 1GB", 2, "--max-outputs: '1GB': expected a whole number (bytes)"),
    ("serve --timeout-s -1", 2, "--timeout-s: '-1': expected a number above 0 (seconds)"),
    ("serve --homeassistant maybe", 2, "--homeassistant: 'maybe': expected true or false"),
    ("serve --log-format xml", 2, "--log-format: 'xml': expected one of text, json"),
    (
        "serve --websocket-listen 8090",
        2,
        "--websocket-listen: '8090': expected host:port, such as 127.0.0.1:8090",
    ),
    (
        "serve --comfyui-url localhost:8188",
        2,
        "--comfyui-url: 'localhost:8188': expected http://host:port or https://host:port",
    ),
    (
        "serve --comfyui-path none",
        2,
        "--comfyui-path: 'none': expected a folder with ComfyUI's main.py",
    ),
    ("serve --workflows none", 2, "--workflows: 'none': expected an existing folder"),
    (
        "serve --journal mysql://x",
        2,
        "--journal: 'mysql://x': expected postgresql://user:password@host:port/database",
    ),
    ("serve --config none.toml", 2, "none.toml: no such file"),
    ("serve --config .", 2, ".: cannot be read: Is a directory"),
    (
        "serve --config utf16.toml",
        2,
        "utf16.toml: expected text in UTF-8, or in UTF-16 with its byte order mark",
    ),
    (
        "serve --config latin1.toml",
        2,
        "latin1.toml: expected text in UTF-8, or in UTF-16 with its byte order mark",
    ),
    (
        "serve --config field.toml",
        2,
        "field.toml, line 3: display.a.widht: no such field; did you mean 'width'?",
    ),
    (
        "serve --config below.toml",
        2,
        ("below.toml, line 2: clients.a.max_queu: no such field; did you mean 'max_queue'?"),
    ),
    (
        "serve --config late.toml",
        2,
        (
            "late.toml, line 2: clients.a.mqtt_url: no such field; "
            "the setting mqtt_url has to be above the first table"
        ),
    ),
    (
        "serve --config table.toml",
        2,
        (
            "table.toml, line 1: mqtt: no such setting; write mqtt_url = ... above the first table "
            "(docs/settings.md and `comfy2mqtt serve --help` list all)"
        ),
    ),
    (
        "serve --config single.toml",
        2,
        (
            "single.toml, line 1: display: expected a list of tables: begin each with [[display]], "
            "with its name in it"
        ),
    ),
    (
        "serve --data nofolder.txt",
        2,
        (
            "--data: 'nofolder.txt': nofolder.txt cannot be written: it is a file; "
            "expected a folder of the bridge's own"
        ),
    ),
    (
        "demo -o nofolder.txt/x",
        2,
        "-o: nothing can be written to nofolder.txt/x: Not a directory; nothing was sent",
    ),
    (
        "convert photo.jpg --comfyui-url http://[::1",
        2,
        "--comfyui-url: 'http://[::1': expected http://host:port or https://host:port",
    ),
    (
        "models get demo --model-hosts https://huggingface.co",
        2,
        "--model-hosts: 'https://huggingface.co': expected names of hosts, as in a URL",
    ),
    (
        "comfyui install --comfyui-torch-index ftp://h",
        2,
        (
            "--comfyui-torch-index: 'ftp://h': expected http://host[:port] or https://host[:port], "
            "or a folder"
        ),
    ),
    ("restore x.tar --data nofolder.txt", 1, "x.tar: nofolder.txt: File exists"),
    ("init --file . --overwrite", 2, ". is a folder: name a file"),
    (
        "init --file nofolder.txt/x",
        1,
        "nofolder.txt/x cannot be written: nofolder.txt is no folder that you may write",
    ),
    ("queue --mqtt-ca none --mqtt-url mqtts://h", 2, "--mqtt-ca: 'none': expected a file"),
    (
        "watch --mqtt-url mqtt://u:hunter2@h:x",
        2,
        (
            "--mqtt-url: 'mqtt://***@h:***': the port must be a number from 1 to 65535; "
            "in a user name or password write : as %3A and @ as %40"
        ),
    ),
    (
        "jobs -H a..b -p 1",
        2,
        (
            "--host, --port: 'mqtt://a..b:1': the host is not valid; write "
            "mqtt://user:password@host:port, mqtts:// for TLS, ws:// or wss:// for WebSocket"
        ),
    ),
    (
        "serve --config misspelt.toml",
        2,
        (
            "misspelt.toml, line 1: mqtt_ulr: no such setting; did you mean 'mqtt_url'? "
            "(docs/settings.md and `comfy2mqtt serve --help` list all)"
        ),
    ),
    (
        "serve --config broken.toml",
        2,
        (
            "broken.toml: not valid TOML: Invalid value (at line 1, column 13); "
            "is it a text without quotes?"
        ),
    ),
    (
        "jobs --mqtt-url ws://127.0.0.1:9/mqtt",
        3,
        (
            "ws://127.0.0.1:9/mqtt: Connection refused; is a broker running there? "
            "-H and -p name another"
        ),
    ),
    (
        "jobs --mqtt-url http://h",
        2,
        (
            "--mqtt-url: 'http://h': the scheme must be mqtt, mqtts, ws or wss; write "
            "mqtt://user:password@host:port, mqtts:// for TLS, ws:// or wss:// for WebSocket"
        ),
    ),
    (
        "jobs",
        3,
        "mqtt://127.0.0.1:9: Connection refused; is a broker running there? -H and -p name another",
    ),
    ("convert none.json", 1, "none.json: No such file or directory"),
    (
        "backup x.tar --data none",
        1,
        "none/journal.db: there is no journal; is this the bridge's folder (data)?",
    ),
    (
        "restore nofolder.txt --data other",
        1,
        "nofolder.txt: not a backup of comfy2mqtt: no tar archive",
    ),
    ("restore", 2, "restore: name the FILE of the backup"),
    ("keys revoke none", 1, "keys revoke: 'none': no such key; see `comfy2mqtt keys list`"),
    (
        "keys add me --websocket-keys nofolder.txt/keys.json",
        1,
        "nofolder.txt: it is a file, not a folder",
    ),
    ("asyncapi --write nofolder.txt/x", 1, "Error: nofolder.txt/x: Not a directory"),
    ("asyncapi --check", 2, "--check: also give --write FOLDER, the folder to look at"),
    ("workflows a b", 2, "workflows: expected nothing, NAME or describe NAME"),
    (
        "convert photo.jpg",
        1,
        (
            "photo.jpg: this is image/jpeg, not a workflow: "
            "ComfyUI saves one as JSON, in PNG or in WebP"
        ),
    ),
    ("mcp --http 8765", 2, "--http: '8765': expected host:port, such as 127.0.0.1:8765"),
    (
        "models get demo --to .",
        0,
        (
            "demo names no URL of a model. Which models it lacks is known once a bridge has met "
            "its ComfyUI: `comfy2mqtt workflows` and `comfy2mqtt doctor` name them, and "
            "docs/models.md says where they go"
        ),
    ),
    (
        "init --file nowhere/x.toml",
        1,
        "nowhere/x.toml cannot be written: nowhere is no folder that you may write",
    ),
    ("comfyui stop --now", 2, "--now: use it only with `comfyui yield`"),
    ("comfyui update 0.9.0 --look", 2, "--look: it takes no VERSION"),
]
INTERNALS = re.compile(
    r"Traceback|`(int|str|float|bool|array|object)`|msgspec|\[Errno|<[a-z]+ object"
)


@pytest.mark.parametrize(("line", "status", "told"), TYPED, ids=[each[0] for each in TYPED])
def test_each_mistake_has_its_whole_message(
    line: str, status: int, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFY2MQTT_MQTT_URL", NOWHERE)
    monkeypatch.setenv("COMFY2MQTT_DATA", str(tmp_path / "data"))
    Path("nofolder.txt").write_text("")
    Path("misspelt.toml").write_text('mqtt_ulr = "x"\n')
    Path("broken.toml").write_text("max_queue = \n")
    Path("utf16.toml").write_bytes("max_queue = 0".encode("utf-16-le"))
    Path("latin1.toml").write_bytes(b'name = "\xe9"\n')
    Path("field.toml").write_text('[[display]]\nname = "a"\nwidht = 1\n')
    Path("below.toml").write_text("[clients.a]\nmax_queu = 1\n")
    Path("late.toml").write_text('[clients.a]\nmqtt_url = "h"\n')
    Path("table.toml").write_text('[mqtt]\nurl = "h"\n')
    Path("single.toml").write_text("[display.a]\nwidth = 1\n")
    Path("photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(99))
    words = [each.strip("'") for each in re.findall(r"'[^']*'|\S+", line)]
    ran = CliRunner().invoke(main, words, prog_name="comfy2mqtt")
    _check(ran, status, told)
    lines = ran.stderr.strip().splitlines()
    assert lines[-1].removeprefix("comfy2mqtt: ") == told
    if len(lines) > 1:
        usage, try_help, empty, _ = lines
        assert usage.startswith("Usage: comfy2mqtt ")
        assert re.fullmatch(r"Try 'comfy2mqtt( \w+)? --help' for help\.", try_help)
        assert empty == ""


def _check(ran: Result, status: int, told: str) -> None:
    assert ran.exit_code == status, (ran.output, ran.exception)
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    last = ran.stderr.strip().splitlines()[-1]
    assert told in last, ran.stderr
    assert INTERNALS.search(ran.stderr) is None, ran.stderr


ASKED = [
    ("run dmeo", 1, "there is no workflow 'dmeo'; did you mean 'demo'? (allowed: demo)"),
    ("run demo -i prompt", 2, "-i prompt: expected NAME=VALUE"),
    ("run demo -i picture=@none.png", 2, "-i picture: 'none.png' is no file"),
    ("run demo --each none.csv", 2, "--each none.csv: No such file or directory"),
    ("get none", 1, "client 'cli' has no job 'none'; `comfy2mqtt jobs` lists them"),
    ("show 'no id'", 1, "'no id' is no job's id"),
    ("cancel demp", 1, "has no job 'demp'; did you mean 'demo1'?"),
    ("workflows dmeo", 1, "did you mean 'demo'?"),
]


@pytest.mark.parametrize(("line", "status", "told"), ASKED, ids=[each[0] for each in ASKED])
def test_a_mistake_that_the_bridge_has_to_know_of_is_reported_in_a_line(
    cli: Cli, line: str, status: int, told: str
) -> None:
    assert cli("run", "demo", "--job-id", "demo1").exit_code == 0
    _check(cli(*(each.strip("'") for each in re.findall(r"'[^']*'|\S+", line))), status, told)


def test_a_right_that_is_missing_is_reported_with_the_setting_that_gives_it(
    cli: Cli, bridge: InMemoryBridge
) -> None:
    told = "'cli' may not have anything delivered to h"
    bridge.refusals = [Forbidden(told, setting="clients.cli.sink_hosts", allowed=[])]
    ran = cli("run", "demo", "--put", "https://h/x")
    _check(ran, 1, f"{told}; the bridge's setting clients.cli.sink_hosts decides that")


def test_what_the_bridge_refuses_is_reported_with_what_is_allowed(
    cli: Cli, bridge: InMemoryBridge
) -> None:
    told = "unknown input 'promt'; did you mean 'prompt'?"
    bridge.refusals = [
        InvalidInput(told, input="promt", allowed=["prompt"]),
        Busy("the queue is full"),
        QuotaExceeded("50 of your jobs wait already"),
    ]
    _check(cli("run", "demo", "-i", "promt=x"), 1, f"{told} (allowed: prompt)")
    _check(cli("run", "demo"), 1, "the queue is full")
    _check(cli("run", "demo"), 1, "50 of your jobs wait already")


@pytest.mark.parametrize("words", ["run demo", "replay a", "get a", "show a", "jobs", "cancel a"])
def test_a_bridge_that_is_away_is_reported_at_once(
    cli: Cli, bridge: InMemoryBridge, words: str
) -> None:
    bridge.go_offline()
    ran = cli(*words.split())
    assert ran.exit_code == 1
    assert "is offline: nothing was sent. Start it (`comfy2mqtt serve`)" in ran.stderr
