from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.config import Config, ConfigError

DOCUMENT = Path("docs/settings.md")


def load(
    tmp_path: Path,
    text: str = "",
    environment: dict[str, str] | None = None,
    flags: dict[str, Any] | None = None,
) -> Config:
    file = tmp_path / "comfy2mqtt.toml"
    file.write_text(text)
    return config.load(flags, environment or {}, file)


def test_nothing_needs_to_be_set(tmp_path: Path) -> None:
    assert load(tmp_path) == Config()


def test_flags_weigh_more_than_the_environment_and_that_more_than_the_file(tmp_path: Path) -> None:
    text = 'mqtt_url = "mqtt://file"\nname = "file"\nmax_queue = 5\n'
    environment = {"COMFY2MQTT_NAME": "environment", "COMFY2MQTT_MAX_QUEUE": "6"}
    found = load(tmp_path, text, environment, {"max_queue": "7", "name": None})
    assert (found.mqtt_url, found.name, found.max_queue) == ("mqtt://file", "environment", 7)


def test_strings_become_what_the_setting_is(tmp_path: Path) -> None:
    environment = {
        "COMFY2MQTT_COMFYUI_ARGS": "--cpu --extra 'two words'",
        "COMFY2MQTT_INPUT_TOPICS": "cameras/+/snapshot, doors/#",
        "COMFY2MQTT_URL_HOSTS": "",
        "COMFY2MQTT_KEEP_OUTPUTS_S": "60",
        "COMFY2MQTT_DATA": "~/bridge",
    }
    found = load(tmp_path, "", environment)
    assert found.comfyui_args == ("--cpu", "--extra", "two words")
    assert found.input_topics == ("cameras/+/snapshot", "doors/#")
    assert found.url_hosts == ()
    assert found.keep_outputs_s == 60.0
    assert found.folder == Path("~/bridge").expanduser()


@pytest.mark.parametrize(
    ("text", "environment", "flags", "told"),
    [
        ("mqtt_utl = 1", {}, {}, ("mqtt_utl", "no such setting", "mqtt_url")),
        ("max_queue = ", {}, {}, ("comfy2mqtt.toml", "not valid TOML")),
        ("max_queue = 0", {}, {}, ("max_queue", "0", ">= 1")),
        ("max_queue = true", {}, {}, ("max_queue", "True", "int")),
        ("", {"COMFY2MQTT_MAX_QUEUE": "many"}, {}, ("COMFY2MQTT_MAX_QUEUE", "'many'", "int")),
        ("", {"COMFY2MQTT_BASE_TOPIC": "a/b"}, {}, ("BASE_TOPIC", "'a/b'", "1 to 64")),
        ("", {"COMFY2MQTT_COMFYUI_ARGS": "'"}, {}, ("COMFYUI_ARGS", "No closing quotation")),
        ("", {}, {"log_level": "loud"}, ("--log-level", "'loud'", "debug, info, warning, error")),
        ("", {}, {"timeout_s": "-1"}, ("--timeout-s", "'-1'", "> 0")),
    ],
)
def test_a_wrong_setting_is_one_line_with_key_value_and_what_is_allowed(
    tmp_path: Path,
    text: str,
    environment: dict[str, str],
    flags: dict[str, Any],
    told: tuple[str, ...],
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment, flags)
    line = str(caught.value)
    assert "\n" not in line
    for part in told:
        assert part in line


TWO = """
[[comfyui]]
name = "gpu0"
path = "{folder}"
environment = {{ CUDA_VISIBLE_DEVICES = "0" }}

[[comfyui]]
name = "studio"
url = "http://studio:8188"
"""


def test_tables_are_read_from_the_file_and_as_json_from_the_environment(tmp_path: Path) -> None:
    (gpu, studio) = load(tmp_path, TWO.format(folder=tmp_path)).comfyui
    assert (gpu.name, gpu.path) == ("gpu0", tmp_path)
    assert gpu.environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert studio.url == "http://studio:8188"
    variable = {"COMFY2MQTT_COMFYUI": '[{"name": "one", "url": "http://h:1"}]'}
    (one,) = load(tmp_path, TWO.format(folder=tmp_path), variable).comfyui
    assert one.name == "one"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("not json", "JSON"),
        ('[{"name": "a b"}]', "1 to 64"),
        ('[{"name": "a", "ulr": "x"}]', "ulr"),
    ],
)
def test_a_wrong_table_says_what_is_wrong_with_it(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(tmp_path, "", {"COMFY2MQTT_COMFYUI": text})


def test_a_secret_is_not_shown_when_it_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "comfyui_secret = 5 # hunter2", {}, {"mqtt_url": ["mqtt://u:hunter2@h"]})
    assert "hunter2" not in str(caught.value)


def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(None, {}, tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"comfyui_url": "http://h:1", "comfyui_path": "."}, "give one"),
        ({"comfyui_python": "/usr/bin/python3"}, "needs comfyui_path"),
        ({"comfyui_url": "h:8188"}, "http://host:port"),
        ({"comfyui_path": "/nowhere"}, "main.py"),
        ({"workflows": "/nowhere"}, "existing folder"),
        ({"comfyui": '[{"name": "a"}, {"name": "a"}]'}, "two of that name"),
        ({"comfyui": '[{"name": "a", "url": "h:1"}]'}, "'a': url: expected http"),
        ({"comfyui": '[{"name": "a"}]', "comfyui_url": "http://h:1"}, "either"),
        (
            {"comfyui": '[{"name": "a", "url": "http://h", "environment": {"A": "b"}}]'},
            "environment",
        ),
    ],
)
def test_settings_that_do_not_fit_together_stop_a_bridge(
    tmp_path: Path, settings: dict[str, str], told: str
) -> None:
    found = load(tmp_path, "", {}, {"workflows": str(tmp_path), **settings})
    with pytest.raises(ConfigError, match=told):
        config.check(found)


def test_misspelt_variables_are_noticed() -> None:
    environment = {
        "COMFY2MQTT_MQTT_URI": "x",
        "COMFY2MQTT_MQTT_URL": "x",
        "COMFY2MQTT_TEST_ANYTHING": "x",
        "COMFY2MQTT_SECRET": "x",
        "OTHER": "x",
    }
    assert config.unknown(environment) == ["COMFY2MQTT_MQTT_URI"]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in DOCUMENT.read_text().splitlines()
        if line.startswith("| `")
    ]
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}
    assert set(documented) == set(config.TYPES)
    for name, told in documented.items():
        default = getattr(Config(), name)
        if isinstance(default, int | float) and not isinstance(default, bool):
            assert float(told.replace(",", "")) == default, name
