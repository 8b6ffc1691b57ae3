from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.cli.mosquitto import USERS, BrokerListeners, access_file
from bridge.contract import access
from bridge.contract.access import ForeignTopics
from bridge.contract.topics import Topics
from bridge.mosquitto import FILES

pytestmark = pytest.mark.broker

Command = Callable[..., Result]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `comfy2mqtt mosquitto ...` with its files in `tmp_path / "conf.d"`."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(main, ["mosquitto", *words, "--folder", "conf.d"], input=given)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "conf.d"


def test_the_files_in_the_repository_are_what_setup_writes() -> None:
    access_text = access_file(Path("/etc/mosquitto/conf.d"), BrokerListeners())
    assert (FILES / "comfy2mqtt-access.conf").read_text() == access_text
    assert (FILES / "comfy2mqtt.acl").read_text() == access.acl(Topics(), USERS, ForeignTopics())


def test_setup_opens_loopback_alone_and_lets_nobody_in_without_a_password(
    command: Command, folder: Path
) -> None:
    assert command("setup").exit_code == 0
    lines = (folder / "comfy2mqtt-access.conf").read_text().splitlines()
    told = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in told if line.startswith("listener")] == ["listener 1883 127.0.0.1"]
    assert "allow_anonymous false" in told
    assert not any("websockets" in line for line in told)


def test_setup_with_a_certificate_listens_on_the_network_by_tls(
    command: Command, folder: Path
) -> None:
    done = command("setup", "--certificate", "/c.pem", "--key", "/k.pem", "--tls-port", "8884")
    assert done.exit_code == 0
    lines = (folder / "comfy2mqtt-access.conf").read_text().splitlines()
    told = [line for line in lines if line and not line.startswith("#")]
    assert told[-4:] == [
        "listener 8884",
        "certfile /c.pem",
        "keyfile /k.pem",
        "tls_version tlsv1.2",
    ]
    assert command("setup", "--key", "/k.pem").exit_code == 2


def test_passwords_are_shown_once_kept_hashed_and_for_the_broker_alone(
    command: Command, folder: Path
) -> None:
    shown = [line.split() for line in command("setup").stdout.splitlines() if line[:2] == "  "]
    assert [user for user, _ in shown] == [user for user, _ in USERS]
    kept = (folder / "comfy2mqtt.passwords").read_text()
    for user, password in shown:
        assert f"{user}:$" in kept
        assert password not in kept
    for name in ("comfy2mqtt.passwords", "comfy2mqtt.acl"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


def test_setup_again_leaves_everything_as_it_is(command: Command, folder: Path) -> None:
    command("setup")
    (folder / "comfy2mqtt.acl").write_text("mine")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    again = command("setup")
    assert "exists already, not changed" in again.stdout
    assert "Passwords" not in again.stdout
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_acl_names_the_base_topic_and_the_inputs_of_the_settings(
    command: Command, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "comfy2mqtt.toml").write_text(
        'base_topic = "art"\nhomeassistant_prefix = "ha/x"\n'
        '[clients.alice]\ninput_topics = ["cameras/+"]\n'
        '[[trigger]]\nname = "door"\ntopic = "zigbee2mqtt/door"\nworkflow = "x"\n'
    )
    command("setup")
    text = (folder / "comfy2mqtt.acl").read_text()
    assert "pattern write art/client/%u/request/#" in text
    assert "topic read cameras/+\ntopic read zigbee2mqtt/door" in text
    assert "topic write ha/x/status" in text
    assert " comfy2mqtt/" not in text
    assert " homeassistant/" not in text


def test_a_user_is_added_once_and_again_gets_another_password(
    command: Command, folder: Path
) -> None:
    command("setup")
    first = command("add-user", "alice")
    kept = (folder / "comfy2mqtt.passwords").read_text()
    second = command("add-user", "alice", "--password-stdin", given="kept by hand\n")
    assert first.exit_code == second.exit_code == 0
    assert "kept by hand" not in second.stdout
    again = (folder / "comfy2mqtt.passwords").read_text()
    assert again != kept
    assert again.count("alice:") == 1
    assert again.splitlines()[:-1] == kept.splitlines()[:-1]


def test_a_role_is_written_down_once(command: Command, folder: Path) -> None:
    command("setup")
    assert command("add-user", "eve", "--role", "operator").exit_code == 0
    stanza = (folder / "comfy2mqtt.acl").read_text().rpartition("user eve\n")[2]
    assert "topic write comfy2mqtt/bridge/request/#" in stanza
    again = command("add-user", "eve", "--role", "adapter")
    assert again.exit_code == 1
    assert "has rules for" in again.stderr


@pytest.mark.parametrize(
    ("words", "given", "told"),
    [
        (("a/b",), None, "1 to 64"),
        (("+",), None, "1 to 64"),
        (("a\nuser b",), None, "1 to 64"),
        (("a", "--password-stdin"), "\n", "a password"),
        (("a", "--password-stdin"), "a:b\n", "a password"),
        (("a", "--password-stdin"), " a\n", "a password"),
    ],
)
def test_a_name_or_password_that_would_be_another_is_refused(
    command: Command, folder: Path, words: tuple[str, ...], given: str | None, told: str
) -> None:
    command("setup")
    before = (folder / "comfy2mqtt.passwords").read_text()
    done = command("add-user", *words, given=given)
    assert done.exit_code == 2
    assert told in done.stderr
    assert (folder / "comfy2mqtt.passwords").read_text() == before


def test_without_setup_there_is_nothing_to_add_a_user_to(command: Command) -> None:
    done = command("add-user", "alice")
    assert done.exit_code == 1
    assert "setup" in done.stderr


@pytest.mark.parametrize("option", ["--port", "--tls-port"])
@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_is_none_is_refused(
    command: Command, folder: Path, option: str, port: str
) -> None:
    assert command("setup", option, port).exit_code == 2
    assert not folder.exists()


def test_the_rights_are_printed_for_another_broker() -> None:
    told = CliRunner().invoke(main, ["broker-files", "emqx", "--base-topic", "c2m"])
    assert told.exit_code == 0
    assert "c2m/client/${username}/request/#" in told.stdout
    assert "acl.conf" in told.stderr
