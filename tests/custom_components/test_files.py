"""The integration's files agree with each other, and with the bridge."""

from __future__ import annotations

import importlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bridge
from tests.peers.homeassistant_integration.environment import CORE
from tests.support import integration

ROOT = Path(__file__).parents[2]
INTEGRATION = ROOT / "custom_components" / "comfy2mqtt"
# Of which Home Assistant discovery is tested with besides.
OLDER = ROOT / "tests" / "peers" / "homeassistant" / "environment.py"
PLACEHOLDER = re.compile(r"\{(\w+)\}")


def read(name: str) -> Any:
    return json.loads((INTEGRATION / name).read_text())


def texts(found: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a translation with its place."""
    for key, value in found.items():
        if isinstance(value, dict):
            yield from texts(value, f"{place}.{key}")
        else:
            yield f"{place}.{key}", value


def test_english_and_german_say_the_same_with_the_same_placeholders() -> None:
    english, german = (dict(texts(read(f"translations/{each}.json"))) for each in ("en", "de"))
    assert english.keys() == german.keys()
    for place, text in english.items():
        assert set(PLACEHOLDER.findall(text)) == set(PLACEHOLDER.findall(german[place])), place


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_state_has_one_word_wherever_it_is_shown(language: str) -> None:
    found = read(f"translations/{language}.json")
    words = found["selector"]["states"]["options"]
    ended = found["entity"]["event"]["job_ended"]["state_attributes"]["event_type"]["state"]
    script = (INTEGRATION / "frontend" / "card.js").read_text()
    block = script.partition(f"  {language}: {{")[2].partition("states: {")[2].partition("}")[0]
    on_the_card = dict(re.findall(r'(\w+): "(.+)"', block))
    # The card has a picture instead of "succeeded"; jobs that were refused are in no list.
    assert set(on_the_card) == set(words) - {"succeeded"} | {"refused"}
    for shown in (ended, on_the_card):
        assert {
            state: word for state, word in shown.items() if words.get(state, word) != word
        } == {}


@pytest.mark.parametrize("language", ["en", "de"])
def test_texts_are_as_home_assistant_takes_them(language: str) -> None:
    """Its own checks of an integration refuse these, and run where its sources are."""
    for place, text in texts(read(f"translations/{language}.json")):
        assert text == text.strip(), place
        assert not re.search(r"<[a-z/]|(https?|mqtts?)://|www\.|'\{\w+\}'", text), place
        assert all(re.fullmatch(r"[a-z0-9_]+", each) for each in place.split(".")[1:]), place


def test_every_error_and_repair_has_its_text_and_no_text_is_of_no_use() -> None:
    code = "\n".join(each.read_text() for each in INTEGRATION.rglob("*.py"))
    english = read("translations/en.json")
    raised = set(re.findall(r'failure\(\s*"(\w+)"', code))
    assert raised
    assert raised <= set(english["exceptions"])
    quoted = set(re.findall(r'"(\w+)"', code))
    assert set(english["exceptions"]) <= quoted
    assert set(english["config"]["error"]) | set(english["config"]["abort"]) <= quoted | {
        "already_configured",  # Home Assistant's own
        "reconfigure_successful",
    }
    assert set(english["issues"]) == set(re.findall(r'Problem\(\s*"(\w+)"', code))


def test_every_action_and_field_is_described_and_has_an_icon() -> None:
    actions = re.findall(r"^(\w+):$", (INTEGRATION / "services.yaml").read_text(), re.MULTILINE)
    english, icons = read("translations/en.json")["services"], read("icons.json")["services"]
    assert set(actions) == set(english) == set(icons)
    blocks = re.split(r"^\w+:\n", (INTEGRATION / "services.yaml").read_text(), flags=re.MULTILINE)
    for action, block in zip(actions, blocks[1:], strict=True):
        fields = re.findall(r"^    (\w+):$", block, re.MULTILINE)
        assert set(fields) == set(english[action]["fields"])


def test_its_version_is_the_bridges_and_hacs_finds_the_archive() -> None:
    assert read("manifest.json")["version"] == bridge.__version__
    hacs = json.loads((ROOT / "hacs.json").read_text())
    assert Path("dist") / hacs["filename"] == integration.ARCHIVE


def test_it_is_for_the_home_assistant_that_it_is_tested_with() -> None:
    tested = CORE.removeprefix("homeassistant==")
    assert json.loads((ROOT / "hacs.json").read_text())["homeassistant"] == tested
    release = tested.rpartition(".")[0]
    page = (ROOT / "docs" / "home-assistant.md").read_text()
    assert f"For Home Assistant {release} and later" in page
    older = re.search(r"Home Assistant (\d+\.\d+)\.\d+ with its own", OLDER.read_text())
    assert older is not None
    assert f"with Home Assistant {older[1]} and {release}, the integration with {release}." in page
    scale = (INTEGRATION / "quality_scale.yaml").read_text()
    assert f"that Home Assistant {release} loads all of it" in scale
    assert f"Home Assistant {release} and later" in (ROOT / "CHANGELOG.md").read_text()


def test_the_texts_of_each_workflows_action_are_there() -> None:
    used = set(re.findall(r'words\["(\w+)"\]', (INTEGRATION / "actions.py").read_text()))
    for language in ("en", "de"):
        assert set(read(f"translations/{language}.json")["common"]) == used
    assert used


def test_an_archive_that_is_published_has_links_that_lead_there() -> None:
    manifest = read("manifest.json")
    # Nobody owns `.example` (RFC 2606): a link that is not set leads to nobody's page.
    for each in ("documentation", "issue_tracker"):
        assert ".example/" in manifest[each]
    # By hand: where this is unpacked from an archive there is no git that could make one.
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in sorted(INTEGRATION.rglob("*.*")):
            if "__pycache__" not in path.parts:
                archive.write(path, path.relative_to(INTEGRATION))
    committed = zipped.getvalue()
    assert integration.archive(committed, None) == committed
    made = integration.archive(committed, "https://github.com/somebody/comfy2mqtt.git")
    with zipfile.ZipFile(io.BytesIO(committed)) as before, zipfile.ZipFile(io.BytesIO(made)) as now:
        assert before.namelist() == now.namelist()
        others = set(now.namelist()) - {"manifest.json"}
        assert all(before.read(each) == now.read(each) for each in others)
        found = json.loads(now.read("manifest.json"))
    page = "https://github.com/somebody/comfy2mqtt/blob/HEAD/docs/home-assistant.md"
    assert found["documentation"] == page
    assert (ROOT / page.partition("/HEAD/")[2]).exists()
    assert found["issue_tracker"] == "https://github.com/somebody/comfy2mqtt/issues"
    assert list(found) == list(manifest)


def test_every_trigger_and_condition_of_a_device_has_its_text() -> None:
    automation_events: Any = importlib.import_module("comfy2mqtt_protocol.automation_events")
    texts_of = read("translations/en.json")["device_automation"]
    assert set(texts_of["trigger_type"]) == {
        *automation_events.OF_WORKFLOW,
        *automation_events.OF_BRIDGE,
    }
    assert set(texts_of["condition_type"]) == set(automation_events.CONDITIONS)
