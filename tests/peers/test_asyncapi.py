"""The official AsyncAPI parser: `make test-peers` runs it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bridge.contract.channels import channels
from tests.peers import npm

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.json"
CHECK = Path(__file__).parent / "asyncapi" / "check.cjs"
PARSER = "@asyncapi/parser@3.4.0"


def test_the_official_parser_takes_the_document() -> None:
    node = npm.node()
    folder = npm.ensure(PARSER)
    done = subprocess.run(
        (node, CHECK, folder, DOCUMENT), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(channels())
    assert f"{count} channels, {count} operations" in done.stdout
