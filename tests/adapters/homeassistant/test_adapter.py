"""Home Assistant's devices without a broker: what is announced, shown, run and cleared."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from bridge.adapters.homeassistant import adapter
from bridge.adapters.homeassistant.adapter import HomeAssistant
from bridge.adapters.homeassistant.discovery import AnnouncedBridge
from bridge.adapters.homeassistant.inputs import Inputs
from bridge.adapters.homeassistant.job_updates import CLIENT
from bridge.adapters.mqtt.retained_images import RetainedImages
from bridge.contract.errors import Error, Forbidden
from bridge.contract.messages import Accepted, JobStatus, OutputInfo, Progress, encode
from bridge.contract.topics import HomeAssistantTopics, Topics
from bridge.jobs.queue import Key
from bridge.media.transcode import CannotTranscode
from bridge.mqtt import Incoming, PacketTooLarge
from bridge.requests.context import Answer, RequestContext
from tests.adapters.homeassistant.definitions import PICTURE, PROMPT, SEED, STEPS, definition
from tests.adapters.mqtt import events

TREE = "comfy2mqtt/homeassistant/demo"
CONFIG = "homeassistant/device/comfy2mqtt-workflow-demo/config"


class Broker:
    """A broker's retained messages, and what was published besides."""

    packet_limit: int | None = None

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.events: list[tuple[str, Any]] = []
        self.refused = False

    def publish(self, topic: str, message: Any, *, retain: bool = False) -> None:
        if not retain:
            self.events.append((topic, message))
        elif message is None:
            self.held.pop(topic, None)
        else:
            self.held[topic] = message

    def transient(self, topic: str, data: bytes, _content_type: str) -> None:
        self.events.append((topic, data))

    def image(self, topic: str, data: bytes, _content_type: str, _about: object) -> None:
        if self.refused:
            raise PacketTooLarge(len(data), 1)
        self.held[topic] = data

    def image_room(self, _topic: str, _content_type: str, _about: object) -> int | None:
        return self.packet_limit


class Journal:
    def __init__(self) -> None:
        self.jobs: list[Any] = []

    async def unfinished(self) -> list[Any]:
        return self.jobs

    async def output(self, _key: Key, _index: int) -> Any:
        return type("Stored", (), {"data": b"png", "sha256": hashlib.sha256(b"png").hexdigest()})()


class Kept:
    """The values that a journal would keep."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def all(self, _kind: str) -> dict[str, bytes]:
        return dict(self.values)

    async def keep(self, _kind: str, values: dict[str, bytes]) -> None:
        self.values.update(values)


class Transcoder:
    def __init__(self) -> None:
        self.limits: list[int | None] = []
        self.fails = False

    async def in_form(self, form: Any, info: OutputInfo, data: bytes) -> tuple[OutputInfo, bytes]:
        self.limits.append(form.max_bytes)
        if self.fails:
            raise CannotTranscode("no image")
        return info, b"jpeg of " + data


class Handler:
    def __init__(self) -> None:
        self.asked: list[RequestContext] = []
        self.answer = Answer(data=Accepted(job_id="j1", workflow="demo", state="queued"))

    async def handle(self, asked: RequestContext, respond: Callable[[Answer], None]) -> None:
        self.asked.append(asked)
        respond(self.answer)


class Setup:
    def __init__(self, folder: Path, kept: Kept | None = None) -> None:
        topics = Topics()
        tree = HomeAssistantTopics(topics, "homeassistant")
        self.broker, self.journal, self.handler = Broker(), Journal(), Handler()
        self.transcoder = Transcoder()
        self.kept = kept or Kept()
        self.made = HomeAssistant(
            AnnouncedBridge("comfy2mqtt", "1.0", ("main",)),
            topics=topics,
            tree=tree,
            inputs=Inputs(cast("Any", self.kept), folder / "inputs.json"),
            images=RetainedImages(
                folder, cast("Any", self.broker), lambda name: tree.state(name, "image")
            ),
            journal=cast("Any", self.journal),
            files=cast("Any", None),
            publisher=cast("Any", self.broker),
            transcoder=cast("Any", self.transcoder),
        )

    async def receive(self, topic: str, payload: bytes = b"", **fields: Any) -> None:
        common = {"qos": 1, "retain": False, "dup": False, "mid": 1}
        incoming = Incoming(topic=topic, payload=payload, **{**common, **fields})
        await self.made.received(incoming, "delivery", cast("Any", self.handler))

    def state(self, what: str) -> Any:
        return self.broker.held.get(f"{TREE}/{what}")

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - a condition on plain fields
                await asyncio.sleep(0.001)

    def done(self) -> list[Any]:
        return [message for topic, message in self.broker.events if topic == f"{TREE}/done"]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    made = Setup(tmp_path)
    await made.made.start()
    running = asyncio.create_task(made.made.run())
    yield made
    running.cancel()
    await asyncio.wait((running,))


def job(**changes: Any) -> Any:
    found = events.job()
    found.key = Key(CLIENT, "j1")
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def status(state: Any) -> JobStatus:
    return JobStatus(job_id="j1", workflow="demo", n=1, state=state, attempt=1)


def result(**fields: Any) -> bytes:
    return events.result(**{"outputs": [events.output(3)], **fields})


async def test_a_workflow_is_announced_with_its_inputs_and_states(setup: Setup) -> None:
    setup.made.workflow(definition(prompt=PROMPT, steps=STEPS))
    assert set(setup.broker.held) >= {
        "homeassistant/device/comfy2mqtt-bridge/config",
        CONFIG,
        f"{TREE}/input/prompt",
        f"{TREE}/input/steps",
        f"{TREE}/available",
        f"{TREE}/state",
    }
    assert setup.state("input/prompt") == {"value": "a red barn"}
    assert (setup.state("available"), setup.state("state")) == (b"online", b"idle")
    setup.made.workflow(replace(definition(prompt=PROMPT), runnable=False))
    assert setup.state("available") == b"offline"
    assert setup.state("input/steps") is None
    # The component that is gone is announced once without its fields, so that it goes there too.
    assert "steps" in str(setup.broker.held[CONFIG])


async def test_a_removed_workflow_leaves_nothing_behind(setup: Setup) -> None:
    before = dict(setup.broker.held)
    setup.made.workflow(definition(prompt=PROMPT))
    setup.made.result(Key(CLIENT, "j1"), job().envelope, result())
    await setup.until(lambda: setup.state("image"))
    setup.made.remove_workflow("demo")
    await setup.until(lambda: setup.state("image") is None)
    assert setup.broker.held == before
    setup.made.remove_workflow("demo")


async def test_at_a_connection_and_at_its_birth_all_is_published_again(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "BIRTH_DELAY_S", 0.0)
    setup.made.workflow(definition(prompt=PROMPT))
    before = dict(setup.broker.held)
    setup.broker.held.clear()
    await setup.made.connected(cast("Any", None))
    assert setup.broker.held == before
    setup.broker.held.clear()
    await setup.receive("homeassistant/status", b"offline")
    await setup.receive("homeassistant/status", b"online")
    await setup.until(lambda: setup.broker.held == before)


async def test_an_input_that_is_set_is_shown_kept_and_given_to_the_next_run(
    setup: Setup, tmp_path: Path
) -> None:
    setup.made.workflow(definition(prompt=PROMPT, steps=STEPS, picture=PICTURE))
    await setup.receive(f"{TREE}/input/steps/set", b"30")
    await setup.receive(f"{TREE}/input/prompt/set", b"a blue barn")
    assert setup.state("input/steps") == b"30"
    assert setup.state("input/prompt") == {"value": "a blue barn"}
    await setup.receive(f"{TREE}/input/steps/set", b"lots")
    await setup.receive(f"{TREE}/input/nothing/set", b"1")
    assert setup.state("input/steps") == b"30"
    await setup.receive(f"{TREE}/run", b"PRESS", dup=True)
    (asked,) = setup.handler.asked
    assert asked.submit is not None
    assert asked.submit.inputs == {"steps": 30, "prompt": "a blue barn"}
    assert asked.submit.output.deliver == "fetch"
    assert (asked.client, asked.delivery, asked.redelivered) == ("homeassistant", "delivery", True)
    again = Setup(tmp_path, setup.kept)
    await again.made.start()
    again.made.workflow(definition(steps=STEPS))
    assert again.state("input/steps") == b"30"


async def test_a_surprise_is_a_set_of_four_with_seeds_of_their_own(setup: Setup) -> None:
    setup.made.workflow(definition(steps=STEPS, seed=SEED))
    await setup.receive(f"{TREE}/input/steps/set", b"30")
    await setup.receive(f"{TREE}/input/seed/set", b"7")
    await setup.receive(f"{TREE}/run", b"SURPRISE")
    await setup.receive(f"{TREE}/run", b"PRESS")
    surprise, run = (each.submit for each in setup.handler.asked)
    assert surprise is not None
    assert run is not None
    assert (surprise.repeat, surprise.inputs) == (4, {"steps": 30})
    assert (run.is_set, run.inputs) == (False, {"steps": 30, "seed": 7})


async def test_what_is_retained_runs_nothing_and_neither_does_an_unknown_workflow(
    setup: Setup,
) -> None:
    setup.made.workflow(definition())
    await setup.receive(f"{TREE}/run", b"PRESS", retain=True)
    await setup.receive("comfy2mqtt/homeassistant/other/run", b"PRESS")
    assert setup.handler.asked == []
    assert all(
        each.retain_handling == 2 and each.retain_as_published
        for each in setup.made.subscriptions
        if each.filter.startswith("comfy2mqtt/")
    )


async def test_a_refused_run_is_an_event(setup: Setup) -> None:
    setup.made.workflow(definition())
    setup.handler.answer = Answer(error=Forbidden("not for you"))
    await setup.receive(f"{TREE}/run", b"PRESS")
    (done,) = setup.done()
    assert (done["event_type"], done["code"]) == ("refused", "forbidden")
    # It is seen where the workflow is, too.
    assert setup.state("message") == b"not for you"
    setup.made.workflow(definition(steps=STEPS))
    await setup.receive(f"{TREE}/input/steps/set", b"many")
    refused = b"steps cannot be 'many': it takes a whole number from 1 to 100"
    assert setup.state("message") == refused


async def test_of_very_many_choices_those_are_named_that_are_like_what_was_refused(
    setup: Setup,
) -> None:
    models = [f"family{number % 9}/model{number}" for number in range(600)]
    setup.made.workflow(definition(model={"x-kind": "choice", "enum": models}))
    first = setup.state("input/model/allowed")
    assert (first["choices"], first["found"], first["allowed"]) == (600, 600, models)
    await setup.receive(f"{TREE}/input/model/set", b"MODEL59")
    like = ["family5/model59", *(f"family{n % 9}/model{n}" for n in range(590, 600))]
    assert setup.state("input/model/allowed") == {
        "like": "MODEL59",
        "choices": 600,
        "found": len(like),
        "allowed": like,
    }
    message = setup.state("message").decode()
    assert message == (
        "model cannot be 'MODEL59': it takes one of 600 choices; like it are " + ", ".join(like[:5])
    )
    assert setup.state("input/model") == {"value": ""}
    await setup.receive(f"{TREE}/input/model/set", like[0].encode())
    assert setup.state("input/model") == {"value": like[0]}
    assert setup.state("input/model/allowed") == first
    # With fewer it is a select, which has them itself.
    setup.made.workflow(definition(model={"x-kind": "choice", "enum": models[:9]}))
    assert setup.state("input/model/allowed") is None
    assert setup.state("input/model") == b"None"


async def test_an_announcement_below_another_prefix_is_not_this_ones_to_clear(
    setup: Setup,
) -> None:
    setup.made.workflow(definition(steps=STEPS))
    before = dict(setup.broker.held)
    topic = "elsewhere/device/comfy2mqtt-workflow-gone/config"
    await setup.receive(topic, encode(setup.broker.held[CONFIG]), retain=True)
    assert setup.broker.held == before


async def test_a_small_picture_does_not_overtake_a_large_one(setup: Setup) -> None:
    setup.made.workflow(definition())
    first_may = asyncio.Event()
    seen: list[bytes] = []

    async def in_form(_: Any, info: OutputInfo, data: bytes) -> tuple[OutputInfo, bytes]:
        if not seen:
            seen.append(data)
            await first_may.wait()
            return info, b"first"
        return info, b"second"

    setup.transcoder.in_form = in_form  # type: ignore[assignment,method-assign]
    for name in ("j1", "j2"):
        key = Key(CLIENT, name)
        setup.made.result(key, job().envelope, result(job_id=name))
    await setup.until(lambda: seen)
    # Its definition may change meanwhile.
    setup.made.workflow(definition(steps=STEPS))
    for _ in range(10):
        await asyncio.sleep(0)
    assert setup.done() == []
    first_may.set()
    await setup.until(lambda: len(setup.done()) == 2)
    assert [each["job_id"] for each in setup.done()] == ["j1", "j2"]
    assert setup.state("image") == b"second"


async def test_a_jobs_states_are_shown_as_they_change(setup: Setup) -> None:
    setup.made.workflow(definition())
    setup.made.status(job(), status("queued"))
    assert (setup.state("state"), setup.state("queue"), setup.state("busy")) == (
        b"queued",
        b"1",
        b"ON",
    )
    setup.made.status(job(), status("running"))
    setup.made.progress(job(), Progress(job_id="j1", workflow="demo", percent=40.0))
    assert (setup.state("state"), setup.state("progress")) == (b"running", b"40")
    setup.made.preview(job(), "image/jpeg", b"so far")
    assert setup.broker.events[-1] == (f"{TREE}/preview", b"so far")
    assert setup.made.output(job(), events.output(1), b"x") is None


async def test_a_result_shows_its_first_image_and_then_that_it_is_done(setup: Setup) -> None:
    setup.broker.packet_limit = 5000
    setup.made.workflow(definition())
    setup.made.status(job(), status("running"))
    setup.made.result(Key(CLIENT, "j1"), job().envelope, result())
    await setup.until(setup.done)
    assert setup.state("image") == b"jpeg of png"
    assert setup.transcoder.limits == [5000]
    assert (setup.state("state"), setup.state("busy")) == (b"succeeded", b"OFF")
    assert setup.done() == [{"event_type": "succeeded", "job_id": "j1"}]


@pytest.mark.parametrize("trouble", ["transcoder", "broker"])
async def test_an_image_that_cannot_be_shown_does_not_hide_the_end(
    setup: Setup, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    setup.transcoder.fails, setup.broker.refused = trouble == "transcoder", trouble == "broker"
    setup.made.workflow(definition())
    error = Error("timeout", "it took too long", {})
    found = result(state="failed", error=error)
    setup.made.result(Key(CLIENT, "j1"), job().envelope, found)
    await setup.until(setup.done)
    assert setup.done()[0]["code"] == "timeout"
    assert setup.state("image") is None
    assert "Home Assistant" in caplog.text


async def test_jobs_of_others_are_not_shown(setup: Setup) -> None:
    setup.made.workflow(definition())
    before = dict(setup.broker.held)
    other = job(key=Key("alice", "j1"))
    setup.made.status(other, status("running"))
    setup.made.progress(other, Progress(job_id="j1", workflow="demo", percent=40.0))
    setup.made.preview(other, "image/jpeg", b"x")
    setup.made.result(other.key, other.envelope, result())
    assert setup.broker.held == before
    assert setup.broker.events == []


async def test_jobs_from_before_this_process_are_shown(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.journal.jobs = [job(state="queued"), job(key=Key("alice", "j2"))]
    await setup.made.start()
    setup.made.workflow(definition())
    assert (setup.state("state"), setup.state("queue")) == (b"queued", b"1")


async def test_what_an_earlier_run_announced_is_cleared_and_others_devices_are_not(
    setup: Setup, tmp_path: Path
) -> None:
    earlier = Setup(tmp_path / "earlier")
    earlier.made.workflow(definition(prompt=PROMPT))
    announcement = encode(earlier.broker.held[CONFIG])
    setup.broker.held.update(earlier.broker.held)
    await setup.receive(CONFIG, announcement, retain=True)
    assert CONFIG not in setup.broker.held
    assert not [topic for topic in setup.broker.held if topic.startswith(TREE)]
    await setup.receive("homeassistant/device/lamp/config", b'{"device": {}}', retain=True)
    # One that is there still, with an input less.
    setup.made.workflow(definition())
    await setup.receive(CONFIG, announcement, retain=True)
    assert "prompt" in str(setup.broker.held[CONFIG])


async def test_a_defect_costs_a_picture_and_not_the_bridge(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    async def defect() -> None:
        raise ZeroDivisionError

    setup.made._later(defect)
    await setup.until(lambda: "ZeroDivisionError" in caplog.text)
    setup.made.workflow(definition())
    setup.made.result(Key(CLIENT, "j1"), job().envelope, result())
    await setup.until(setup.done)
