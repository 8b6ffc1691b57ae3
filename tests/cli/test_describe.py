from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest

from bridge.cli.describe import draft
from bridge.workflows import definition, graph, sidecar
from bridge.workflows.workflow import Workflow
from tests.vectors import comparison
from tests.workflows.graphs import INFO, NAMED, PLAIN


def drawn(document: Any, text: str | None = None, info: Any = INFO) -> Workflow:
    rules = None if text is None else sidecar.read(text.encode())
    return definition.build("my barn", "v1", graph.parse(document), info, rules)


@pytest.mark.parametrize("document", [PLAIN, NAMED], ids=["plain", "named"])
def test_the_draft_is_a_sidecar_that_changes_nothing(document: Any) -> None:
    plain = drawn(document).definition()
    text = draft(plain)
    assert drawn(document, text).definition() == plain
    assert "[inputs.steps]" in text
    assert "# minimum = " in text


@pytest.mark.parametrize("document", [PLAIN, NAMED], ids=["plain", "named"])
def test_what_it_has_as_comments_is_valid_too(document: Any) -> None:
    text = draft(drawn(document).definition())
    keys = ("fix", "default", "minimum", "maximum", "max_length", "choices", "title")
    said = [line.removeprefix("# ") for line in text.splitlines() if " = " in line]
    for line in said:
        tomllib.loads(line)
    assert {line.split(" = ")[0] for line in said} >= set(keys) - {"max_length", "choices"}


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_every_real_workflow_has_a_draft_that_changes_nothing(version: str) -> None:
    info = comparison.object_info(version)
    for document in comparison.load(f"given-{version}").values():
        plain = drawn(document, info=info).definition()
        assert drawn(document, draft(plain), info).definition() == plain


def test_texts_of_all_kinds_stay_in_their_line() -> None:
    odd = 'a "quoted"\nline\x7f \\ ☃ #'
    document = msgspec.json.decode(msgspec.json.encode(NAMED))
    document["1"]["inputs"] |= {"name": odd, "title": odd, "value": odd, "description": odd}
    plain = drawn(document).definition()
    assert drawn(document, draft(plain)).definition() == plain
