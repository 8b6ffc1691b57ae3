"""The files for `docker compose` name only what exists, by the bridge's own names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from bridge import config

ROOT = Path(__file__).parents[2]
FILES = ("compose.yaml", "docs/deploy/group.compose.yaml")
GROUP = FILES[1]


def read(file: str) -> Any:
    return yaml.safe_load((ROOT / file).read_text())


def bridges(file: str) -> dict[str, Any]:
    return {name: each for name, each in read(file)["services"].items() if "build" in each}


def settings(service: Any) -> config.Config:
    """The settings of a service, where nobody has set a variable."""
    values = {
        name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        for name, value in service["environment"].items()
    }
    names = {name.removeprefix(config.PREFIX).lower() for name in values}
    assert names <= config.TYPES.keys()
    found = config.load({}, values)
    config.check(found)
    return found


@pytest.mark.parametrize("file", FILES)
def test_what_services_mount_build_and_wait_for_is_there(file: str) -> None:
    found = read(file)
    folder = (ROOT / file).parent
    for service in found["services"].values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            there = (folder / source).exists() if "/" in source else source in found["volumes"]
            assert there, mount
        if "build" in service:
            assert (folder / service["build"] / "Dockerfile").is_file()
        assert set(service.get("depends_on", ())) <= found["services"].keys()
        # What a machine shows to others, it shows to itself alone.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.parametrize("file", FILES)
def test_a_bridge_takes_its_settings_and_reaches_the_services_beside_it(file: str) -> None:
    services = read(file)["services"]
    for service in bridges(file).values():
        found = settings(service)
        assert urlsplit(found.mqtt_url).hostname in services
        assert not found.journal or urlsplit(found.journal).hostname in services


def test_the_bridges_of_a_group_share_all_but_their_names_and_comfyuis() -> None:
    a, b = (settings(each) for each in bridges(GROUP).values())
    assert a.journal == b.journal != ""
    assert a.mqtt_url == b.mqtt_url
    assert a.member_name != b.member_name
    assert a.comfyui_url != b.comfyui_url
    postgres = read(GROUP)["services"]["postgres"]["environment"]
    user, database = postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]
    assert a.journal.startswith(f"postgresql://{user}:")
    assert a.journal.endswith(f"/{database}")


def test_a_bridge_of_a_group_has_its_time_to_stop() -> None:
    for service in bridges(GROUP).values():
        assert int(service["stop_grace_period"].removesuffix("s")) >= settings(service).stop_s + 20
