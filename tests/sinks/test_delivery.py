from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.config import ClientRights
from bridge.contract.errors import TooLarge
from bridge.contract.messages import OutputInfo
from bridge.contract.sinks import Delivered
from bridge.jobs.job import Envelope, Job, OutputSink
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks
from bridge.sinks import delivery as module
from bridge.sinks.delivery import Deliveries, NamedFolder
from bridge.sinks.schedule import STALL_S
from tests.jobs.drafts import draft
from tests.sinks.servers import Receiver, in_turn, never

DATA = {name: name.encode() * 1000 for name in ("first", "second")}
SHA256 = {name: hashlib.sha256(data).hexdigest() for name, data in DATA.items()}
OUTPUTS = [
    OutputInfo(
        index=index,
        name=name,
        kind="image",
        content_type="image/png",
        size=len(data),
        sha256=SHA256[name],
    )
    for index, (name, data) in enumerate(DATA.items())
]
EVERYTHING = ClientRights(sink_hosts=("127.0.0.1",), sink_folders=("*",), sink_topics=("home/#",))


async def read(sha256: str, _size: int) -> AsyncIterator[bytes]:
    (data,) = (DATA[name] for name, each in SHA256.items() if each == sha256)
    for start in range(0, len(data), 700):
        yield data[start : start + 700]


class Broker:
    """Notes what is published; `errors` are raised first, in turn."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.errors: list[Exception] = []

    async def publish(self, _job: Job, _info: OutputInfo, topic: str, data: bytes) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.published.append((topic, data))


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture
async def deliveries(tmp_path: Path, broker: Broker) -> AsyncIterator[Deliveries]:
    found = make(tmp_path, broker)
    yield found
    found.close()


def make(
    folder: Path, broker: Broker, client: ClientRights = EVERYTHING, **changes: Any
) -> Deliveries:
    folders = {"photos": NamedFolder(folder, "{client}/{job_id}-{index}.{extension}")}
    options = {
        "check": Sinks(Permissions({"alice": client}), (), folders).check,
        "read": read,
        "folders": folders,
        "publish": broker.publish,
        "within_s": 0.5,
        **changes,
    }
    return Deliveries(**options)


def job(*sinks: OutputSink, client: str = "alice") -> Job:
    return draft("j1", client=client, envelope=Envelope(put=[*sinks])).job


def errors(found: list[Delivered]) -> list[str]:
    return [each.error.message for each in found if each.error]


async def test_each_output_is_brought_to_each_sink(
    deliveries: Deliveries, receiver: Receiver, broker: Broker, tmp_path: Path
) -> None:
    sinks = (
        OutputSink(receiver.url("/dav/?token=secret")),
        OutputSink("folder:photos", 1),
        OutputSink("mqtt:home/{client}/{index}"),
    )
    found = await deliveries.deliver(job(*sinks), OUTPUTS)
    assert found == [
        Delivered(output=0, url=receiver.url("/dav/j1-0.png")),
        Delivered(output=1, url=receiver.url("/dav/j1-1.png")),
        Delivered(output=1, url="folder:photos/alice/j1-1.png"),
        Delivered(output=0, url="mqtt:home/alice/0"),
        Delivered(output=1, url="mqtt:home/alice/1"),
    ]
    assert {each.path: each.body for each in receiver.taken} == {
        "/dav/j1-0.png?token=secret": DATA["first"],
        "/dav/j1-1.png?token=secret": DATA["second"],
    }
    assert (tmp_path / "alice/j1-1.png").read_bytes() == DATA["second"]
    assert sorted(broker.published) == [
        ("home/alice/0", DATA["first"]),
        ("home/alice/1", DATA["second"]),
    ]


async def test_a_server_that_is_out_of_sorts_is_asked_until_it_takes_it(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.answer = in_turn(503, 500, 201)
    (found,) = await deliveries.deliver(job(OutputSink(receiver.url())), OUTPUTS)
    assert errors([found]) == []
    assert [each.body for each in receiver.taken] == [DATA["first"]] * 3


async def test_a_url_that_expired_is_not_tried_again_and_the_result_says_why(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.answer = lambda _: web.Response(status=403, text="<Code>AccessDenied</Code>")
    (found,) = await deliveries.deliver(
        job(OutputSink(receiver.url("/x?X-Amz-Signature=s"))), OUTPUTS
    )
    assert len(receiver.taken) == 1
    assert found.url == receiver.url("/x")
    assert found.error
    assert found.error.code == "delivery_failed"
    assert found.error.message == "the server answers 403 Forbidden (AccessDenied)"
    assert found.error.details == {"url": receiver.url("/x"), "attempts": 1, "status": 403}


async def test_what_a_url_signs_is_in_no_result_and_no_log(
    deliveries: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    async def spoil(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"garbage\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(spoil, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        put = OutputSink(f"http://127.0.0.1:{port}/x?X-Amz-Signature=hunter2", output=0)
        (found,) = await deliveries.deliver(job(put), OUTPUTS)
    assert found.error
    assert found.error.code == "delivery_failed"
    assert "hunter2" not in f"{found} {caplog.text}"


async def test_one_sink_that_fails_costs_no_other(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    sinks = (OutputSink("http://127.0.0.1:9/x"), OutputSink(receiver.url()))
    failed, held = await deliveries.deliver(job(*sinks), OUTPUTS)
    assert "attempts" in errors([failed])[0]
    assert errors([held]) == []


async def test_an_output_that_there_is_none_of_is_reported(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    found = await deliveries.deliver(job(OutputSink(receiver.url(), 5)), OUTPUTS)
    assert errors(found) == ["the job put out 2, and none at 5"]


async def test_a_right_that_was_taken_away_meanwhile_counts(
    tmp_path: Path, broker: Broker, receiver: Receiver
) -> None:
    nothing = make(tmp_path, broker, ClientRights())
    sinks = (OutputSink(receiver.url()), OutputSink("folder:photos"), OutputSink("mqtt:home/x"))
    found = await nothing.deliver(job(*sinks), OUTPUTS)
    assert {each.error.code for each in found if each.error} == {"forbidden"}
    assert len(errors(found)) == 4
    assert (receiver.taken, broker.published) == ([], [])
    nothing.close()


async def test_a_topic_is_held_to_the_rights_once_it_is_known(
    deliveries: Deliveries, broker: Broker
) -> None:
    found = await deliveries.deliver(job(OutputSink("mqtt:{job_id}/x")), OUTPUTS)
    assert [each.error.code for each in found if each.error] == ["forbidden"]
    assert broker.published == []


async def test_a_broker_that_is_away_is_waited_for_and_one_that_refuses_is_reported(
    deliveries: Deliveries, broker: Broker
) -> None:
    broker.errors = [ConnectionError("away"), ConnectionError("away")]
    found = await deliveries.deliver(job(OutputSink("mqtt:home/x")), OUTPUTS)
    assert errors(found) == []
    broker.errors = [TooLarge("too large")]
    found = await deliveries.deliver(job(OutputSink("mqtt:home/x")), OUTPUTS)
    assert errors(found) == ["too large"]


async def test_what_is_huge_does_not_go_to_a_topic(tmp_path: Path, broker: Broker) -> None:
    small = make(tmp_path, broker, max_topic=10)
    found = await small.deliver(job(OutputSink("mqtt:home/x")), OUTPUTS)
    assert errors(found) == ["a topic takes 10 bytes at most"]
    small.close()


async def test_a_full_disk_is_tried_again_and_then_reported(
    deliveries: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    async def full(_folder: Path, name: str, _source: object) -> None:
        tried.append(name)
        raise OSError(28, "No space left on device", str(tmp_path / name))

    monkeypatch.setattr(deliveries._writer, "write", full)
    (found,) = await deliveries.deliver(job(OutputSink("folder:photos", 0)), OUTPUTS)
    assert len(tried) > 1
    assert found.error
    assert found.error.message.startswith("No space left on device, after ")
    assert str(tmp_path) not in str(found.error)


@pytest.mark.timeout(20)  # it fails by waiting
async def test_a_server_that_hangs_holds_up_nobody_elses(
    tmp_path: Path, broker: Broker, receiver: Receiver
) -> None:
    both = {"alice": EVERYTHING, "bob": EVERYTHING}
    shared = make(tmp_path, broker, check=Sinks(Permissions(both)).check, within_s=STALL_S)
    receiver.answer = lambda request: (
        never(request) if request.path == "/hangs" else web.Response(status=201)
    )
    hanging = asyncio.create_task(
        shared.deliver(job(*[OutputSink(receiver.url("/hangs"), 0)] * 50), OUTPUTS)
    )
    while len(receiver.taken) < module.AT_ONCE:
        receiver.came.clear()
        await receiver.came.wait()
    assert (shared.under_way("alice"), shared.under_way("bob")) == (1, 0)
    (found,) = await shared.deliver(job(OutputSink(receiver.url("/x")), client="bob"), OUTPUTS)
    assert errors([found]) == []
    assert len(receiver.taken) == module.AT_ONCE + 1
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    assert shared.under_way("alice") == 0
    shared.close()


async def test_a_defect_of_ours_costs_that_delivery_alone(
    tmp_path: Path, broker: Broker, receiver: Receiver
) -> None:
    def check(*_: object) -> None:
        raise ZeroDivisionError

    broken = make(tmp_path, broker, check=check)
    (found,) = await broken.deliver(job(OutputSink(receiver.url())), OUTPUTS)
    assert found.error
    assert found.error.code == "bridge_error"
    broken.close()
