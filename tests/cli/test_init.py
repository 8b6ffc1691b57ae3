from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge import config
from bridge.cli.main import main
from bridge.config import TYPES, Config
from bridge.config.reference import draft

Answer = Callable[..., Result]
FILE = Path("comfy2mqtt.toml")


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Answer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFY2MQTT_DATA", "data")

    def call(*answers: str, words: tuple[str, ...] = ()) -> Result:
        given = "".join(f"{each}\n" for each in answers)
        return CliRunner().invoke(main, ["init", *words], input=given)

    return call


def test_five_answers_are_a_settings_file_that_the_doctor_tries(answer: Answer) -> None:
    told = answer("127.0.0.1:9", "alice", "s3cret", "http://127.0.0.1:9", "127.0.0.1:8099", "y")
    found = config.load({}, {}, FILE)
    assert found.mqtt_url == "mqtt://alice@127.0.0.1:9"
    assert (found.comfyui_url, found.websocket_listen) == ("http://127.0.0.1:9", "127.0.0.1:8099")
    assert found.homeassistant
    assert found.mqtt_password_file is not None
    assert found.mqtt_password_file.read_text() == "s3cret\n"
    assert {each.stat().st_mode & 0o077 for each in (FILE, found.mqtt_password_file)} == {0}
    assert "s3cret" not in told.output + FILE.read_text()
    assert told.exit_code == 1  # the doctor found neither
    assert "BAD  broker: mqtt://alice" in told.stdout
    assert "BAD  ComfyUI 'default' at http://127.0.0.1:9" in told.stdout
    assert told.stdout.endswith("Start the bridge with: comfy2mqtt serve\n")


def test_the_defaults_set_nothing_but_the_page_and_a_comfyui_yet_to_come_is_no_fault(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd() / "cache"))
    given = answer("", "", "", "", "")
    assert "ok   ComfyUI 'default' is not installed yet" in given.stdout
    assert config.load({}, {}, FILE) == config.load(
        {"websocket_listen": "127.0.0.1:8090", "mqtt_url": "mqtt://127.0.0.1:1883"}, {}
    )


def test_a_folder_for_workflows_is_made_with_the_examples_where_there_is_none(
    answer: Answer,
) -> None:
    given = answer("127.0.0.1:9", "", "", "-", "")
    assert "put your own workflows beside them" in given.stdout
    made = config.load({}, {}, FILE).workflows
    assert made == Path("workflows")
    assert sorted(each.name for each in made.iterdir()) == [
        *("demo.json", "img2img.json", "txt2img.json")
    ]
    assert f"workflows: in {made.absolute()}" in given.stdout


def test_a_folder_with_the_examples_of_a_package_that_is_read_only_can_be_written(
    answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "demo.json").write_text("{}")
    (shipped / "demo.json").chmod(0o444)
    shipped.chmod(0o555)
    monkeypatch.setattr("bridge.resources.folder", lambda _: shipped)
    answer("", "", "", "", "")
    made = Path("workflows")
    assert all(each.stat().st_mode & 0o200 for each in (made, made / "demo.json"))


def test_no_folder_is_made_where_a_setting_names_another(
    answer: Answer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMFY2MQTT_WORKFLOWS", str(tmp_path))
    assert "examples" not in answer("", "", "", "", "").stdout
    assert not Path("workflows").exists()


def test_a_folder_of_workflows_that_is_there_is_left(answer: Answer) -> None:
    Path("workflows").mkdir()
    assert "beside them" not in answer("127.0.0.1:9", "", "", "-", "").stdout
    assert list(Path("workflows").iterdir()) == []


def test_settings_for_elsewhere_make_no_folder_here(answer: Answer) -> None:
    Path("etc").mkdir()
    given = answer("127.0.0.1:9", "", "", "-", "", words=("--file", "etc/comfy2mqtt.toml"))
    assert not Path("workflows").exists()
    assert f"for your own make the folder {Path('workflows').absolute()}" in given.stdout


def test_a_file_that_is_there_is_left_and_a_broker_that_cannot_be_is_reported(
    answer: Answer,
) -> None:
    FILE.write_text("max_queue = 5\n")
    told = answer("", "", "", "", "")
    assert (told.exit_code, "--overwrite" in told.stderr) == (2, True)
    assert FILE.read_text() == "max_queue = 5\n"


def test_an_answer_that_cannot_be_is_refused_and_the_question_asked_again(answer: Answer) -> None:
    told = answer("http://h", "127.0.0.1:9", "", "/nowhere", "own", "8090", "here:0", "-", "")
    assert "Error: 'http://h': the scheme must be" in told.output
    assert "Error: '/nowhere': expected own, http://host:port or a folder" in told.output
    assert told.output.count("expected host:port, such as 127.0.0.1:8090, or -") == 2
    found = config.load({}, {}, FILE)
    assert (found.mqtt_url, found.comfyui_url, found.websocket_listen) == (
        "mqtt://127.0.0.1:9",
        None,
        None,
    )


def test_a_folder_that_cannot_be_written_is_reported_before_any_question(answer: Answer) -> None:
    told = answer(words=("--file", "nowhere/comfy2mqtt.toml"))
    assert told.exit_code == 1
    assert "nowhere/comfy2mqtt.toml cannot be written: nowhere is no folder" in told.stderr
    assert "broker" not in told.stdout


def test_every_setting_is_in_the_draft_with_what_it_means() -> None:
    text = draft({"name": 'a "b"'})
    assert tomllib.loads(text) == {"name": 'a "b"'}
    for name in TYPES:
        assert name in text
    # What is a comment may be taken as it stands, where it is no empty text.
    lines = (line.removeprefix("# ") for line in text.splitlines() if " = " in line)
    values = tomllib.loads("\n".join(line for line in lines if not line.endswith('""')))
    for name, value in values.items():
        if name != "name":
            assert getattr(config.load({name: value}, {}), name) == getattr(Config(), name)
