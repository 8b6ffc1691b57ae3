"""Displays without a broker: whose image is shown, in which format, and how failures show."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from bridge.adapters.displays import Displays
from bridge.adapters.mqtt.retained_images import RetainedImages
from bridge.config import ClientRights, ConfigError
from bridge.config.tables import Display
from bridge.contract.errors import BridgeError
from bridge.contract.messages import OutputInfo
from bridge.contract.topics import Topics
from bridge.jobs.outputs import CollectedOutput
from bridge.media.transcode import CannotTranscode
from bridge.mqtt import PacketTooLarge
from bridge.requests.permissions import Permissions
from tests.adapters.mqtt import events

IMAGE, URL = "comfy2mqtt/display/hall/image", "comfy2mqtt/display/hall/url"


class Publisher:
    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.about: list[tuple[str, str]] = []
        self.failures: list[Any] = []
        self.limit = 1000

    def publish(self, topic: str, message: Any, *, retain: bool = False) -> None:
        if not retain:
            self.failures.append(message.data)
        elif message is None:
            self.held.pop(topic, None)
        else:
            self.held[topic] = message

    def image(
        self, topic: str, data: bytes, content_type: str, about: list[tuple[str, str]]
    ) -> None:
        if len(data) > self.limit:
            raise PacketTooLarge(len(data), self.limit)
        self.held[topic] = (data, content_type)
        self.about = about


class Transcoder:
    fails = False

    async def in_form(self, form: Any, info: OutputInfo, _data: bytes) -> tuple[OutputInfo, bytes]:
        if self.fails:
            raise CannotTranscode("no image")
        return msgspec.structs.replace(info, content_type=f"image/{form.format}"), b"made"


class Setup:
    def __init__(self, folder: Path, **table: Any) -> None:
        self.publisher, self.transcoder = Publisher(), Transcoder()
        tables = [msgspec.convert({"name": "hall", **table}, Display)]
        self.displays = Displays(
            tables if table.get("name") != "none" else [],
            images=RetainedImages(folder, cast("Any", self.publisher), Topics().display_image),
            publisher=cast("Any", self.publisher),
            topics=Topics(),
            rights=Permissions({"alice": ClientRights(displays=("hall",))}),
            transcoder=cast("Any", self.transcoder),
            url_of=lambda name: f"https://bridge/{name}.png",
        )

    async def show(self, *found: CollectedOutput, client: str = "alice", name: str = "hall") -> Any:
        job = events.job(transaction="t")
        job.key = job.key._replace(client=client)
        return await self.displays.show(job, name, found or (picture(),))


def picture(size: int = 3) -> CollectedOutput:
    return CollectedOutput(events.output(size), bytes(size))


async def test_the_first_image_is_shown_as_it_is_where_the_display_says_nothing(
    tmp_path: Path,
) -> None:
    setup = Setup(tmp_path)
    text = CollectedOutput(msgspec.structs.replace(events.output(4), kind="text"), b"text")
    shown = await setup.show(text, picture(3), picture(5))
    assert (shown.display, shown.topic, shown.url) == ("hall", IMAGE, "https://bridge/hall.png")
    assert setup.publisher.held[IMAGE] == (bytes(3), "image/png")
    assert setup.publisher.held[URL] == b"https://bridge/hall.png"
    about = dict(setup.publisher.about)
    assert (about["job_id"], about["transaction"], about["size"]) == ("j1", "t", "3")
    assert float(about["at"]) > 0


async def test_a_display_gets_its_own_format(tmp_path: Path) -> None:
    setup = Setup(tmp_path, format="jpeg", width=100)
    await setup.show()
    assert setup.publisher.held[IMAGE] == (b"made", "image/jpeg")


@pytest.mark.parametrize(
    ("trouble", "code"),
    [
        ("no image", "execution_error"),
        ("not transcoded", "execution_error"),
        ("too large", "too_large"),
        ("another's", "forbidden"),
        ("no display", "bad_request"),
    ],
)
async def test_what_goes_wrong_is_in_the_result_and_an_event(
    tmp_path: Path, trouble: str, code: str
) -> None:
    setup = Setup(tmp_path, format="jpeg")
    setup.transcoder.fails = trouble == "not transcoded"
    if trouble == "too large":
        setup.publisher.limit = 1
    text = CollectedOutput(msgspec.structs.replace(events.output(4), kind="text"), b"text")
    shown = await setup.show(
        text if trouble == "no image" else picture(),
        client="bob" if trouble == "another's" else "alice",
        name="attic" if trouble == "no display" else "hall",
    )
    assert shown.error.code == code
    (failure,) = setup.publisher.failures
    assert failure["code"] == code
    assert failure["job_id"] == "j1"
    assert setup.publisher.held == {}


async def test_a_broker_that_lost_the_images_gets_them_again_with_their_addresses(
    tmp_path: Path,
) -> None:
    setup = Setup(tmp_path)
    await setup.show()
    again = Setup(tmp_path)
    await again.displays.connected(cast("Any", None))
    assert again.publisher.held == setup.publisher.held
    # The broker's limit became smaller.
    small = Setup(tmp_path)
    small.publisher.limit = 1
    await small.displays.connected(cast("Any", None))
    assert small.publisher.failures[0]["code"] == "too_large"


async def test_the_image_of_a_display_that_is_gone_is_cleared(tmp_path: Path) -> None:
    await Setup(tmp_path).show()
    setup = Setup(tmp_path, name="none")
    setup.publisher.held = {IMAGE: b"x", URL: b"y"}
    await setup.displays.connected(cast("Any", None))
    assert setup.publisher.held == {}


def test_everybody_may_use_a_display_that_says_so(tmp_path: Path) -> None:
    Setup(tmp_path, clients=["*"]).displays.check("bob", "hall")
    Setup(tmp_path, clients=["bob"]).displays.check("bob", "hall")
    with pytest.raises(BridgeError, match="hall"):
        Setup(tmp_path).displays.check("bob", "hall")


def test_a_format_that_no_image_can_have_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hall"):
        Setup(tmp_path, format="png", quality=50)
