from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from bridge.cli.diagnostics import (
    REMEDIES,
    explain,
    explain_gpu,
    explain_health,
    explain_release,
    openness,
    updates,
)
from bridge.comfyui.errors import ComfyUIForbidden, ComfyUIUnreachable, StartFailure
from bridge.comfyui.state import StateName
from bridge.contract.retained import (
    BridgeHealth,
    ComfyUIRelease,
    ComfyUIState,
    GpuLease,
    GpuRequest,
    HookHealth,
    UpdateStep,
)

REASONS = [*get_args(StartFailure), ComfyUIUnreachable.code, ComfyUIForbidden.code]
OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def state_of(state: StateName, **more: object) -> ComfyUIState:
    return ComfyUIState(state=state, since=0.0, **{"restarts": 0, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_a_remedy_and_a_line_in_the_manual(reason: str) -> None:
    assert REMEDIES[reason]
    assert f"`{reason}`" in OPERATIONS


@pytest.mark.parametrize("state", get_args(StateName))
def test_each_state_is_in_the_manual(state: StateName) -> None:
    assert f"`{state}`" in OPERATIONS


def test_a_ready_one_needs_nothing() -> None:
    assert explain("default", state_of("ready")).good
    assert not explain("default", state_of("ready")).advice


def test_one_that_was_given_up_has_a_reason_and_advice() -> None:
    state = state_of(
        "crash_loop", reason="no_comfyui", last_error="there is no main.py", restarts=1
    )
    finding = explain("gpu0", state)
    assert not finding.good
    assert "no_comfyui: there is no main.py" in finding.what
    assert "comfyui_path" in finding.advice
    assert "comfy2mqtt comfyui start gpu0" in finding.advice


def test_one_that_the_operator_took_away_is_no_fault() -> None:
    finding = explain("gpu0", state_of("yielded"))
    assert finding.good
    assert finding.advice == "comfy2mqtt comfyui resume gpu0"


def test_one_that_is_well_again_shows_its_last_error() -> None:
    state = state_of("ready", reason="hung", last_error="a prompt does not get on", restarts=2)
    finding = explain("gpu0", state)
    assert finding.good
    assert "started again 2 times" in finding.what
    assert "silence_s" in finding.advice


def test_one_that_answers_anybody_is_a_fault_if_it_is_the_bridges_own() -> None:
    finding = explain("gpu0", state_of("ready", unguarded=True))
    assert not finding.good
    assert "any web page" in finding.what


def test_an_attached_one_that_answers_anybody_is_its_owners_to_guard() -> None:
    finding = openness("http://studio:8188", is_open=True)
    assert finding.good
    assert "COMFY2MQTT_GUARD=1" in finding.advice
    assert not openness("http://studio:8188", is_open=False).advice


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("ModuleNotFoundError: No module named 'yaml'", "lacks yaml: install"),
        ("AssertionError: Torch not compiled with CUDA enabled", "--cpu"),
        ("RuntimeError: Found no NVIDIA driver on your system.", "--cpu"),
        ("RuntimeError: CUDA driver version is insufficient", "update the driver"),
        ("main.py: error: unrecognized arguments: --fsat", "does not know --fsat"),
        ("torch.OutOfMemoryError: Allocation failed", "--lowvram"),
        ("OSError: [Errno 28] No space left on device", "make room"),
        ("PermissionError: [Errno 13] Permission denied: '/opt/x'", "write /opt/x"),
        ("x: error while loading shared libraries: libGL.so.1: cannot", "library libGL.so.1"),
        ("something nobody has seen", "usually a package is missing"),
    ],
)
def test_each_known_cause_has_its_own_advice(said: str, advice: str) -> None:
    last = f"ComfyUI exited with code 1: {said}"
    finding = explain(
        "default", state_of("crash_loop", reason="exited", last_error=last, restarts=5)
    )
    assert advice in finding.advice
    assert "comfy2mqtt comfyui start default" in finding.advice


def test_one_that_starts_again_after_it_ended_is_not_well() -> None:
    state = state_of("starting", reason="exited", last_error="x", restarts=2)
    assert not explain("default", state).good
    assert explain("default", state_of("starting")).good


def test_a_hook_that_failed_is_a_fault_and_says_what_waits() -> None:
    health = BridgeHealth(
        at=0,
        queued=0,
        running=0,
        accepted=0,
        succeeded=0,
        failed=0,
        paused=True,
        hooks={
            "ollama": HookHealth(state="busy"),
            "wake": HookHealth(state="preparing", error="no answer within 180 s"),
            "tell": HookHealth(state="idle", error="answered 404"),
        },
    )
    paused, well, waits, failed = explain_health(health)
    assert paused.good
    assert (well.good, well.what) == (True, "its hook 'ollama' is busy")
    assert not waits.good
    assert "no answer within 180 s; jobs wait" in waits.what
    assert (failed.good, failed.what) == (False, "its hook 'tell' is idle: answered 404")
    assert failed.advice


def test_a_queue_that_is_held_is_a_fault_of_the_bridge_that_is_named() -> None:
    health = BridgeHealth(
        at=0, queued=9, running=0, accepted=0, succeeded=0, failed=0, held="outcomes wait"
    )
    (held,) = explain_health(health, "a: its")
    assert (held.good, held.what) == (False, "a: its queue starts no job: outcomes wait")
    assert "disk" in held.advice
    (paused,) = explain_health(replace(health, paused=True))
    assert (paused.good, paused.what) == (True, "its queue is paused, by the operator")


def test_one_that_is_to_yield_is_not_reported_as_ready_alone() -> None:
    assert explain("main", state_of("ready")).what == "its ComfyUI 'main' is ready"
    yielding = explain("main", state_of("ready", yielding=True))
    assert yielding.good
    assert yielding.what.endswith("is ready, and gets no more jobs: it is to be yielded")


def test_who_has_a_gpu_is_reported() -> None:
    free = GpuLease(gpu="card")
    assert explain_gpu(free).what == "nobody has its GPU 'card'"
    waiting = [GpuRequest(holder="films", priority=0)]
    lent = GpuLease(gpu="card", holder="games", until=0.0, waiting=waiting)
    assert explain_gpu(lent).what == (
        "'games' has its GPU 'card' until 1970-01-01T00:00:00Z; films waits"
    )
    assert "another program" in explain("main", state_of("yielded"), lent=True).what


@pytest.mark.parametrize(
    ("latest", "what", "advice"),
    [
        (UNSET, "; it has not looked for newer ones yet", ""),
        ("0.9.0", ", the newest", ""),
        ("0.10.0", "; 0.10.0 is out", "comfy2mqtt comfyui update"),
    ],
)
def test_the_release_of_a_comfyui_is_reported(
    latest: str | UnsetType, what: str, advice: str
) -> None:
    finding = explain_release("main", ComfyUIRelease(installed="0.9.0", latest=latest))
    assert (finding.good, finding.advice) == (True, advice)
    assert finding.what == f"its ComfyUI 'main' is release 0.9.0{what}"


@pytest.mark.parametrize("step", get_args(UpdateStep))
def test_an_update_on_its_way_is_reported_with_its_step(step: UpdateStep) -> None:
    finding = explain_release("main", ComfyUIRelease(installed="0.9.0", latest="1.0", step=step))
    assert finding.good
    assert "and another one is installed" in finding.what


def test_an_update_that_failed_is_a_fault() -> None:
    failed = ComfyUIRelease(installed="0.9.0", latest="0.10.0", error="0.10.0 is not installed: x")
    finding = explain_release("main", failed)
    assert not finding.good
    assert "0.10.0 is not installed: x" in finding.what
    assert "comfy2mqtt comfyui update" in finding.advice


def test_updates_that_are_wanted_and_impossible_are_a_fault() -> None:
    assert updates(possible=True).good
    assert not updates(possible=False).good
    assert "comfy2mqtt comfyui install" in updates(possible=False).advice
