"""The contract as an AsyncAPI 3 document, JSON Schemas and a page, drawn from the typed messages.

`comfy2mqtt asyncapi` prints the document; docs/ has all three, and a test fails where they differ
from the code.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from bridge.contract import sources
from bridge.contract.channels import PARAMETERS, Bytes, Channel, channels
from bridge.contract.errors import Error
from bridge.contract.messages import CONTRACT_VERSION, Response

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_BINDING = "0.2.0"
_SOURCES = (sources.Base64, sources.Upload, sources.JobOutput, sources.Url, sources.Topic)
_PARAMETER = re.compile(r"\{(\w+)\}")


def document() -> dict[str, Any]:
    """Return the AsyncAPI document: what the bridge receives and sends."""
    found = channels()
    by_name = {channel.name: channel for channel in found}
    schemas = _schemas("#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "comfy2mqtt",
            "version": str(CONTRACT_VERSION),
            "description": "ComfyUI on the message bus. Seen from the bridge: it receives "
            "requests and sends the rest. Fields that do not apply are absent; ignore those that "
            "you do not know. docs/contract.md is the contract for people.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:1883",
                "protocol": "mqtt",
                "description": "Any MQTT broker, in MQTT 5 or 3.1.1.",
            }
        },
        "channels": {channel.name: _channel(channel) for channel in found},
        "operations": {
            f"{channel.action}{channel.name[:1].upper()}{channel.name[1:]}": _operation(
                channel, by_name
            )
            for channel in found
        },
        "components": {"messages": _messages(found), "schemas": schemas},
    }


def schemas() -> dict[str, dict[str, Any]]:
    """Return a JSON Schema for each message by its name, each complete in itself."""
    all_of_them = _schemas("#/$defs/{name}")
    files = {}
    for name, schema in all_of_them.items():
        needed = _needed(name, all_of_them)
        files[name] = {"$schema": SCHEMA_DIALECT, "$id": f"{name}.json", **schema}
        if needed:
            files[name]["$defs"] = {each: all_of_them[each] for each in needed}
    return files


def page() -> str:
    """Return the document as a page in Markdown."""
    return "\n".join(_page(channels(), _schemas("{name}"))) + "\n"


# The parts of the document.


def _channel(channel: Channel) -> dict[str, Any]:
    names = [_message_name(each, channel) for each in channel.messages]
    found: dict[str, Any] = {
        "address": channel.address,
        "title": channel.summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "parameters": {
            name: {"description": PARAMETERS[name]} for name in _PARAMETER.findall(channel.address)
        },
    }
    found["parameters"]["base"]["default"] = "comfy2mqtt"
    return found


def _operation(channel: Channel, by_name: Mapping[str, Channel]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": channel.summary,
        "bindings": {
            "mqtt": {"qos": channel.qos, "retain": channel.retain, "bindingVersion": _BINDING}
        },
    }
    if channel.action == "receive" and channel.verb is not None:
        answered = f"{channel.verb}Response"
        names = [_message_name(each, by_name[answered]) for each in by_name[answered].messages]
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{answered}"},
            "messages": [{"$ref": f"#/channels/{answered}/messages/{name}"} for name in names],
        }
    return operation


def _message_name(message: type[Struct] | Bytes, channel: Channel) -> str:
    if isinstance(message, Bytes):
        return message.name
    if channel.action == "send" and channel.verb is not None:
        return f"{channel.verb}Answer{message.__name__}"
    return message.__name__


def _messages(found: Iterable[Channel]) -> dict[str, Any]:
    messages: dict[str, Any] = {}
    for channel in found:
        for message in channel.messages:
            name = _message_name(message, channel)
            messages[name] = _message(
                name, message, answer=name.startswith(f"{channel.verb}Answer")
            )
    return messages


def _message(name: str, message: type[Struct] | Bytes, *, answer: bool) -> dict[str, Any]:
    if isinstance(message, Bytes):
        found: dict[str, Any] = {
            "name": name,
            "summary": message.summary,
            "contentType": message.content_type,
            "payload": {"type": "string", "format": "binary"},
        }
        if message.properties:
            # User Properties; only MQTT 5 carries them.
            properties = {each: {"type": "string"} for each in message.properties}
            found["headers"] = {"type": "object", "properties": properties}
        return found
    payload: dict[str, Any] = {"$ref": f"#/components/schemas/{message.__name__}"}
    if answer:
        envelope = {"$ref": "#/components/schemas/Response"}
        payload = {"allOf": [envelope, {"type": "object", "properties": {"data": payload}}]}
    return {
        "name": name,
        "summary": inspect.cleandoc(message.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "payload": payload,
    }


# Schemas.


def _schemas(template: str) -> dict[str, Any]:
    kinds: list[type[Struct]] = [Response, Error, *_SOURCES]
    for channel in channels():
        kinds += [each for each in channel.messages if not isinstance(each, Bytes)]
    _, found = msgspec.json.schema_components(list(dict.fromkeys(kinds)), ref_template=template)
    schemas = {name: _tidy(schema) for name, schema in found.items()}
    for kind in _SOURCES:
        # The tag is how they are kept, not how they are sent.
        schema = schemas[kind.__name__]
        schema["properties"].pop("type", None)
        schema["required"] = [each for each in schema["required"] if each != "type"]
    return dict(sorted(schemas.items()))


def _tidy(schema: Any) -> Any:
    """Return a schema as others read it: patterns as JavaScript has them, texts without indents."""
    match schema:
        case dict():
            return {
                key: _tidy_value(key, value)
                for key, value in schema.items()
                if not (key == "required" and value == [])
            }
        case list():
            return [_tidy(each) for each in schema]
    return schema


def _tidy_value(key: str, value: Any) -> Any:
    if key == "pattern" and isinstance(value, str):
        return value.replace(r"\A", "^").replace(r"\Z", "$")
    if key == "description" and isinstance(value, str):
        return inspect.cleandoc(value)
    return _tidy(value)


def _needed(name: str, schemas: Mapping[str, Any]) -> list[str]:
    """Return the names of all schemas that one refers to, itself left out unless it does too."""
    needed: set[str] = set()
    new = _refers(schemas[name])
    while new:
        needed |= new
        new = set().union(*(_refers(schemas[each]) for each in new)) - needed
    return sorted(needed)


def _refers(schema: Any) -> set[str]:
    match schema:
        case {"$ref": str(reference)}:
            return {reference.rpartition("/")[2]}
        case dict():
            return set().union(*map(_refers, schema.values())) if schema else set()
        case list():
            return set().union(*map(_refers, schema)) if schema else set()
    return set()


# The page.


def _page(found: Iterable[Channel], schemas: Mapping[str, Any]) -> Iterable[str]:
    yield "# Topics and messages"
    yield ""
    yield "Drawn from the code by `make documents`, as are [asyncapi.json](asyncapi.json) (AsyncAPI"
    yield "3) and the JSON Schemas in [schemas/](schemas/). [contract.md](contract.md) says what it"
    yield "all means. R: retained."
    yield ""
    yield "| topic | | message |"
    yield "|---|---|---|"
    for channel in sorted(found, key=lambda channel: channel.action):
        how = "to the bridge" if channel.action == "receive" else f"QoS {channel.qos}"
        retained = ", R" if channel.retain else ""
        messages = " or ".join(_linked(each) for each in channel.messages)
        address = channel.address.replace("{base}", "comfy2mqtt")
        yield f"| `{address}` | {how}{retained} | {messages} |"
    yield ""
    yield "An answer on `response/<verb>` is a [Response](#response) with that message as `data`."
    for name, schema in schemas.items():
        yield ""
        yield f"## {name}"
        yield ""
        yield schema.get("description", "")
        if schema.get("properties"):
            yield ""
            yield "| field | type | |"
            yield "|---|---|---|"
            for field, about in schema["properties"].items():
                yield f"| `{field}` | {_type(about)} | {_need(field, schema)} |"


def _linked(message: type[Struct] | Bytes) -> str:
    if isinstance(message, Bytes):
        return message.summary.replace("|", "/")
    return f"[{message.__name__}](#{message.__name__.lower()})"


def _type(schema: Mapping[str, Any]) -> str:
    """Return in a few words what a field takes."""
    match schema:
        case {"$ref": str(name)}:
            return f"[{name}](#{name.lower()})"
        case {"enum": list(words)}:
            return ", ".join(f"`{word}`" for word in words)
        case {"anyOf": list(several)}:
            return " or ".join(_type(each) for each in several)
        case {"type": "array", "items": dict(item)}:
            return f"list of {_type(item)}"
        case {"type": str(kind)}:
            return " ".join((kind, *_bounds(schema)))
    return "any JSON"


def _need(field: str, schema: Mapping[str, Any]) -> str:
    if field in schema.get("required", ()):
        return "required"
    default = schema["properties"][field].get("default")
    return "" if default in (None, {}, []) else f"default `{json.dumps(default)}`"


def _bounds(schema: Mapping[str, Any]) -> Iterable[str]:
    words = {
        "minimum": "from {}",
        "exclusiveMinimum": "above {}",
        "maximum": "to {}",
        "maxLength": "up to {} characters",
        "pattern": "`{}`",
    }
    for key, text in words.items():
        if key in schema:
            yield text.format(schema[key])
