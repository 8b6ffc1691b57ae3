"""`comfy2mqtt workflows describe`: the draft of a sidecar.

It says what is so already, and has the rest as comments: saved as it is, it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from msgspec import UNSET

from bridge.cli.find import client_of
from bridge.config import Config
from bridge.contract.retained import Definition
from bridge.toml import key, written

_CHOICES_SHOWN = 20


async def describe(settings: Config, name: str, workflow: str) -> int:
    """Print the draft of a workflow's sidecar."""
    async with client_of(settings, name) as client:
        click.echo(draft(await client.workflow(workflow)), nl=False)
    return 0


def draft(definition: Definition) -> str:
    """Return a sidecar in TOML for a workflow, from its definition."""
    return "\n".join(_lines(definition)) + "\n"


def _lines(definition: Definition) -> Iterator[str]:
    yield f"# Sidecar of the workflow {_comment(definition.name)}: save it beside the workflow's"
    yield "# file, under the same name with .toml. Remove the lines that you do not change."
    yield ""
    yield f"title = {written(definition.title)}"
    about = "" if definition.description is UNSET else definition.description
    yield f"{'' if about else '# '}description = {written(about)}"
    others = []
    for name, schema in definition.inputs["properties"].items():
        if "x-place" in schema:
            others.append((name, schema))
        else:
            yield ""
            yield from _input(name, schema)
    for output in definition.outputs:
        yield ""
        yield f"[outputs.{key(output.name)}]"
        yield f"# {output.kind}"
        yield f"# rename = {written(output.name)}"
        yield "# hide = true"
    yield ""
    yield "# The inputs of a request with an empty payload, such as a button's."
    yield "[press]"
    yield "# ignore_payload = true"
    yield f"# inputs = {written(definition.example)}"
    if others:
        yield ""
        yield "# Other inputs, known only by their place; a table here gives one a name."
        for name, schema in others:
            yield f"# [inputs.{key(name)}]  # {schema['x-kind']}, {_comment(schema['x-place'])}"


def _input(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"[inputs.{key(name)}]"
    yield f"# {schema['x-kind']}"
    if "title" in schema:
        yield f"title = {written(schema['title'])}"
    if "description" in schema:
        yield f"description = {written(schema['description'])}"
    yield f"# rename = {written(name)}"
    yield "# hide = true"
    if "default" in schema:
        yield f"# fix = {written(schema['default'])}"
        yield f"# default = {written(schema['default'])}"
    elif schema["x-kind"] == "seed":
        yield "# fix = 0"
    for rule, said in (("minimum", "minimum"), ("maximum", "maximum"), ("max_length", "maxLength")):
        if said in schema:
            yield f"# {rule} = {written(schema[said])}"
    if "enum" in schema:
        more = " # and more" if schema["enum"][_CHOICES_SHOWN:] else ""
        yield f"# choices = {written(schema['enum'][:_CHOICES_SHOWN])}{more}"
    if "x-choices" in schema:
        yield f"# choices = []  # of bridge/choices/{schema['x-choices']}"


def _comment(text: str) -> str:
    """Return a text that stays in its line."""
    return written(text)[1:-1]
