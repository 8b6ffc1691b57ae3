"""What is fuzzed: each decoder of what others send, with valid messages to begin from.

A target takes any bytes. What a decoder documents as its errors is part of its work; anything else
that it raises is a fault.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import cache
from ipaddress import ip_network
from math import prod
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.adapters.web import frames as socket_frames
from bridge.adapters.web import http_headers
from bridge.comfyui import frames as comfyui_frames
from bridge.contract import expansion, links, operator, requests, topics
from bridge.contract.errors import BridgeError, Expired, Forbidden
from bridge.contract.messages import Submit
from bridge.contract.topics import Topics
from bridge.media.extents import Reader, TooManyParts, measure
from bridge.media.sniff import sniff
from bridge.mqtt import Address, ConnectionLost
from bridge.mqtt.errors import InvalidMessage
from bridge.mqtt.link import BrokerLink, Events
from bridge.mqtt.packets import (
    LargePublish,
    Malformed,
    Publish,
    PublishProperties,
    Splitter,
    read_puback,
    read_publish,
)
from bridge.mqtt.stream import Stream
from bridge.workflows import binding, dynamic_prompts, page_pictures, source
from bridge.workflows.embedded import PNG
from bridge.workflows.graph import WorkflowError
from bridge.workflows.source import NeedsObjectInfo
from bridge.workflows.workflow import Workflow
from tests.custom_nodes.package import load
from tests.workflows import graphs, test_embedded

_VERBS = [*requests.VERBS, "run", "nonsense"]
_CONTENT_TYPES = [None, "image/png", "application/json", "text/plain"]
CONNACK = 0x20
_VECTORS = Path(__file__).parents[1] / "vectors" / "media"
_LARGEST_SET = 1_000
# Three times the largest case: texts between several choices are put in again.
_LONGEST_DRAWN = 400_000
# Longer ones make each case slow.
_LARGEST_SEED = 6_000
_ORDERS = [*operator.VERBS, "nonsense"]


class Target(Struct, frozen=True):
    """A decoder: `decoders` are the functions whose branches are counted, by module."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    decoders: Mapping[str, tuple[str, ...]]


def _choice(data: bytes, choices: list[Any]) -> tuple[Any, bytes]:
    """Let the first byte choose, and return the rest."""
    return choices[(data[0] if data else 0) % len(choices)], data[1:]


def _chosen(choices: list[Any], choice: Any, rest: bytes | dict[str, Any]) -> bytes:
    if isinstance(rest, dict):
        rest = json.dumps(rest).encode()
    return bytes([choices.index(choice)]) + rest


def _request(data: bytes) -> None:
    verb, payload = _choice(data, _VERBS)
    requests.transaction_of(payload, payload)
    with suppress(BridgeError):
        requests.decode(verb, payload)
    with suppress(BridgeError):
        requests.decode_begin_upload(payload)


@cache
def _workflows() -> tuple[Workflow, ...]:
    return tuple(graphs.workflow(document) for document in (graphs.PLAIN, graphs.NAMED))


def _run(data: bytes) -> None:
    content_type, payload = _choice(data, _CONTENT_TYPES)
    properties = [("input.prompt", "x"), ("$priority", payload[:8].decode("latin-1"))]
    with suppress(BridgeError):
        job_id = "j1" if content_type == "application/json" else None
        run = requests.decode_run("wf", job_id, payload, content_type, properties)
        for workflow in _workflows():
            with suppress(BridgeError):
                bound = binding.bind(workflow, run.submit.inputs, main=run.main, randint=_lowest)
                # What is bound goes on to ComfyUI and into the journal.
                msgspec.json.decode(msgspec.json.encode([bound.prompt, bound.inputs]))


def _lowest(low: int, _high: int) -> int:
    return low


def _topic(data: bytes) -> None:
    first, _, second = data.decode(errors="surrogateescape").partition("\n")
    known = Topics()
    with suppress(topics.BadTopic):
        request = known.parse_request(first)
        if request is not None:
            assert topics.is_id(request.client)
            assert topics.is_id(request.verb)
    if known.is_reply("a", first):
        assert first.startswith("comfy2mqtt/client/a/reply/")
        assert not set(first) & set("+#$\0")
    topics.matches(second, first)
    topics.is_filter(second)


def _packet(data: bytes) -> None:
    first, body = (data[0] if data else 0), data[1:]
    with suppress(Malformed):
        message = read_publish(0x30 | first & 0x0F, bytearray(body))
        with suppress(InvalidMessage):
            Publish.of(message.topic, message.payload, qos=0, retain=False)
    with suppress(Malformed):
        large = LargePublish(0x30 | first & 0x0F, len(body))
        for start in range(0, len(body), 7):
            large.extend(body[start : start + 7])
        large.read()
    with suppress(Malformed):
        read_puback(body)
    # As a stream, whole and in pieces: the same packets, or malformed both times.
    assert _split(data, len(data) or 1) == _split(data, 3)


# What every case of the broker's answers shares: a loop is made once.
@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _answers(data: bytes) -> None:
    """The first byte chooses: a CONNACK, or one that is right and then a SUBACK."""
    _loop().run_until_complete(_answered(0x20 + 0x70 * (data[:1] > b"\x7f"), data[1:]))


async def _turns() -> None:
    """Let the tasks of the loop go on until they wait for something of ours."""
    for _ in range(8):
        await asyncio.sleep(0)


async def _answered(first_byte: int, body: bytes) -> None:
    ended: list[object] = []
    ignored: Any = lambda *_: None  # noqa: E731 - of callbacks that this is not about
    events = Events(
        accepted=ignored,
        refused=ignored,
        received=ignored,
        acknowledged=ignored,
        wrote=ignored,
        ended=ended.append,
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - of the socket interface
    link = BrokerLink(
        events,
        Stream(ours),
        Address(host="broker.example"),
        version="5",
        client_id="fuzz",
        clean_start=True,
        session_expiry=0,
        receive_maximum=None,
        keepalive=60,
        will=None,
    )
    filters = [("a", SubscribeOptions(qos=1)), ("b", SubscribeOptions(qos=0))]
    subscribing = None
    try:
        link.start()
        if first_byte != CONNACK:
            theirs.sendall(b"\x20\x03\x00\x00\x00")
            link._turn(link._read)
            subscribing = asyncio.ensure_future(link.subscribed(filters))
            await _turns()  # the SUBSCRIBE is out
        theirs.sendall(bytes([first_byte]) + _varint(len(body)) + body)
        link._turn(link._read)
        if subscribing is not None:
            await _turns()
            if subscribing.done():
                with suppress(ConnectionLost):
                    codes = subscribing.result()
                    assert len(codes) == len(filters)
                    assert all(0 <= code <= 0xFF for code in codes)
    finally:
        if subscribing is not None and not subscribing.done():
            subscribing.cancel()
            await asyncio.wait((subscribing,))
        link.cut(None)
        theirs.close()
        ours.close()
    assert len(ended) == 1


def _varint(number: int) -> bytes:
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | 0x80 * (number > 0))
        if not number:
            return bytes(digits)


def _split(data: bytes, size: int) -> list[Any]:
    splitter, found = Splitter(), list[Any]()
    try:
        for start in range(0, len(data), size):
            found += splitter.feed(data[start : start + size])
    except Malformed:
        found.append(Malformed)
    return found


def _comfyui(data: bytes) -> None:
    frame = comfyui_frames.decode(data)
    if frame is not None:
        comfyui_frames.prompt_of(frame)
    with suppress(UnicodeDecodeError):
        frame = comfyui_frames.decode(data.decode())
        if isinstance(frame, comfyui_frames.NodeExecuted):
            comfyui_frames.output_headers(frame.output or {})


def _file(data: bytes) -> None:
    with suppress(WorkflowError, NeedsObjectInfo):
        drawn = source.read("file", data).build("name", graphs.INFO)
        msgspec.json.encode(drawn.definition())


def _sidecar(data: bytes) -> None:
    with suppress(WorkflowError, NeedsObjectInfo):
        plain = json.dumps(graphs.PLAIN).encode()
        source.read("file", plain, data).build("name", graphs.INFO)


def _extent(data: bytes) -> None:
    with suppress(TooManyParts):
        found = measure(Reader.of(data, max_steps=2_000))
        assert found.unpacked >= 0
        assert found.seconds >= 0


def _media(data: bytes) -> None:
    found = sniff(data)
    assert found.kind
    assert found.extension.isalnum()


def _socket(data: bytes) -> None:
    for frame in (data, data.decode(errors="replace")):
        with suppress(socket_frames.MalformedFrame):
            socket_frames.read_register(frame)
        with suppress(socket_frames.MalformedFrame):
            said = socket_frames.read(frame)
            if isinstance(said, socket_frames.BridgeRequest):
                assert Topics().parse_request(Topics().request("a", *said.levels)) is not None


def _packed(header: dict[str, Any]) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack(">I", len(encoded)) + encoded + b"data"


def _set(data: bytes) -> None:
    """What the jobs of a set differ in, and the ids of such jobs."""
    expansion.of_job_id(data.decode(errors="replace"))
    with suppress(BridgeError):
        asked = requests.decode("submit", data)
        if isinstance(asked, Submit) and asked.is_set:
            totals = dict.fromkeys(expansion.sets_named(asked), 3)
            found = expansion.count(asked, totals, _LARGEST_SET, "max_set")
            axes = expansion.axes(asked, totals, lambda _, number: [7] * number)
            sizes = list(map(len, axes))
            assert prod(sizes) == found
            assert len(expansion.place(found - 1, sizes)) == len(axes)


def _prompt(data: bytes) -> None:
    text = data.decode(errors="replace")
    for pick in (lambda _: 0, lambda number: number - 1):
        assert len(dynamic_prompts.draw(text, pick)) <= _LONGEST_DRAWN
    dynamic_prompts.is_dynamic(text)


def _page_picture(data: bytes) -> None:
    """A value as a file has it, and a node's input as ComfyUI describes it."""
    try:
        value = msgspec.json.decode(data)
        drawn = {"nodes": [{"id": 1, "type": "Load3D", "widgets_values": [value]}], "links": []}
        file = msgspec.json.encode(drawn)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    page_pictures.is_taken(value)
    assert page_pictures.is_taken(page_pictures.with_file(value, "photo.png"))
    with suppress(WorkflowError, NeedsObjectInfo):
        source.read("file", file).build("name", graphs.INFO)


def _headers(data: bytes) -> None:
    """Headers as a browser or a proxy writes them, one a line, and the token of a link."""
    text = data.decode("latin-1")
    first, second, third, *_ = (*text.split("\n"), "", "", "")
    with suppress(ValueError):
        span = http_headers.byte_range(first, 1000)
        assert span is None or 0 <= span[0] < span[1] <= 1000
    http_headers.etag_matches('"tag"', second)
    address = http_headers.client_address(
        peer="127.0.0.1",
        scheme="http",
        host=third,
        forwarded=(first, second, third),
        trusted=[ip_network("127.0.0.0/8")],
    )
    http_headers.origin_allowed(second, address, ["https://page.example"])
    with suppress(Expired, Forbidden):
        links.read(b"k" * links.KEY_BYTES, text, 0.0)


class _Asked:
    """A request to one of our nodes' routes: its names in the path, and its body."""

    content_type = "image/png"
    content_length = None

    def __init__(self, names: list[str], body: bytes) -> None:
        path = dict(zip(("prompt_id", "node", "index"), (*names, "", "", ""), strict=False))
        self.match_info = {**path, "sha256": names[0]}
        self._body = body

    async def json(self) -> Any:
        return json.loads(self._body.decode())

    @property
    def content(self) -> _Asked:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


@cache
def _routes() -> Any:
    outputs = load("held").HeldOutputs(10_000)
    media, uploads = (
        load("media").HeldMedia(10_000),
        load("uploads").Uploads(lambda: "/nowhere", list),
    )
    named = {"guarded": True, "classes": {}}
    return load("routes").Routes(outputs, media, uploads, None, None, "p", [], {}, **named)


@cache
def _guard() -> Any:
    return load("guard").Guard("secret", "fuzz")


def _route(data: bytes) -> None:
    """The first line is a request's path, the second some headers' values, the rest its body."""
    path, line, body = (*data.split(b"\n", 2), b"", b"")[:3]
    names = path.decode(errors="replace").split("/")
    _loop().run_until_complete(_answer_all(_Asked(names, body)))
    values = (*line.decode("latin-1").split("\t"), *5 * [""])
    wanted = ("Host", "Origin", "Sec-Fetch-Site", "Cookie", "X-Comfy2MQTT-Secret")
    headers = {name: value for name, value in zip(wanted, values, strict=False) if value}
    assert not _guard().lets_in("/prompt", headers) or headers["X-Comfy2MQTT-Secret"] == "secret"


async def _answer_all(asked: _Asked) -> None:
    routes = _routes()
    for route in (
        *(routes.put_media, routes.head_media, routes.list_outputs),
        *(routes.get_output, routes.confirm_outputs, routes.remove_uploads),
    ):
        response = await route(asked)
        assert response.status in (200, 201, 204, 400, 404, 410, 413)


def _order(data: bytes) -> None:
    verb, payload = _choice(data, _ORDERS)
    with suppress(BridgeError):
        operator.decode(verb, payload)


_PNG = test_embedded.saved_png()
_WEBP = b"RIFF\x00\x00\x00\x00WEBP"
_PUBLISH = Publish.of(
    "comfy2mqtt/client/a/request/run/demo",
    b"payload",
    qos=1,
    retain=True,
    properties=PublishProperties(
        content_type="image/png",
        response_topic="comfy2mqtt/client/a/reply/x",
        correlation_data=b"c",
        message_expiry=60,
        user_properties=[("input.prompt", "x"), ("$preview", "true")],
    ),
).head(7)[2:]
_SUBMIT = {
    "workflow": "demo",
    "inputs": {"prompt": "x", "seed": 5, "image": {"base64": "iVBORw=="}},
    "job_id": "j1",
    "transaction": 7,
    "meta": {"a": [1, None]},
    "priority": -5,
    "start_within_s": 1.5,
    "output": {"deliver": "fetch", "format": "jpeg", "max_width": 100, "max_packet": 1200},
}
_FRAME = {"type": "executing", "data": {"node": "1", "prompt_id": "p"}}
_SIDE = b"""
title = "A picture"
[inputs.steps]
place = "2.steps"
minimum = 1
maximum = 50
[outputs.picture]
node = "58:4"
[press]
inputs = { steps = 5 }
"""

_LINK = links.sign(b"k" * links.KEY_BYTES, links.Link("a", "j", 0, 5)).encode()
_LINES = b'bytes=0-5\nW/"tag", *\nhost:8188'

TARGETS: dict[str, Target] = {
    "sets": Target(
        _set,
        (
            b'{"workflow": "w", "each": [{"a": 1}, {}]}',
            b'{"workflow": "w", "repeat": 5}',
            b'{"workflow": "w", "grid": {"a": [1, "x"], "b": {"from": 1, "to": 2, "step": 0.25}}}',
            b'{"workflow": "w", "grid": {"a": {"from": 0, "to": 1e308, "step": 1e-308}}}',
            b'{"workflow": "w", "grid": {"a": {"seeds": 3}, "b": {"set": "s", "output": 1}}}',
            b'{"workflow": "w", "grid": {"a": []}}',
            b'{"workflow": "w", "grid": {"a": {}}}',
            b'{"workflow": "w", "grid": {"a": {"from": 1}}}',
            b'{"workflow": "w", "grid": {"a": {"from": 1, "to": 2, "step": 0}}}',
            b"set-12",
        ),
        {
            "bridge.contract.expansion": (
                *("sets_named", "count", "axes", "place", "of_job_id"),
                *("_size", "_values", "_check", "_range"),
            )
        },
    ),
    "prompts": Target(
        _prompt,
        (
            b"a {cat|dog {one|two}} // no\n/* neither */ and \\{this\\}",
            b"{2$$a|b|c} {1-3$$ and $$a|b|c} {{{a}}} {a|b",
            b"http://example.org /* never closed",
        ),
        {
            "bridge.workflows.dynamic_prompts": (
                *("draw", "is_dynamic", "_drawn", "_chosen", "_options", "_without_comments"),
            )
        },
    ),
    "pages": Target(
        _page_picture,
        (b'{"image": "", "mask": "m"}', b'"photo.png"', b"null", b"[1]", b'{"image": {}}'),
        {"bridge.workflows.page_pictures": ("is_taken", "with_file")},
    ),
    "headers": Target(
        _headers,
        (
            _LINES,
            _LINK,
            b"bytes=-5\nhttp://host:8188\nhost:8188",
            b"bytes=9-2\nhttps://page.example\n[::1]:80",
            b"10.0.0.1, 127.0.0.1\nhttps\nexample.org",
            b"bytes=2000-\nnull\n[",
        ),
        {
            "bridge.adapters.web.http_headers": (
                *("byte_range", "etag_matches", "client_address", "origin_allowed"),
                *("is_in", "_last", "_origin"),
            ),
            "bridge.contract.links": ("read",),
        },
    ),
    "routes": Target(
        _route,
        (
            b"p/1/0\nlocalhost\thttp://localhost\tnone\tcomfy2mqtt-fuzz=x\n" + b'{"names": ["a"]}',
            b"a/b/c\n\n" + b'{"older_than_s": 5, "keep": []}',
            b"0" * 64 + b"\n127.0.0.1:1\t\tsame-origin\nbody",
            b"x\n\t\t\t\tsecret\n" + b"[" * 2000,
            b'x\n[::1\t//[\t\ta="\n{"names": 5}',
        ),
        {},
    ),
    "requests": Target(
        _request,
        (
            _chosen(_VERBS, "submit", _SUBMIT),
            _chosen(_VERBS, "submit", {"prompt": graphs.PLAIN, "dry_run": True}),
            _chosen(_VERBS, "cancel", b"job-1"),
            _chosen(_VERBS, "list", {"after": 3, "states": ["failed"], "limit": 5}),
            _chosen(_VERBS, "ack", {"up_to": 3}),
            _chosen(_VERBS, "fetch", {"job_id": "j", "offset": 5, "count": 7, "inline": True}),
            _chosen(_VERBS, "recipe", {"job_id": "j", "transaction": "t"}),
            _chosen(_VERBS, "run", {"size": 5, "sha256": "0" * 64, "content_type": "image/png"}),
            _chosen(_VERBS, "nonsense", b""),
            _chosen(_VERBS, "submit", {"workflow": "x", "output": {"deliver": "y"}}),
            _chosen(_VERBS, "submit", {"workflow": "x", "prompt": {}}),
            _chosen(_VERBS, "submit", {"workflow": "x", "meta": "m" * 4200}),
            _chosen(_VERBS, "submit", {"workflow": 5}),
            _chosen(_VERBS, "list", {"states": ["x"]}),
        ),
        {
            "bridge.contract.requests": (
                *("decode", "decode_begin_upload", "transaction_of", "correlated"),
                "_check_submit",
            ),
            "bridge.contract.reading": (
                *("text_of", "decoded", "unfit", "_choices", "_without_unset"),
            ),
        },
    ),
    "runs": Target(
        _run,
        (
            _chosen(_CONTENT_TYPES, None, b""),
            _chosen(_CONTENT_TYPES, None, b"a lighthouse"),
            _chosen(_CONTENT_TYPES, None, b'"a text"'),
            _chosen(_CONTENT_TYPES, None, b"007"),
            _chosen(_CONTENT_TYPES, "image/png", _PNG[:80]),
            _chosen(_CONTENT_TYPES, None, {"prompt": "x", "$priority": 5, "$job_id": "j"}),
            _chosen(_CONTENT_TYPES, None, {"2.steps": 5, "cfg": 1.5, "The sampler.seed": 9}),
            _chosen(_CONTENT_TYPES, None, {"$text": "x", "seed": 1}),
            _chosen(_CONTENT_TYPES, None, {"$text": 5}),
            _chosen(_CONTENT_TYPES, None, {"$nonsense": 5}),
            _chosen(_CONTENT_TYPES, None, {"$output": '{"deliver": "fetch"}', "$meta": [1]}),
            _chosen(_CONTENT_TYPES, "application/json", {"$job_id": "j2"}),
            *(
                _chosen(_CONTENT_TYPES, None, {"3.image": each})
                for each in (
                    5,
                    {"upload": "u1", "topic": "x"},
                    {"upload": "a/b"},
                    {"base64": "?"},
                    [{"upload": "u1"}, {"upload": "u2"}],
                    {"base64": base64.b64encode(_PNG[:40]).decode()},
                    {"upload": "u1"},
                    {"job": "j1", "output": 1},
                    {"url": "http://example.org/x", "backup_url": "http://example.org/y"},
                    {"topic": "cameras/door", "max_age_s": 5, "wait_s": 1},
                )
            ),
        ),
        {
            "bridge.contract.requests": ("decode_run", "_main", "_named_text", "_set_field"),
            "bridge.contract.sources": ("read",),
        },
    ),
    "topics": Target(
        _topic,
        (
            b"comfy2mqtt/client/a/request/run/demo/j1\ncomfy2mqtt/client/+/request/#",
            b"comfy2mqtt/client/a/request/upload/u/5\n#",
            b"comfy2mqtt/client/a/request/upload/u/fin\n+/client/a",
            b"comfy2mqtt/client/a/request/submit\n$SYS/#",
            b"$SYS/x\n#",
            b"comfy2mqtt/client/a/request/run/a/b/c\n+",
            b"comfy2mqtt/client/a/request/upload\n$share/g/x",
            b"comfy2mqtt/client/a/request/list/x\na/b#",
            b"comfy2mqtt/client/a/reply/x\ncomfy2mqtt/+/a/reply/x",
        ),
        {
            "bridge.contract.topics": (
                *("matches", "is_filter", "Topics.is_reply", "Topics.parse_request", "_request"),
            )
        },
    ),
    "packets": Target(
        _packet,
        (
            b"\x03" + _PUBLISH,
            b"\x00\x00\x01a\x00x",
            b"\x02\x00\x01a\x00\x05\x00x",
            b"\x00\x00\x07\x10",
            # Each property once: format, alias, a subscription's id; and of a PUBACK its reason.
            b"\x00\x00\x01a\x07\x01\x01\x23\x00\x01\x0b\x05x",
            b"\x00\x00\x07\x10\x04\x1f\x00\x01r",
            b"\x00\x00\x01a\x02\x02\x00",
            b"\x00\x00\x01a\x02\x7f\x00",
            b"\x00\x00\x01a\xff\xff\xff\xff\x7f",
            b"\x30\x05\x00\x01a\x00x\x90\x04\x00\x05\x00\x01\x40\x02\x00\x07",
            b"\x30\xff\xff\xff\xff\x01",
        ),
        {
            "bridge.mqtt.packets": (
                *("read_publish", "read_puback", "LargePublish.extend", "LargePublish.read"),
                *("LargePublish._head_size", "_Reader._take", "_Reader.varint", "_Reader.text"),
                *("_Reader.properties", "_Reader._property", "Splitter.feed", "_length_after"),
            )
        },
    ),
    "answers": Target(
        _answers,
        (
            b"\x00\x00\x00\x00",
            b"\x00\x01\x00\x00",
            b"\x00\x00\x87\x00",
            b"\x00\x00\x00\x06\x21\x00\x10\x13\x00\x3c",
            b"\x00\x00\x00\x05\x27\x00\x00\x10\x00",
            b"\x00\x00\x00\x0d\x12\x00\x02id\x1f\x00\x03why\x24\x00",
            b"\xff\x00\x01\x00\x01\x00",
            b"\xff\x00\x01\x00\x01",
            b"\xff\x00\x01\x00\x01\x00\x80",
            b"\xff\x00\x02\x00\x01\x00",
            b"\xff\x00\x01\x05\x1f\x00\x02no\x87\x87",
        ),
        {"bridge.mqtt.link": ("BrokerLink.subscribed", "BrokerLink._on_connect", "_connack")},
    ),
    "comfyui": Target(
        _comfyui,
        (
            json.dumps(_FRAME).encode(),
            b'{"type": "executed", "data": {"prompt_id": "p", "output": {"comfy2mqtt": []}}}',
            b'{"type": "progress", "data": {"value": 1, "max": 4, "prompt_id": "p", "node": "1"}}',
            b'{"type": "execution_error", "data": {"prompt_id": "p", "x": NaN}}',
            struct.pack(">II", 1, 1) + b"\xff\xd8\xff",
            struct.pack(">II", 4, 30) + b'{"image_type": "image/jpeg"   }' + b"\xff\xd8\xff",
            struct.pack(">II", 0x43324D51, 2) + b"{}xx",
        ),
        {"bridge.comfyui.frames": ("decode", "_text", "strict_json", "_binary", "_prefixed")},
    ),
    "files": Target(
        _file,
        (
            json.dumps(graphs.PLAIN).encode(),
            json.dumps(graphs.NAMED).encode(),
            _PNG,
            test_embedded.saved_webp(),
            b"{}",
            json.dumps({"prompt": graphs.PLAIN}).encode(),
            b'{"1": {"class_type": "A", "inputs": {"x": ["2", 0]}}}',
            b'{"1": {"class_type": "A"}}',
            b'{"a": 1\n',
            *(
                PNG + b"".join(test_embedded.chunk(kind, text) for kind, text in chunks)
                for chunks in (
                    [(b"tEXt", b"prompt\0{}"), (b"tEXt", b"workflow\0no json")],
                    [(b"zTXt", b"prompt\0\0" + zlib.compress(test_embedded.PROMPT.encode()))],
                    [(b"iTXt", b"prompt\0\0\0\0\0" + test_embedded.PROMPT.encode())],
                    [(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"{}"))],
                    [(b"comf", b"prompt\0{}"), (b"IDAT", b""), (b"IEND", b"")],
                )
            ),
            _WEBP + b"VP8 \x01\x00\x00\x00x\x00EXIF\x02\x00\x00\x00??",
        ),
        {
            "bridge.workflows.source": ("document_of", "_from_picture", "_bad_json"),
            "bridge.workflows.embedded": (
                "texts",
                "_png",
                "_png_text",
                "_unpacked",
                "_webp",
                "_exif",
            ),
            "bridge.workflows.graph": ("parse", "_node", "link"),
        },
    ),
    "sidecars": Target(
        _sidecar,
        (_SIDE, b'description = "x"\n', b"[inputs]\n", b"[inputs.steps]\nminimum = 'x'\n"),
        {"bridge.workflows.sidecar": ("read", "_convert", "_keys", "_error", "_line_of", "_path")},
    ),
    "extents": Target(
        _extent,
        (
            _PNG,
            test_embedded.saved_webp(),
            b"GIF89a\x08\0\x08\0\0\0\0\x21\xf9\x01a\0\x2c\0\0\0\0\x08\0\x08\0\0\x02\x01a\0\x3b",
            b"II*\0\x08\0\0\0\x01\0\0\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0",
            b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0\x40\0\0\0\x16\0\0\0" + bytes(64),
            b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0"
            + b"\x40\x9c\0\0".ljust(32, b"\0")
            + b"\x10\0\0\0\x08\0\0\0".ljust(24, b"\0")
            + b"strh\x04\0\0\0vidsstrf\x0c\0\0\0\x0c\0\0\0\x10\0\0\0\x08\0\0\0"
            + b"strh\x04\0\0\0audsstrf\x08\0\0\0\x01\0\x02\0\x44\xac\0\0"
            + b"LIST\0\0\0\0movi00dc\x03\0\0\0abc\0",
            b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0\x44\xac\0\0\x10\xb1\x02\0\x04\0\x10\0",
            *(
                path.read_bytes()
                for path in sorted(_VECTORS.iterdir())
                if path.suffix != ".py" and path.stat().st_size < _LARGEST_SEED
            ),
        ),
        {
            "bridge.media.extents.pictures": ("png", "gif", "webp", "tiff", "ico"),
            "bridge.media.extents.films": (
                *("iso", "_of_track", "_duration", "matroska", "_of_entry", "_block"),
                *("_name", "_length", "_float", "avi"),
            ),
            "bridge.media.extents.sounds": ("wav", "flac", "ogg", "_ogg_stream", "mp3"),
            "bridge.media.extents.opus": ("seconds",),
        },
    ),
    "media": Target(
        _media,
        (
            _PNG,
            test_embedded.saved_webp(),
            b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
            b"GIF89a\x01\x00\x01\x00",
            b"BM" + bytes(30),
            b"II*\x00" + bytes(20),
            b"<svg xmlns='http://www.w3.org/2000/svg' width='1e9'/>",
            b"RIFF\x00\x00\x00\x00WAVE",
            b"text\n",
            b"x" * 1023 + "ä".encode(),
        ),
        {"bridge.media.sniff": ("sniff", "_size", "_is_text")},
    ),
    "sockets": Target(
        _socket,
        (
            b'{"type": "register", "key": "k", "after": 5}',
            b'{"type": "run", "workflow": "demo", "job_id": "j", "inputs": {"a": 1}}',
            b'{"type": "run", "workflow": "demo", "text": "x", "transaction": 5}',
            b'{"type": "submit", "workflow": "demo"}',
            b'{"type": "link", "job_id": "j", "output": 1}',
            b'{"type": "ping", "transaction": "t"}',
            b'{"type": "upload", "upload": "u", "fin": true}',
            b'{"type": "upload", "upload": "u", "size": 5, "sha256": "0"}',
            b'{"type": "run", "workflow": "demo", "inputs": {"$a": 1}}',
            _packed({"type": "upload", "upload": "u"}),
            _packed({"type": "upload", "upload": "u", "offset": 5, "content_type": "image/png"}),
            _packed({"type": "upload", "upload": "u", "content_type": "application/json"}),
            _packed({"type": "upload", "upload": "u", "offset": -5}),
            _packed({"type": "submit"}),
        ),
        {
            "bridge.adapters.web.frames": (
                *("read_register", "read", "_request", "_run", "_upload", "_own", "_object"),
                *("_split", "_id", "_text", "_count", "_transaction"),
            )
        },
    ),
    "orders": Target(
        _order,
        (
            _chosen(_ORDERS, next(iter(operator.VERBS)), b'{"instance": "gpu0"}'),
            *(_chosen(_ORDERS, verb, b"{}") for verb in operator.VERBS),
            *(_chosen(_ORDERS, verb, b"gpu0") for verb in operator.VERBS),
        ),
        {"bridge.contract.operator": ("decode", "_field")},
    ),
}
