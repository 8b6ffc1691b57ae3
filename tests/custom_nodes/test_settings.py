from __future__ import annotations

from typing import Any

import pytest

from tests.custom_nodes.package import load

settings: Any = load("settings")
errors: Any = load("errors")


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    assert settings.read_settings({}) == settings.Settings(
        secret=None,
        guard=False,
        media_bytes=1 << 30,
        output_bytes=2 << 30,
        unpacked_bytes=4 << 30,
    )


def test_an_empty_secret_is_none() -> None:
    assert settings.read_settings({"COMFY2MQTT_SECRET": ""}).secret is None


def test_a_secret_is_without_the_line_end_of_its_file() -> None:
    found = settings.read_settings({"COMFY2MQTT_SECRET": "s\r\n"})
    assert found == settings.read_settings({"COMFY2MQTT_SECRET": "s"})


def test_the_environment_decides() -> None:
    environ = {
        "COMFY2MQTT_SECRET": "s",
        "COMFY2MQTT_GUARD": "1",
        "COMFY2MQTT_MEDIA_BYTES": "5",
        "COMFY2MQTT_OUTPUT_BYTES": "7",
        "COMFY2MQTT_UNPACKED_BYTES": "9",
    }
    assert settings.read_settings(environ) == settings.Settings(
        secret=environ["COMFY2MQTT_SECRET"],
        guard=True,
        media_bytes=5,
        output_bytes=7,
        unpacked_bytes=9,
    )


@pytest.mark.parametrize("text", ["yes", "2", "1"])
def test_a_guard_is_on_or_off_and_needs_a_secret(text: str) -> None:
    with pytest.raises(errors.SettingInvalid) as caught:
        settings.read_settings({"COMFY2MQTT_GUARD": text})
    assert caught.value.key == "COMFY2MQTT_GUARD"


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "1_000", " 7", "2G", "٣"])
def test_a_wrong_budget_is_named_with_what_is_allowed(text: str) -> None:
    with pytest.raises(errors.SettingInvalid) as caught:
        settings.read_settings({"COMFY2MQTT_MEDIA_BYTES": text})
    assert caught.value.key == "COMFY2MQTT_MEDIA_BYTES"
    assert "whole number" in str(caught.value)
