"""Home Assistant with several bridges, without a broker: one shows what all of them say."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from bridge.adapters.homeassistant.adapter import HomeAssistant
from bridge.adapters.homeassistant.discovery import AnnouncedBridge
from bridge.adapters.homeassistant.inputs import Inputs
from bridge.adapters.homeassistant.job_updates import CLIENT, JobUpdatePublisher
from bridge.adapters.mqtt.retained_images import SharedImages
from bridge.contract.messages import JobStatus, Progress, encode
from bridge.contract.numbering import Numbered
from bridge.contract.retained import ComfyUIRelease, ComfyUIState
from bridge.contract.topics import HomeAssistantTopics, Topics
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.mqtt import Incoming
from tests.adapters.homeassistant.definitions import STEPS, definition
from tests.adapters.homeassistant.test_adapter import Broker, Transcoder, job, result
from tests.jobs.drafts import draft
from tests.jobs.test_damaged_rows import DEEP, damage

TREE = "comfy2mqtt/homeassistant/demo"


class Bridge:
    """One of several bridges on one journal and one broker."""

    def __init__(self, journal: Journal, broker: Broker, *, leads: bool) -> None:
        topics = Topics()
        tree = HomeAssistantTopics(topics, "homeassistant")
        self.leads = leads
        self.made = HomeAssistant(
            AnnouncedBridge("comfy2mqtt", "1.0", ("a-main",)),
            topics=topics,
            tree=tree,
            inputs=Inputs(journal.adapter_store, Path("none")),
            images=SharedImages(
                journal.adapter_store,
                "image",
                cast("Any", broker),
                lambda name: tree.state(name, "image"),
            ),
            journal=journal,
            files=cast("Any", None),
            publisher=cast("Any", broker),
            transcoder=cast("Any", Transcoder()),
            leads=lambda: self.leads,
        )
        self.publisher = JobUpdatePublisher(cast("Any", broker), tree, self.made)

    async def receive(self, broker: Broker) -> None:
        """Take the updates that came to the broker since the last time."""
        update, broker.events = broker.events, []
        for topic, message in update:
            if "/job/" in topic:
                payload = message if isinstance(message, bytes) else encode(message)
                incoming = Incoming(
                    topic=topic, payload=payload, qos=1, retain=False, dup=False, mid=1
                )
                await self.made.received(incoming, None, cast("Any", None))
            else:
                broker.events.append((topic, message))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def two(journal: Journal, broker: Broker) -> tuple[Bridge, Bridge]:
    """The one that takes requests, and another one."""
    made = Bridge(journal, broker, leads=True), Bridge(journal, broker, leads=False)
    for each in made:
        await each.made.start()
        each.made.workflow(definition(steps=STEPS))
    await made[0].made.connected(cast("Any", None))
    return made


def status(state: str, n: int, job_id: str = "j1") -> JobStatus:
    return JobStatus(job_id=job_id, workflow="demo", n=n, state=cast("Any", state), attempt=1)


def shown(broker: Broker, what: str) -> Any:
    return broker.held.get(f"{TREE}/{what}")


def done(broker: Broker) -> list[Any]:
    return [message["job_id"] for topic, message in broker.events if topic == f"{TREE}/done"]


async def accepted(journal: Journal, job_id: str = "j1") -> Any:
    return await journal.accept(draft(job_id, CLIENT, workflow="demo"), 1000.0)


async def finished(journal: Journal, job_id: str = "j1") -> bytes:
    plain = msgspec.json.decode(result())
    plain |= {"job_id": job_id, "outputs": []}
    encoded = encode({key: value for key, value in plain.items() if key != "n"})
    return await journal.finish(
        Key(CLIENT, job_id),
        state="succeeded",
        result=Numbered(b'{"n":', b"," + encoded[1:]),
        now=2000.0,
    )


async def test_one_announces_and_shows_what_another_runs(
    two: tuple[Bridge, Bridge], journal: Journal, broker: Broker
) -> None:
    leader, other = two
    await accepted(journal)
    other.publisher.status(job(), status("running", 5))
    other.publisher.progress(job(), Progress(job_id="j1", workflow="demo", percent=40.0))
    other.publisher.status(job(key=Key("alice", "j1")), status("running", 9))
    other.publisher.progress(
        job(key=Key("alice", "j1")), Progress(job_id="j1", workflow="demo", percent=50.0)
    )
    assert other.publisher.output(job(), cast("Any", None), b"") is None
    await leader.receive(broker)
    leader.publisher.status(job(), status("queued", 4))  # on its way for longer
    await leader.receive(broker)
    assert (shown(broker, "state"), shown(broker, "progress")) == (b"running", b"40")

    encoded = await finished(journal)
    for _ in range(2):
        other.publisher.result(Key(CLIENT, "j1"), job().envelope, encoded)
        other.publisher.result(Key("alice", "j1"), job().envelope, encoded)
        await leader.receive(broker)
    assert (shown(broker, "state"), shown(broker, "busy")) == (b"succeeded", b"OFF")
    assert done(broker) == ["j1"]
    # Nonsense, and a job that nobody knows.
    for payload in (b"nonsense", b'{"ended": true}'):
        broker.events.append((f"{TREE}/job/j9", payload))
    await leader.receive(broker)
    assert done(broker) == ["j1"]


async def test_the_next_one_goes_on_where_the_last_one_was(
    two: tuple[Bridge, Bridge], journal: Journal, broker: Broker
) -> None:
    leader, other = two
    incoming = Incoming(
        topic=f"{TREE}/input/steps/set", payload=b"30", qos=1, retain=False, dup=False, mid=1
    )
    await leader.made.received(incoming, None, cast("Any", None))
    await accepted(journal)
    await finished(journal)
    await accepted(journal, "j2")
    before = set(broker.held)
    broker.held.clear()
    other.made.set_instances(["a-main", "b-main"])
    assert broker.held == {}  # it is not its turn
    leader.leads, other.leads = False, True
    await other.made.connected(cast("Any", None))
    assert set(broker.held) == before
    assert shown(broker, "input/steps") == b"30"
    assert (shown(broker, "state"), shown(broker, "queue")) == (b"queued", b"1")
    device = broker.held["homeassistant/device/comfy2mqtt-bridge/config"]
    assert {"comfyui-a-main", "comfyui-b-main"} <= set(device["components"])
    # What the first one does now changes nothing.
    leader.made.workflow(definition())
    leader.made.remove_workflow("demo")
    assert set(broker.held) == before


async def test_an_end_without_an_update_is_found(
    two: tuple[Bridge, Bridge], journal: Journal, broker: Broker
) -> None:
    leader, _ = two
    await accepted(journal)
    await accepted(journal, "j2")
    leader.publisher.status(job(), status("running", 5))
    leader.publisher.status(job(key=Key(CLIENT, "gone")), status("queued", 6, "gone"))
    leader.publisher.status(job(key=Key(CLIENT, "j2")), status("queued", 7, "j2"))
    await leader.receive(broker)
    assert shown(broker, "queue") == b"2"
    await finished(journal)
    await leader.made._group_jobs.find_ended()
    assert done(broker) == ["j1"]
    assert (shown(broker, "state"), shown(broker, "queue")) == (b"queued", b"1")
    assert len(leader.made._group_jobs._updates) == 1  # of what is gone nothing is kept


async def test_of_jobs_that_ended_meanwhile_nothing_is_kept_by_who_takes_over_again(
    two: tuple[Bridge, Bridge], journal: Journal, broker: Broker
) -> None:
    leader, _ = two
    await accepted(journal)
    leader.publisher.status(job(), status("running", 5))
    await leader.receive(broker)
    await finished(journal)  # another bridge saw its end
    await leader.made.connected(cast("Any", None))
    assert (shown(broker, "state"), shown(broker, "queue")) == (b"succeeded", b"0")
    assert len(leader.made._group_jobs._updates) == 0


@pytest.mark.parametrize("value", [b"{", DEEP, b'{"state": "by pigeon"}', b"\xff"])
async def test_a_result_whose_row_is_damaged_is_not_shown_and_the_others_are(
    two: tuple[Bridge, Bridge], journal: Journal, broker: Broker, tmp_path: Path, value: bytes
) -> None:
    leader, other = two
    for job_id in ("j1", "j2"):
        await accepted(journal, job_id)
    encoded = [await finished(journal, job_id) for job_id in ("j1", "j2")]
    damage(tmp_path, "result", value, "j1")
    await leader.made.connected(cast("Any", None))
    assert (shown(broker, "state"), shown(broker, "queue")) == (b"succeeded", b"0")
    other.publisher.result(Key(CLIENT, "j1"), job().envelope, value)
    leader.made.result(Key(CLIENT, "j1"), job().envelope, value)
    other.publisher.result(Key(CLIENT, "j2"), job().envelope, encoded[1])
    await leader.receive(broker)
    assert done(broker) == ["j2"]


def test_updates_come_by_the_connection_that_takes_requests(tmp_path: Path) -> None:
    journal, broker = Journal(tmp_path / "journal.db"), Broker()
    several = Bridge(journal, broker, leads=True).made
    assert "comfy2mqtt/homeassistant/+/job/+" in {each.filter for each in several.subscriptions}


async def test_the_releases_of_another_bridges_comfyui_are_announced(
    broker: Broker, two: tuple[Bridge, Bridge]
) -> None:
    leader = two[0].made
    leader.set_instances(("a-main", "b-main"))

    def announced() -> set[str]:
        device = broker.held["homeassistant/device/comfy2mqtt-bridge/config"]
        return {key for key in device["components"] if key.startswith("release-")}

    state = ComfyUIState(state="ready", since=1.0, restarts=0)
    updated = msgspec.structs.replace(state, release=ComfyUIRelease(installed="0.9.0"))
    for told, expected in ((state, set()), (updated, {"release-b-main"})):
        topic = Topics().comfyui("b-main")
        incoming = Incoming(topic=topic, payload=encode(told), qos=1, retain=True, dup=False, mid=1)
        await leader.received(incoming, None, cast("Any", None))
        assert announced() == expected
