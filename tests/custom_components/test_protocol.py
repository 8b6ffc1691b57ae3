"""The integration for Home Assistant speaks the contract as the bridge does."""

from __future__ import annotations

import base64
import importlib
import itertools
import json
from datetime import date
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec import UNSET, Raw, UnsetType

from bridge.contract import access
from bridge.contract import topics as theirs
from bridge.contract.errors import Error, InvalidInput
from bridge.contract.messages import (
    CONTRACT_VERSION,
    JobList,
    JobStatus,
    JobView,
    Part,
    Progress,
    encode,
    ok,
    refused,
)
from bridge.contract.requests import VERBS
from bridge.contract.retained import (
    BridgeInfo,
    Choices,
    ComfyUIRelease,
    ComfyUIState,
    Limits,
    Missing,
    MissingChoice,
    UpdateStep,
)
from tests.custom_components.samples import definition, result

card: Any = importlib.import_module("comfy2mqtt_protocol.card")
decode: Any = importlib.import_module("comfy2mqtt_protocol.decode")
definitions: Any = importlib.import_module("comfy2mqtt_protocol.definitions")
automation_events: Any = importlib.import_module("comfy2mqtt_protocol.automation_events")
messages: Any = importlib.import_module("comfy2mqtt_protocol.messages")
releases: Any = importlib.import_module("comfy2mqtt_protocol.releases")
selectors: Any = importlib.import_module("comfy2mqtt_protocol.selectors")
ours: Any = importlib.import_module("comfy2mqtt_protocol.topics")

PROTOCOL = Path(__file__).parents[2] / "custom_components" / "comfy2mqtt" / "protocol"


def test_its_topics_are_the_bridges() -> None:
    there, here = theirs.Topics("studio"), ours.Topics("studio", "ha")
    assert (here.state, here.info, here.health) == (there.state, there.info, there.health)
    assert here.responses == there.responses("ha")
    assert here.results == there.job("ha", "+", "result")
    assert here.comfyui == there.comfyui("+")
    assert here.choices == there.choices("+")
    assert here.workflows == there.workflow("+")
    assert here.displays == there.display_images
    assert here.request("submit") == there.request("ha", "submit")
    assert here.command("comfyui/update") == there.command("comfyui/update")
    assert here.command_response("comfyui/update") == there.command_response("comfyui/update")
    assert here.request("upload", "u", "fin") == there.request("ha", "upload", "u", "fin")
    assert here.verb_of(there.response("ha", "list")) == "list"
    # A workflow may have any name, that of another level of a topic too.
    for name in ("demo", "image"):
        assert here.name_of(there.workflow(name)) == name
        assert here.display_of(there.display_image(name)) == name


def test_a_clients_rights_are_enough_for_it() -> None:
    here = ours.Topics("studio", "ha")
    grants = access.client(theirs.Topics("studio"))

    def may(kind: str, topic: str) -> bool:
        return any(
            kind in grant.access and theirs.matches(grant.filter.replace("%u", "ha"), topic)
            for grant in grants
        )

    for read in (
        *(here.state, here.info, here.health, here.comfyui, here.choices, here.workflows),
        *(here.displays, here.responses, here.results),
    ):
        assert may("read", read.replace("+", "x")), read
    for verb in (("submit",), ("list",), ("ack",), ("fetch",), ("cancel",), ("upload", "u", "0")):
        assert may("write", here.request(*verb)), verb


def test_what_is_known_of_a_comfyuis_releases_is_read() -> None:
    def read(release: ComfyUIRelease | UnsetType) -> Any:
        state = ComfyUIState(state="ready", since=1.0, restarts=0, release=release)
        return releases.read_release(json.loads(encode(state)))

    assert read(UNSET) is None
    before = read(ComfyUIRelease(installed="0.9.0"))
    assert (before.installed, before.latest, before.is_installing) == ("0.9.0", None, False)
    url = "https://example.org/v0.10.0"
    found = read(ComfyUIRelease(installed="0.9.0", latest="0.10.0", url=url, looked_at=1.0))
    assert (found.latest, found.url, found.error) == ("0.10.0", url, None)
    failed = read(ComfyUIRelease(installed="0.9.0", step="starting", error="it " * 200))
    assert failed.is_installing
    assert len(failed.error) == 255
    for step in get_args(UpdateStep):
        assert read(ComfyUIRelease(installed="0.9.0", step=step)).is_installing
    assert releases.read_release({"release": "soon"}) is None


def test_the_manifest_listens_where_a_bridge_with_the_default_base_is_found() -> None:
    manifest = json.loads((PROTOCOL.parent / "manifest.json").read_text())
    assert manifest["mqtt"] == [theirs.Topics().info]
    assert ours.base_of_info(theirs.Topics("studio").info) == "studio"
    for topic in ("comfy2mqtt/bridge/state", "a/b/bridge/info", "+/bridge/info", "/bridge/info"):
        assert ours.base_of_info(topic) is None


@pytest.mark.parametrize("text", ["homeassistant", "a" * 64, "a" * 65, "", "a b", "ä", "a/b"])
def test_it_takes_the_names_that_the_bridge_takes(text: str) -> None:
    assert ours.is_id(text) is theirs.is_id(text)


def test_its_requests_are_read_by_the_bridge() -> None:
    for verb, fields in {
        "submit": {
            "workflow": "demo",
            "job_id": "ha-1",
            "inputs": {"prompt": "ein Häuschen"},
            "output": {"deliver": "fetch"},
            "timeout_s": 5,
            "start_within_s": None,
        },
        "list": {"after": 3, "peek": True, "limit": 100, "states": list(messages.OUTCOMES)},
        "ack": {"up_to": 3},
        "fetch": {"job_id": "ha-1", "output": 0, "offset": 0, "count": 9, "inline": True},
        "cancel": {"job_id": "ha-1"},
    }.items():
        read = VERBS[verb]
        found: Any = msgspec.json.decode(messages.request("t1", fields), type=read)
        assert found.transaction == "t1", verb


def test_a_date_that_yaml_has_read_is_sent_as_the_text_that_it_was() -> None:
    inputs = {"prompt": date(2026, 12, 1), "more": [{"at": date(2026, 12, 2)}]}
    sent = json.loads(messages.request("t1", {"inputs": inputs}))
    assert sent["inputs"] == {"prompt": "2026-12-01", "more": [{"at": "2026-12-02"}]}


def test_it_reads_answers_and_errors() -> None:
    found = messages.read_response(encode(ok({"acked": 2}, "t1")))
    assert (found.data, found.error, found.transaction) == ({"acked": 2}, None, "t1")
    error = InvalidInput("too many", input="steps").wire()
    found = messages.read_response(encode(refused(error, 7)))
    assert (found.error.code, found.error.message) == ("invalid_input", "too many")
    assert (found.error.details, found.transaction) == ({"input": "steps"}, "7")
    assert messages.read_response(encode(ok([]))).data == {}


@pytest.mark.parametrize(
    ("details", "more"),
    [
        ({}, ""),
        ({"allowed": ["oil", "ink"]}, "; allowed: oil, ink"),
        ({"allowed": list("abcdefghijk")}, "; allowed: a, b, c, d, e, f, g, h, i, j, …"),
        ({"allowed": ["a"], "more": 700, "near": ["sd15", "sd21"]}, "; like it: sd15, sd21, …"),
        ({"allowed": []}, ""),
        ({"allowed": "a text"}, ""),
        (
            {"setting": "clients.ha.workflows", "allowed": ["demo"]},
            "; allowed: demo; the bridge's setting clients.ha.workflows decides that",
        ),
    ],
)
def test_a_refusal_says_what_is_allowed_and_what_decides_it(
    details: dict[str, Any], more: str
) -> None:
    assert messages.RefusedError("x", "it cannot be", details).sentence == f"it cannot be{more}"


def test_it_reads_results_published_or_listed() -> None:
    found = messages.read_result(encode(result()))
    assert (found.job_id, found.n, found.state) == ("ha-1", 5, "succeeded")
    assert found.first("image").width == 8
    assert found.first("text") is None
    failed = result(state="failed", outputs=[], error=Error("timeout", "too long"))
    assert messages.read_result(encode(failed)).error.code == "timeout"
    view = JobView(
        job_id="ha-1",
        workflow="demo",
        n=5,
        state="succeeded",
        attempt=1,
        accepted_at=1.0,
        result=Raw(encode(result())),
    )
    page = messages.read_response(encode(ok(JobList(jobs=[view], more=False)))).data
    assert messages.read_result(page["jobs"][0]["result"]) == found


def test_it_reads_an_entry_of_a_list_with_the_number_that_acknowledges_it() -> None:
    view = JobView(
        job_id="ha-1",
        workflow="demo",
        n=9,
        state="succeeded",
        attempt=1,
        accepted_at=0.0,
        acked=True,
        result=Raw(encode(result())),
    )
    read = messages.read_listed
    found = read(json.loads(encode(view)))
    assert (found.n, found.is_acked, found.result.n) == (9, True, 5)
    assert len(found.result.outputs) == 1
    assert not found.result.is_partial
    # One that fits no packet, or is kept no longer, is without its result.
    found = read(json.loads(encode(msgspec.structs.replace(view, result=UNSET, acked=False))))
    assert (found.n, found.is_acked) == (9, False)
    assert found.result == messages.Result("ha-1", "demo", 9, "succeeded", is_partial=True)
    for wrong in (7, {}, {**json.loads(encode(view)), "result": 7}):
        with pytest.raises(decode.MalformedError):
            read(wrong)


def test_it_reads_parts_of_outputs() -> None:
    data = base64.b64encode(b"abc").decode()
    part = Part(
        job_id="j",
        output=0,
        offset=0,
        count=3,
        size=9,
        sha256="ab",
        content_type="image/png",
        next=3,
        base64=data,
    )
    found = messages.read_part(json.loads(encode(part)), 0)
    assert (found.data, found.content_type, found.next) == (b"abc", "image/png", 3)
    # Bytes from there would be the same once more, or leave some out.
    for wrong in (0, 2, 4):
        with pytest.raises(decode.MalformedError):
            messages.read_part({"base64": data, "next": wrong}, 0)
    too_many = base64.b64encode(bytes(messages.PART + 1)).decode()
    with pytest.raises(decode.MalformedError, match="more bytes than were asked for"):
        messages.read_part({"base64": too_many}, 0)


def test_it_reads_what_the_bridge_says_of_itself() -> None:
    limits = Limits(
        max_packet=2_000_000,
        max_inline_input=500_000,
        max_upload=9,
        max_queue=1,
        max_queue_per_client=1,
        keep_results_s=1,
        keep_outputs_s=1,
        remember_ids_s=1,
    )
    info = BridgeInfo(
        name="pc",
        version="1.0",
        contract=CONTRACT_VERSION,
        limits=limits,
        features=[],
        isolation="enforced",
        page="https://pc.example/c2m",
    )
    found = messages.read_info(encode(info))
    assert found.page == "https://pc.example/c2m"
    for other in (UNSET, "javascript:0", "http://", "http://[", 7):
        told = {**json.loads(encode(info)), "page": None if other is UNSET else other}
        assert messages.read_info(json.dumps(told)).page is None
    assert (found.name, found.version, found.isolation) == ("pc", "1.0", "enforced")
    assert found.limits == messages.Limits(2_000_000, 500_000, 9)
    assert found.restrictions == {}
    const = (PROTOCOL.parent / "const.py").read_text()
    assert f"CONTRACT: Final = {CONTRACT_VERSION}\n" in const


@pytest.mark.parametrize(
    ("limits", "size", "fits"),
    [
        (messages.Limits(), 256 * 1024, True),
        (messages.Limits(), 256 * 1024 + 1, False),
        (messages.Limits(max_inline_input=100), 101, False),
        # Base64 takes a third more than the bytes.
        (messages.Limits(max_packet=104_096), 75_000, True),
        (messages.Limits(max_packet=104_096), 75_001, False),
    ],
)
def test_bytes_go_with_the_request_where_it_still_fits_a_packet(
    limits: Any, size: int, *, fits: bool
) -> None:
    assert limits.fits_inline(size) is fits


def test_parts_of_an_upload_fit_a_packet() -> None:
    assert messages.Limits().part == messages.PART
    assert messages.Limits(max_packet=10_000).part == 10_000 - messages.HEADROOM
    assert messages.Limits(max_packet=100).part == 1


def test_it_reads_definitions() -> None:
    found = definitions.read_workflow(encode(definition(description="Paints.")))
    assert (found.name, found.title, found.description) == ("demo", "Demo", "Paints.")
    assert [each.name for each in found.inputs][-1] == "image"  # no place without a name
    assert found.find("image").required
    assert found.find("image").accepts == "image/*"
    assert not found.find("prompt").is_media
    assert found.find("nothing") is None
    assert [each.name for each in found.of_kind("text", "seed")] == ["prompt", "seed"]
    assert (found.gives("image"), found.gives("text"), found.runnable) == (True, False, None)
    choice = MissingChoice(node="4", input="ckpt", value="sd15", allowed=[])
    missing = Missing(nodes=["KSampler"], choices=[choice])
    found = definitions.read_workflow(
        encode(definition(runnable=False, missing=missing, forbidden=["Shell"]))
    )
    assert (found.runnable, found.lacks) == (False, ("KSampler", "sd15", "Shell"))
    lists = Choices(name="checkpoints", choices=["sd15", 7])
    assert definitions.read_choices(encode(lists)) == ["sd15", "7"]


@pytest.mark.parametrize(
    "payload",
    ["", "{", "[]", "7", "{}", '{"a": ' * 5000, b"\xff\xfe", '{"name": 1, "inputs": 2}'],
    ids=repr,
)
@pytest.mark.parametrize(
    "read",
    [
        definitions.read_workflow,
        definitions.read_choices,
        messages.read_result,
        messages.read_info,
    ],
)
def test_what_cannot_be_read_is_one_kind_of_error(read: Any, payload: str | bytes) -> None:
    with pytest.raises(decode.MalformedError):
        read(payload)


@pytest.mark.parametrize("data", [{}, {"base64": 7}, {"base64": "?"}, {"base64": "", "next": "x"}])
def test_a_part_that_cannot_be_read_is_malformed(data: dict[str, Any]) -> None:
    with pytest.raises(decode.MalformedError):
        messages.read_part(data, 0)


def test_inputs_are_selectors_with_their_limits() -> None:
    workflow = definitions.read_workflow(encode(definition()))
    lists = {"checkpoints": ["sd15", "sdxl"]}
    found = {each.name: selectors.selector(each, lists) for each in workflow.inputs}
    assert found == {
        "prompt": {"text": {"multiline": True}},
        "steps": {"number": {"mode": "box", "step": 2, "min": 1, "max": 50}},
        "cfg": {"number": {"mode": "box", "step": "any", "min": 0.5}},
        "seed": {"number": {"mode": "box", "step": 1, "min": 0, "max": 2**32}},
        "style": select("oil", "ink", "7"),
        "model": select("sd15", "sdxl"),
        "fast": {"boolean": {}},
        "more": {"object": {}},
        "image": {"media": {"accept": ["image/*"]}},
    }
    # A list that has not come yet is any text.
    assert selectors.selector(workflow.find("model")) == {"text": {"multiline": False}}
    field = selectors.field(workflow.find("steps"))
    assert (field["name"], field["required"], field["example"]) == ("steps", False, 20)
    assert selectors.field(workflow.find("model"))["description"] == "Which."


def select(*options: str) -> dict[str, Any]:
    return {"select": {"options": list(options), "mode": "dropdown", "custom_value": False}}


def test_whole_numbers_are_given_as_such() -> None:
    workflow = definitions.read_workflow(encode(definition()))
    given = selectors.as_integers(workflow, {"steps": 8.0, "cfg": 8.0, "seed": 1.5, "other": 8.0})
    assert [type(each) for each in given.values()] == [int, float, float, float]


def test_a_change_of_the_bridge_triggers_what_holds_from_then_on() -> None:
    stands = [
        automation_events.OFFLINE,
        automation_events.bridge_status([{"state": "ready"}, {"state": "busy"}], is_online=True),
        automation_events.bridge_status([{"state": "ready"}], is_online=True),
        automation_events.bridge_status([{"state": "busy"}], is_online=False),
    ]
    assert [automation_events.triggered(*pair) for pair in itertools.pairwise(stands)] == [
        ["bridge_online", "bridge_busy"],
        ["bridge_idle"],
        # What ran there is not known any more.
        ["bridge_offline"],
    ]
    assert automation_events.triggered(stands[1], stands[1]) == []
    held = [
        [each for each in automation_events.CONDITIONS if stand.holds(each)] for stand in stands
    ]
    assert held == [
        ["is_offline"],
        ["is_online", "is_busy"],
        ["is_online", "is_idle"],
        ["is_offline"],
    ]


def test_each_end_of_a_job_is_a_trigger() -> None:
    for outcome in messages.OUTCOMES:
        found = messages.read_result(encode(result(state=outcome)))
        assert automation_events.ended(found) == f"job_{outcome}"
    later = messages.read_result({**json.loads(encode(result())), "state": "of a later version"})
    assert automation_events.ended(later) is None


def test_the_card_shows_a_workflow_with_its_first_text() -> None:
    workflow = definitions.read_workflow(encode(definition()))
    assert card.shown(workflow, "/p", is_online=True) == {
        "available": True,
        "picture": "/p",
        "title": "Demo",
        "runnable": True,
        "lacks": [],
        "prompt": {"name": "prompt", "title": "Prompt", "default": ""},
    }
    changes = {"runnable": False, "missing": Missing(nodes=["KSampler"])}
    lacking = definitions.read_workflow(
        encode(definition(inputs={"type": "object", "properties": {}}, **changes))
    )
    found = card.shown(lacking, None, is_online=True)
    assert found["lacks"] == ["KSampler"]
    assert (found["runnable"], found["picture"], "prompt" in found) == (False, None, False)
    assert card.shown(None, None, is_online=True) == {"available": False, "picture": None}
    assert not card.shown(workflow, None, is_online=False)["available"]


def test_the_card_shows_the_steps_of_a_job() -> None:
    status = JobStatus(job_id="j", workflow="demo", n=1, state="queued", attempt=1, reason="paused")
    progress = Progress(job_id="j", workflow="demo", percent=40.0)
    assert card.step("status", encode(status)) == {"state": "queued", "reason": "paused"}
    assert card.step("progress", encode(progress)) == {"percent": 40.0}
    for what, payload in (("result", encode(result())), ("status", b"{"), ("later", b"{}")):
        assert card.step(what, payload) == {}
    here = ours.Topics("studio", "ha")
    for what in ("status", "progress", "preview"):
        topic = theirs.Topics("studio").job("ha", "j", what)
        assert theirs.matches(here.steps, topic)
