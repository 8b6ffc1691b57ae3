"""Requests, topics and commands, as clients and the operator send them."""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import cache
from math import prod

import msgspec

from bridge.contract import expansion, operator, requests, topics
from bridge.contract.errors import BridgeError
from bridge.contract.messages import Submit
from bridge.contract.topics import Topics
from bridge.workflows import binding
from bridge.workflows.workflow import Workflow
from tests.fuzz.target import Target, choice, chosen
from tests.workflows import graphs, test_embedded

_VERBS = [*requests.VERBS, "run", "nonsense"]
_CONTENT_TYPES = [None, "image/png", "application/json", "text/plain"]
_LARGEST_SET = 1_000
_COMMANDS = [*operator.VERBS, "nonsense"]
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

_PNG = test_embedded.saved_png()


def _request(data: bytes) -> None:
    verb, payload = choice(data, _VERBS)
    requests.transaction_of(payload, payload)
    with suppress(BridgeError):
        requests.decode(verb, payload)
    with suppress(BridgeError):
        requests.decode_begin_upload(payload)


@cache
def _workflows() -> tuple[Workflow, ...]:
    return tuple(graphs.workflow(document) for document in (graphs.PLAIN, graphs.NAMED))


def _run(data: bytes) -> None:
    content_type, payload = choice(data, _CONTENT_TYPES)
    properties = [("input.prompt", "x"), ("$priority", payload[:8].decode("latin-1"))]
    with suppress(BridgeError):
        job_id = "j1" if content_type == "application/json" else None
        run = requests.decode_run("wf", job_id, payload, content_type, properties)
        for workflow in _workflows():
            with suppress(BridgeError):
                bound = binding.bind(workflow, run.submit.inputs, main=run.main, randint=_lowest)
                # A bound prompt is sent to ComfyUI and written to the journal.
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


def _set(data: bytes) -> None:
    """Read the axes in which the jobs of a set differ, and the ids of such jobs."""
    expansion.of_job_id(data.decode(errors="replace"))
    with suppress(BridgeError):
        asked = requests.decode("submit", data)
        if isinstance(asked, Submit) and asked.is_set:
            totals = dict.fromkeys(expansion.sets_named(asked), 3)
            found = expansion.count(asked, totals, _LARGEST_SET, "max_set")
            axes = expansion.axes(asked, totals, lambda _, number: [7] * number)
            sizes = list(map(len, axes))
            assert prod(sizes) == found
            assert len(expansion.coordinates(found - 1, sizes)) == len(axes)


def _command(data: bytes) -> None:
    verb, payload = choice(data, _COMMANDS)
    with suppress(BridgeError):
        operator.decode(verb, payload)


TARGETS = {
    "requests": Target(
        _request,
        (
            chosen(_VERBS, "submit", _SUBMIT),
            chosen(_VERBS, "submit", {"prompt": graphs.PLAIN, "dry_run": True}),
            chosen(_VERBS, "cancel", b"job-1"),
            chosen(_VERBS, "list", {"after": 3, "states": ["failed"], "limit": 5}),
            chosen(_VERBS, "ack", {"up_to": 3}),
            chosen(_VERBS, "fetch", {"job_id": "j", "offset": 5, "count": 7, "inline": True}),
            chosen(_VERBS, "recipe", {"job_id": "j", "transaction": "t"}),
            chosen(_VERBS, "run", {"size": 5, "sha256": "0" * 64, "content_type": "image/png"}),
            chosen(_VERBS, "nonsense", b""),
            chosen(_VERBS, "submit", {"workflow": "x", "output": {"deliver": "y"}}),
            chosen(_VERBS, "submit", {"workflow": "x", "prompt": {}}),
            chosen(_VERBS, "submit", {"workflow": "x", "meta": "m" * 4200}),
            chosen(_VERBS, "submit", {"workflow": 5}),
            chosen(_VERBS, "list", {"states": ["x"]}),
        ),
        {
            "bridge.contract.requests": (
                *("decode", "decode_begin_upload", "transaction_of", "correlated"),
                "_check_submit",
            ),
            "bridge.contract.reading": (
                *("text_of", "decoded", "unfit", "_range", "_type_of", "_without_unset"),
            ),
        },
    ),
    "runs": Target(
        _run,
        (
            chosen(_CONTENT_TYPES, None, b""),
            chosen(_CONTENT_TYPES, None, b"a lighthouse"),
            chosen(_CONTENT_TYPES, None, b'"a text"'),
            chosen(_CONTENT_TYPES, None, b"007"),
            chosen(_CONTENT_TYPES, "image/png", _PNG[:80]),
            chosen(_CONTENT_TYPES, None, {"prompt": "x", "$priority": 5, "$job_id": "j"}),
            chosen(_CONTENT_TYPES, None, {"2.steps": 5, "cfg": 1.5, "The sampler.seed": 9}),
            chosen(_CONTENT_TYPES, None, {"$text": "x", "seed": 1}),
            chosen(_CONTENT_TYPES, None, {"$text": 5}),
            chosen(_CONTENT_TYPES, None, {"$nonsense": 5}),
            chosen(_CONTENT_TYPES, None, {"$output": '{"deliver": "fetch"}', "$meta": [1]}),
            chosen(_CONTENT_TYPES, "application/json", {"$job_id": "j2"}),
            *(
                chosen(_CONTENT_TYPES, None, {"3.image": each})
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
                *("sets_named", "count", "axes", "coordinates", "of_job_id"),
                *("_size", "_values", "_check", "_range"),
            )
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
    "commands": Target(
        _command,
        (
            chosen(_COMMANDS, next(iter(operator.VERBS)), b'{"instance": "gpu0"}'),
            *(chosen(_COMMANDS, verb, b"{}") for verb in operator.VERBS),
            *(chosen(_COMMANDS, verb, b"gpu0") for verb in operator.VERBS),
        ),
        {"bridge.contract.operator": ("decode", "_field")},
    ),
}
