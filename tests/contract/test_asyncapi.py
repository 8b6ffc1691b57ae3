from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from bridge.cli import documents
from bridge.contract import asyncapi, messages, operator, sets
from bridge.contract.channels import ANSWERS, Bytes, channels
from bridge.contract.requests import VERBS
from bridge.contract.topics import RUN, UPLOAD, Topics

DOCS = Path(__file__).parents[2] / "docs"
# Filters, and topics that only some messages of a channel go to.
NO_CHANNELS = {
    "retained",
    "public",
    "display_images",
    "requests",
    "responses",
    "jobs",
    "clients",
    "sets",
    "base",
    "commands",
}
# What others are made of.
PARTS = {"Ask", "FetchBytes", "JobMessage", "Named", "OfAll", "OfGpu", "SetMessage"}


@pytest.mark.slow
def test_the_documents_in_docs_are_drawn_from_the_code(tmp_path: Path) -> None:
    assert documents.stale(DOCS) == [], "run `make documents`"
    documents.write(tmp_path)
    assert documents.stale(tmp_path) == []
    (tmp_path / documents.SCHEMAS / "Gone.json").write_text("{}")
    (tmp_path / documents.DOCUMENT).write_text("{}")
    assert documents.stale(tmp_path) == ["asyncapi.json", "schemas/Gone.json"]
    documents.write(tmp_path)
    assert documents.stale(tmp_path) == []


def test_every_topic_is_a_channel() -> None:
    topics = Topics("{base}")
    addresses = [channel.address for channel in channels()]
    for name, member in inspect.getmembers(Topics):
        if name.startswith("_") or name in NO_CHANNELS:
            continue
        if isinstance(member, property):
            found = getattr(topics, name)
        elif inspect.signature(member).return_annotation == "str":
            found = member(topics, *("x" for _ in _parameters(member)))
        else:
            continue
        levels = [each for each in found.split("/") if each not in ("", "x")]
        assert any(set(levels) <= set(address.split("/")) for address in addresses), name


def _parameters(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    named = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    return [each.name for each in named if each.name != "self"]


def test_every_verb_has_a_request_and_an_answer() -> None:
    assert ANSWERS.keys() == {*VERBS, RUN, UPLOAD}
    names = {channel.name for channel in channels()}
    assert names >= {f"{verb}Request" for verb in VERBS}
    assert names >= {f"{verb}Response" for verb in ANSWERS}


def test_every_message_has_a_schema() -> None:
    schemas = asyncapi.schemas()
    declared = inspect.getmembers(messages, inspect.isclass)
    declared += inspect.getmembers(operator, inspect.isclass)
    declared += inspect.getmembers(sets, inspect.isclass)
    for name, kind in declared:
        if issubclass(kind, Struct) and kind is not Struct and name not in PARTS:
            assert name in schemas, name
            assert set(schemas[name]["properties"]) == set(kind.__struct_encode_fields__)


def test_addresses_are_distinguished_and_their_parameters_explained() -> None:
    document = asyncapi.document()
    addresses = [each["address"] for each in document["channels"].values()]
    assert len(set(addresses)) == len(addresses)
    for channel in document["channels"].values():
        assert all(each["description"] for each in channel["parameters"].values())


def test_a_schema_stands_alone() -> None:
    for name, schema in asyncapi.schemas().items():
        needed = set(_references(schema))
        assert needed <= {f"#/$defs/{each}" for each in schema.get("$defs", ())}, name


def _references(schema: Any) -> list[str]:
    match schema:
        case {"$ref": str(reference)}:
            return [reference]
        case dict():
            return [found for each in schema.values() for found in _references(each)]
        case list():
            return [found for each in schema for found in _references(each)]
    return []


@pytest.mark.parametrize("kind", ["Submit", "Cancel"])
def test_patterns_are_those_of_json_schema(kind: str) -> None:
    text = msgspec.json.encode(asyncapi.schemas()[kind]).decode()
    assert "^[A-Za-z0-9_-]{1,64}$" in text
    assert "\\\\A" not in text


def test_bytes_are_reported_with_their_user_properties() -> None:
    message = asyncapi.document()["components"]["messages"]["OutputBytes"]
    assert {"sha256", "index", "job_id"} <= message["headers"]["properties"].keys()
    assert any(isinstance(each, Bytes) for channel in channels() for each in channel.messages)
