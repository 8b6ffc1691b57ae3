from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from bridge.adapters.homeassistant import discovery
from bridge.adapters.homeassistant.command_components import is_updated
from bridge.adapters.homeassistant.device_state import OUTCOMES
from bridge.adapters.homeassistant.discovery import AnnouncedBridge
from bridge.adapters.homeassistant.fields import fields
from bridge.contract import operator
from bridge.contract.messages import encode
from bridge.contract.retained import HEALTH_EXPIRY_S, ComfyUIRelease, ComfyUIState
from bridge.contract.topics import HomeAssistantTopics, Topics
from bridge.service.bridge_info import HEALTH_INTERVAL_S
from tests.adapters.homeassistant.definitions import PICTURE, PROMPT, SEED, STEPS, STYLE, definition

TOPICS = Topics("base")
TREE = HomeAssistantTopics(TOPICS, "homeassistant")
BRIDGE = AnnouncedBridge(
    "Studio", "1.0", ("gpu0", "gpu1"), takes_commands=True, url="https://studio.example"
)


def drawn(name: str = "demo", **inputs: dict[str, Any]) -> dict[str, Any]:
    found = definition(name, **inputs)
    return discovery.workflow(found, fields(found), BRIDGE, TOPICS, TREE)


def test_no_device_lacks_what_would_have_it_rejected() -> None:
    for device in (drawn(prompt=PROMPT, steps=STEPS), discovery.the_bridge(BRIDGE, TOPICS)):
        # One more key at the top, and Home Assistant drops all of it.
        allowed = {"device", "origin", "availability", "availability_mode", "components"}
        assert set(device) <= allowed
        assert device["origin"]["name"]
        found = device["components"].values()
        components = [each for each in found if each["platform"] != discovery.TRIGGER]
        assert len({each["unique_id"] for each in components}) == len(components)
        assert len({each["default_entity_id"] for each in components}) == len(components)
        for each in components:
            assert each["default_entity_id"] == f"{each['platform']}.{each['object_id']}"


def test_ids_come_from_names_alone_so_that_titles_may_change() -> None:
    before = drawn(steps={**STEPS, "title": "Steps"})
    after = drawn(steps={**STEPS, "title": "Quality"})
    key = "number-steps"
    assert before["components"][key]["name"] != after["components"][key]["name"]
    for field in ("unique_id", "object_id", "command_topic", "state_topic"):
        assert before["components"][key][field] == after["components"][key][field]
    assert before["components"][key]["object_id"] == "base_demo_steps"
    assert before["device"]["identifiers"] == after["device"]["identifiers"]


def test_an_input_that_becomes_another_kind_of_entity_is_another_component() -> None:
    few = drawn(style=STYLE)["components"]
    many = drawn(style={"x-kind": "choice", "x-choices": "styles"})["components"]
    assert "select-style" in few
    assert "text-style" in many
    assert few.keys() & many.keys() == drawn()["components"].keys()


def test_a_surprise_is_for_workflows_with_a_seed() -> None:
    assert "surprise" not in drawn(prompt=PROMPT)["components"]
    button = drawn(prompt=PROMPT, seed=SEED)["components"]["surprise"]
    assert (button["platform"], button["payload_press"]) == ("button", discovery.SURPRISE)
    assert button["command_topic"] == TREE.run_command("demo")


def test_each_end_of_a_job_is_a_trigger_of_its_device() -> None:
    components = drawn()["components"]
    found = [each for each in components.values() if each["platform"] == discovery.TRIGGER]
    assert [each["type"] for each in found] == list(OUTCOMES)
    for each in found:
        assert each["topic"] == components["done"]["state_topic"]
        assert each["payload"] == each["type"]
        # Home Assistant drops these in silence: it is no entity.
        assert not each.keys() & {"unique_id", "object_id", "default_entity_id"}


def test_a_text_has_a_notify_of_another_name_beside_it_that_sets_the_same() -> None:
    many = {"x-kind": "choice", "enum": [str(number) for number in range(501)]}
    components = drawn(prompt=PROMPT, picture=PICTURE, seed=SEED, many=many)["components"]
    assert [key for key in components if key.startswith("notify")] == ["notify-prompt"]
    text, notify = components["text-prompt"], components["notify-prompt"]
    assert (text["name"], notify["name"]) == ("Prompt", "Prompt (any length)")
    assert notify == {
        "platform": "notify",
        "name": "Prompt (any length)",
        "command_topic": text["command_topic"],
        "unique_id": "base-workflow-demo-notify-prompt",
        "default_entity_id": "notify.base_demo_prompt",
        "object_id": "base_demo_prompt",
        "qos": 1,
    }
    assert text["max"] == 255
    assert drawn(prompt={**PROMPT, "maxLength": 20})["components"]["text-prompt"]["max"] == 20


def test_what_a_text_with_very_many_choices_takes_are_its_attributes() -> None:
    many = {"x-kind": "choice", "enum": [str(number) for number in range(501)]}
    components = drawn(prompt=PROMPT, style=STYLE, many=many)["components"]
    assert {key for key, each in components.items() if "json_attributes_topic" in each} == {
        "text-many"
    }
    topic = components["text-many"]["json_attributes_topic"]
    assert topic == "base/homeassistant/demo/input/many/allowed"
    # It goes with its input.
    known = discovery.announced(encode(drawn(many=many)))
    assert known is not None
    assert topic in known.topics({"text-many": "text"})


def test_only_what_health_says_expires_and_not_before_health_has_failed_to_come_twice() -> None:
    devices = (drawn(prompt=PROMPT, steps=STEPS, seed=SEED), discovery.the_bridge(BRIDGE, TOPICS))
    found = {
        key: (each["state_topic"], each["expire_after"])
        for device in devices
        for key, each in device["components"].items()
        if "expire_after" in each
    }
    expected = ("base/bridge/health", 120)
    assert found == {"memory": expected, "queue": expected}
    assert HEALTH_EXPIRY_S >= 3 * HEALTH_INTERVAL_S


def test_whether_the_bridge_is_there_can_be_seen_when_it_is_not() -> None:
    components = discovery.the_bridge(BRIDGE, TOPICS)["components"]
    assert [key for key in components if "availability" not in components[key]] == ["connectivity"]
    assert {"comfyui-gpu0", "comfyui-gpu1", "restart", "pause", "yield"} <= set(components)
    assert components["yielded-gpu0"]["payload_off"] == '{"instance":"gpu0","yielded":false}'
    plain = discovery.the_bridge(AnnouncedBridge("Studio", "1.0", ("default",)), TOPICS)
    assert "restart" not in plain["components"]
    assert "configuration_url" not in plain["device"]


def test_what_lasts_is_a_switch_whose_payloads_are_commands() -> None:
    components = discovery.the_bridge(BRIDGE, TOPICS)["components"]
    for key, verb in (("paused", "queue/pause"), ("yielded-gpu1", "comfyui/yield")):
        switch = components[key]
        assert switch["command_topic"] == TOPICS.command(verb)
        on, off = (
            operator.decode(verb, switch[f"payload_{each}"].encode()) for each in ("on", "off")
        )
        assert on != off
    # The buttons of before are there for who presses them.
    assert not components["pause"]["enabled_by_default"]
    assert "enabled_by_default" not in components["restart"]


def test_a_comfyui_whose_releases_are_looked_for_has_an_update_that_is_a_command() -> None:
    updated = replace(BRIDGE, updated=frozenset({"gpu0"}))
    assert "release-gpu0" not in discovery.the_bridge(BRIDGE, TOPICS)["components"]
    found = discovery.the_bridge(updated, TOPICS)["components"]["release-gpu0"]
    assert found["state_topic"] == TOPICS.comfyui("gpu0")
    assert found["command_topic"] == TOPICS.command("comfyui/update")
    command = operator.decode("comfyui/update", found["payload_install"].encode())
    assert command == operator.Update(instance="gpu0")
    # Where no commands are taken it shows releases, and installs none.
    shown = discovery.the_bridge(replace(updated, takes_commands=False), TOPICS)
    assert "command_topic" not in shown["components"]["release-gpu0"]


def test_a_state_says_whether_releases_are_looked_for() -> None:
    state = ComfyUIState(state="ready", since=1.0, restarts=0)
    assert not is_updated(encode(state))
    assert is_updated(encode(replace(state, release=ComfyUIRelease(installed="0.9.0"))))
    for broken in (b"", b"{", b"[]", b"\xff", b'{"release": 3}'):
        assert not is_updated(broken)


def test_every_device_is_described_in_full_and_leads_to_the_page() -> None:
    paged = AnnouncedBridge("Studio", "1.0", ("default",), url="https://pc/c2m")
    page = {"configuration_url": "https://pc/c2m"}
    demo = {
        "identifiers": ["base-workflow-demo"],
        "name": "Demo",
        "manufacturer": "comfy2mqtt",
        "model": "Workflow",  # and no version: a hash says nothing to a person
        "via_device": "base-bridge",
    }
    the_bridge = {
        "identifiers": ["base-bridge"],
        "name": "Studio",
        "manufacturer": "comfy2mqtt",
        "model": "Bridge",
        "sw_version": "1.0",
    }
    for bridge, more in ((paged, page), (replace(paged, url=None), {})):
        found = discovery.workflow(definition(), [], bridge, TOPICS, TREE)["device"]
        assert found == {**demo, **more}
        assert discovery.the_bridge(bridge, TOPICS)["device"] == {**the_bridge, **more}


def test_memory_is_shown_in_megabytes() -> None:
    bridge = AnnouncedBridge("Studio", "1.0", ("default",), url=None)
    memory = discovery.the_bridge(bridge, TOPICS)["components"]["memory"]
    assert (memory["unit_of_measurement"], memory["device_class"]) == ("MB", "data_size")
    # Health has it in bytes.
    assert "value_json.memory / 1000000" in memory["value_template"]


def test_an_announcement_lists_what_is_gone_since_and_where_its_states_were() -> None:
    before = discovery.announced(encode(drawn(prompt=PROMPT, steps=STEPS)))
    assert before is not None
    assert before.is_of(TOPICS)
    assert not before.is_of(Topics("other"))
    now = drawn(steps=STEPS)
    gone = before.gone(now["components"])
    assert gone == {"text-prompt": "text", "notify-prompt": "notify"}
    assert before.topics(gone)[0] == "base/homeassistant/demo/input/prompt"
    again = discovery.without(now, gone)
    assert list(again["components"].items())[:2] == [
        ("text-prompt", {"platform": "text"}),
        ("notify-prompt", {"platform": "notify"}),
    ]
    # What was removed once is not removed again.
    removed = discovery.announced(encode(again))
    assert removed is not None
    assert removed.gone(now["components"]) == {}
    assert {"base/homeassistant/demo/image", "base/homeassistant/demo/available"} <= set(
        removed.topics(removed.components)
    )


def test_what_others_announce_is_none_of_ours() -> None:
    for payload in (b"", b"[]", b'{"cmps": {}}', b"\xff", b'{"components": {"a": 1}}', b"[" * 9999):
        assert discovery.announced(payload) is None
    strange = discovery.announced(b'{"components": {"a": {"availability": {"topic": 1}}}}')
    assert strange is not None
    assert not strange.is_of(TOPICS)
