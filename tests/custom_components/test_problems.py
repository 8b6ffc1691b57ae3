"""The integration's problems are those that the bridge publishes."""

from __future__ import annotations

import importlib
import json
from typing import Any, get_args

import pytest

from bridge.adapters.mqtt.restrictions import restrictions
from bridge.comfyui.errors import ComfyUIForbidden, UnexpectedAnswer
from bridge.contract import missing as contract_missing
from bridge.contract.messages import encode
from bridge.contract.retained import (
    BridgeHealth,
    ComfyUIRelease,
    ComfyUIState,
    HookHealth,
    Missing,
    MissingChoice,
    StateName,
)
from bridge.mqtt import Connack
from tests.custom_components.samples import definition

decode: Any = importlib.import_module("comfy2mqtt_protocol.decode")
definitions: Any = importlib.import_module("comfy2mqtt_protocol.definitions")
messages: Any = importlib.import_module("comfy2mqtt_protocol.messages")
problems: Any = importlib.import_module("comfy2mqtt_protocol.problems")
ours: Any = importlib.import_module("comfy2mqtt_protocol.topics")


def found_at(comfyui: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each.key, each.about) for each in problems.of_comfyui("PC", comfyui)]


@pytest.mark.parametrize(
    ("comfyui", "found"),
    [
        ({}, []),
        ({"a": {"state": "ready"}, "b": {"state": "unreachable"}}, []),
        ({"a": {"state": "unreachable"}, "b": {"state": "unreachable"}}, [("no_comfyui", "")]),
        ({"a": {"state": "unreachable", "reason": "forbidden"}}, [("comfyui_refuses", "a")]),
        # The reason stays after it has recovered.
        ({"a": {"state": "ready", "reason": "forbidden"}}, []),
        ({"a": {"state": "crash_loop"}, "b": {"state": "busy"}}, [("comfyui_crashes", "a")]),
        ({"a": {"state": "ready", "unguarded": True}}, [("comfyui_unguarded", "a")]),
    ],
)
def test_what_a_person_has_to_put_right_at_comfyui_is_found(
    comfyui: dict[str, dict[str, Any]], found: list[tuple[str, str]]
) -> None:
    assert found_at(comfyui) == found


def test_the_states_and_reasons_that_are_problems_are_the_bridges() -> None:
    assert set(problems._STUCK) | {"unreachable", "busy"} <= set(get_args(StateName))
    assert (ComfyUIForbidden.code, UnexpectedAnswer.code) == problems._REFUSED
    state = ComfyUIState(state="crash_loop", since=1, restarts=5, last_error="no CUDA")
    (found,) = problems.of_comfyui("PC", {"a": json.loads(encode(state))})
    assert found.placeholders == {"title": "PC", "comfyui": "a", "error": "no CUDA"}


def test_what_a_workflow_lacks_and_a_task_without_one_are_problems() -> None:
    read = definitions.read_workflow
    lacking = definition(runnable=False, missing=Missing(nodes=["KSampler"]), forbidden=["Shell"])
    found = list(problems.of_workflows("PC", [read(encode(definition())), read(encode(lacking))]))
    errors = {"title": "PC", "name": "demo", "workflow": "Demo", "lacks": "KSampler, Shell"}
    assert found == [problems.Problem("not_runnable", "demo", errors)]
    tasks = [("t1", "Painter", "demo"), ("t2", "Other", "gone")]
    assert [each.about for each in problems.of_tasks("PC", tasks, ["demo"])] == ["t2"]


def test_what_a_workflow_lacks_is_named_so_that_it_can_be_found() -> None:
    model = MissingChoice(node="4", input="ckpt", value="a.ckpt", allowed=[], folder="checkpoints")
    missing = Missing(choices=[model], api_key=["VeoNode"])
    found = definitions.read_workflow(encode(definition(runnable=False, missing=missing)))
    assert found.lacks == ("models/checkpoints/a.ckpt", "comfyui_api_key: VeoNode")


@pytest.mark.parametrize("name", ["demo", *sorted(contract_missing.OPTIONAL)])
@pytest.mark.parametrize(
    "missing",
    [
        Missing(choices=[MissingChoice(node="4", input="c", value="a.ckpt", allowed=[])]),
        Missing(choices=[MissingChoice(node="4", input="c", value="euler", allowed=[])]),
        Missing(nodes=["KSampler"]),
        Missing(
            nodes=["KSampler"],
            choices=[MissingChoice(node="4", input="c", value="a.ckpt", allowed=[])],
        ),
        Missing(
            api_key=["VeoNode"],
            choices=[MissingChoice(node="4", input="c", value="a.ckpt", allowed=[])],
        ),
    ],
    ids=lambda missing: missing if isinstance(missing, str) else contract_missing.lacking(missing),
)
def test_a_workflow_that_doctor_does_not_blame_is_no_repair(name: str, missing: Missing) -> None:
    """Those that come with the bridge may lack the models that do not."""
    blamed = not (name in contract_missing.OPTIONAL and contract_missing.models(missing))
    found = definitions.read_workflow(
        encode(definition(name=name, runnable=False, missing=missing))
    )
    assert bool(list(problems.of_workflows("PC", [found]))) is blamed


def test_the_models_files_that_it_knows_are_those_of_the_bridge() -> None:
    assert definitions.OPTIONAL == contract_missing.OPTIONAL
    assert definitions.WEIGHTS == contract_missing.WEIGHTS


def health(**fields: Any) -> Any:
    counts: dict[str, Any] = dict.fromkeys(
        ("at", "queued", "running", "accepted", "succeeded", "failed"), 0
    )
    return messages.read_health(encode(BridgeHealth(**counts, **fields)))


def test_what_is_wrong_with_a_bridges_health_is_a_problem_each() -> None:
    assert health() == messages.Health()
    well = health(paused=True, hooks={"ollama": HookHealth(state="busy")})
    assert list(problems.of_health("PC", well)) == []
    assert list(problems.of_health("PC", health(paused=True, held="paused"))) == []
    ill = health(
        store="no route to s3",
        held="3 outcomes wait for the disk",
        hooks={
            "wake": HookHealth(state="preparing", error="no answer"),
            "tell": HookHealth(state="idle", error="answered 404"),
            "ollama": HookHealth(state="busy"),
        },
    )
    assert list(problems.of_health("PC", ill)) == [
        problems.Problem("store_fails", "", {"title": "PC", "error": "no route to s3"}),
        problems.Problem(
            "queue_held", "", {"title": "PC", "error": "3 outcomes wait for the disk"}
        ),
        problems.Problem(
            "hook_holds_jobs", "wake", {"title": "PC", "hook": "wake", "error": "no answer"}
        ),
        problems.Problem(
            "hook_fails", "tell", {"title": "PC", "hook": "tell", "error": "answered 404"}
        ),
    ]


@pytest.mark.parametrize("payload", ["{", "[]", '{"hooks": 7}', '{"hooks": {"a": 1}}'])
def test_health_that_cannot_be_read_is_malformed(payload: str) -> None:
    with pytest.raises(decode.MalformedError):
        messages.read_health(payload)


def test_silence_is_a_problem_that_names_who_is_not_answered() -> None:
    here = ours.Topics("studio", "ha")
    assert list(problems.of_answers("PC", here, is_silent=False)) == []
    (found,) = problems.of_answers("PC", here, is_silent=True)
    errors = {"title": "PC", "base": "studio", "client": "ha"}
    assert found == problems.Problem("no_answer", "", errors)


def test_a_broker_that_loses_messages_is_a_problem_and_one_with_limits_is_none() -> None:
    worst = Connack(
        session_present=False,
        retain_available=False,
        maximum_qos=0,
        wildcards_available=False,
        receive_maximum=1,
        session_expiry=1,
    )
    found = restrictions(worst, "3.1.1", session_s=99, packet_limit=100)
    # All words that the bridge has; the size is measured.
    assert set(problems._LOSING) < {*found, "size"}

    def errors(words: dict[str, str]) -> list[str]:
        info = messages.Info("pc", "1.0", 1, restrictions=words)
        return [each.placeholders["error"] for each in problems.of_bridge("PC", info, 1)]

    assert errors({word: word for word in found if word not in problems._LOSING}) == []
    assert errors({"retain": "it retains nothing", "qos": "it has QoS 0 only"}) == [
        "it has QoS 0 only; it retains nothing"
    ]


def test_an_update_that_failed_is_a_problem_until_it_is_tried_again() -> None:
    def found(**release: Any) -> list[Any]:
        shown = ComfyUIRelease(installed="0.9.0", **release)
        state = ComfyUIState(state="ready", since=1, restarts=0, release=shown)
        return list(problems.of_comfyui("PC", {"a": json.loads(encode(state))}))

    errors = {"title": "PC", "comfyui": "a", "error": "0.10.0 is not installed"}
    assert found(error=errors["error"]) == [problems.Problem("update_fails", "a", errors)]
    assert found() == found(error="x", step="installing") == found(latest="0.10.0") == []


def test_a_contract_of_another_version_is_a_problem() -> None:
    info = messages.Info("pc", "1.0", 2)
    (found,) = problems.of_bridge("PC", info, 1)
    assert found.placeholders == {"title": "PC", "theirs": "2", "ours": "1"}
    assert not [*problems.of_bridge("PC", info, 2), *problems.of_bridge("PC", None, 1)]
