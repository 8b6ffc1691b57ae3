"""The integration's files by what Home Assistant's package has to check them with.

Home Assistant's own check of an integration, hassfest, is in no package of it, neither in the wheel
nor in the sources on PyPI. So what it asks for is asked for here: by Home Assistant's functions
where it has them, else by what the files of its own integrations have.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hass_frontend
import homeassistant
import pytest
from conftest import DOMAIN
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.selector import validate_selector
from homeassistant.loader import async_get_integration
from homeassistant.util.yaml import load_yaml_dict

COMPONENTS = "homeassistant.components."
CORE = Path(homeassistant.__file__).parent / "components"
OURS = Path(__file__).parents[3] / "custom_components" / DOMAIN
ICONS = Path(hass_frontend.__file__).parent / "static" / "mdi" / "iconList.json"
# Every Home Assistant has them, and no manifest names them.
EVERYWHERE = {"device_automation", "homeassistant"}
# Where texts have names of the integration's, by their places; what else may be there, Home
# Assistant's integrations show.
PLACES = (
    "",
    "config",
    "config step *",
    "config_subentries *",
    "config_subentries * initiate_flow",
    "config_subentries * step *",
    "device_automation",
    "entity",
    "entity * *",
    "entity * * state_attributes *",
    "exceptions *",
    "issues *",
    "selector *",
    "services *",
    "services * fields *",
)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@cache
def manifests() -> dict[str, dict[str, Any]]:
    return {path.parent.name: read(path) for path in CORE.glob("*/manifest.json")}


@cache
def strings() -> tuple[dict[str, Any], ...]:
    return tuple(read(path) for path in CORE.glob("*/strings.json"))


def at(found: Any, place: str) -> Iterator[dict[str, Any]]:
    """Yield what is at a place; `*` stands for any name."""
    name, _, rest = place.partition(" ")
    if not name:
        yield from [found] if isinstance(found, dict) else []
    elif isinstance(found, dict):
        for each in found.values() if name == "*" else [found.get(name)]:
            yield from at(each, rest)


async def test_home_assistant_loads_the_manifest_and_each_of_its_values_is_known(
    home: HomeAssistant,
) -> None:
    found = await async_get_integration(home, DOMAIN)
    assert found.version is not None
    assert (found.config_flow, found.disabled) == (True, None)
    ours = read(OURS / "manifest.json")
    ordered = ["domain", "name", *sorted(set(ours) - {"domain", "name"})]
    assert list(ours) == ordered
    known = {key for each in manifests().values() for key in each}
    # Of integrations that are not Home Assistant's own.
    assert set(ours) - known == {"issue_tracker", "version"}
    for key in ("integration_type", "iot_class"):
        assert ours[key] in {each.get(key) for each in manifests().values()}
    assert DOMAIN not in manifests()
    needed = [*ours["dependencies"], *ours["after_dependencies"]]
    assert len(needed) == len(set(needed))
    assert set(needed) <= set(manifests())
    for key in ("dependencies", "after_dependencies"):
        assert ours[key] == sorted(ours[key])


def test_whatever_is_imported_of_home_assistant_is_in_the_manifest() -> None:
    ours = read(OURS / "manifest.json")
    allowed = {*ours["dependencies"], *ours["after_dependencies"], *map(str, Platform), *EVERYWHERE}
    used: set[str] = set()
    for path in OURS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{each.name}" for each in node.names]
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            else:
                continue
            used |= {name.split(".")[2] for name in names if name.startswith(COMPONENTS)}
    assert {"ai_task", "mqtt"} <= used
    # A file that is called as an integration is a platform of it.
    assert used - {path.stem for path in OURS.glob("*.py")} <= allowed


def test_every_field_of_an_action_has_a_selector_that_home_assistant_takes() -> None:
    english = read(OURS / "translations" / "en.json")
    actions = load_yaml_dict(str(OURS / "services.yaml"))
    assert set(actions) == {"cancel", "list", "run"}
    for name, action in actions.items():
        assert set(action) <= {"fields", "target"}, name
        for field, given in action["fields"].items():
            assert set(given) <= {"default", "example", "required", "selector"}, (name, field)
            assert None not in (given.get("default", 0), given.get("example", 0))
            validate_selector(given["selector"])
            ((_, options),) = given["selector"].items()
            key = (options or {}).get("translation_key")
            texts = set() if key is None else set(english["selector"][key]["options"])
            assert texts == set((options or {}).get("options", ())), (name, field)


@pytest.mark.parametrize("language", ["en", "de"])
def test_texts_are_at_places_that_home_assistant_knows(language: str) -> None:
    ours = read(OURS / "translations" / f"{language}.json")
    for place in PLACES:
        known = {key for each in strings() for found in at(each, place) for key in found}
        assert known, place
        for found in at(ours, place):
            assert set(found) <= known, place
    for step in [*at(ours, "config step *"), *at(ours, "config_subentries * step *")]:
        assert set(step.get("data_description", ())) == set(step.get("data", ()))
    for place, text in _texts(ours):
        assert cv.string_with_no_html(text) == text.strip(), place
        assert not re.search(r"\]\(|\[%|%\]", text), place


def _texts(found: dict[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, dict):
            yield from _texts(value, f"{place} {key}")
        else:
            yield f"{place} {key}", value


def test_every_icon_is_one_that_the_frontend_has() -> None:
    ours = read(OURS / "icons.json")
    assert set(ours) == {"entity", "services"}
    known = {f"mdi:{each['name']}" for each in read(ICONS)}
    icons = [icon for _, icon in _texts(ours)]
    assert len(icons) > 5
    assert set(icons) <= known
    english = read(OURS / "translations" / "en.json")["entity"]
    for platform, entities in english.items():
        assert set(entities) <= set(ours["entity"][platform])


def test_the_quality_scale_has_every_rule_and_says_why_one_is_not_kept() -> None:
    known = {
        rule
        for path in CORE.glob("*/quality_scale.yaml")
        for rule in load_yaml_dict(str(path))["rules"]
    }
    ours = load_yaml_dict(str(OURS / "quality_scale.yaml"))["rules"]
    assert set(ours) == known
    for rule, status in ours.items():
        if isinstance(status, dict):
            assert set(status) == {"status", "comment"}, rule
            assert status["status"] in ("done", "todo", "exempt"), rule
        else:
            assert status == "done", rule
