"""A class name stands for one thing in each program: the bridge, the integration, our nodes."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.support.words import ROOT

# The names that several classes of the bridge have, each with its reason.
TWINS = {
    "Client": "bridge.client.sync is bridge.client without await, under the same names",
    "Job": "one job, as the bridge has it and as bridge.client shows it, with and without await",
    "JobOutput": "both are public: a source of an input on the wire, and bytes in bridge.client",
    "Set": "bridge.client.sync is bridge.client without await, under the same names",
}


@pytest.mark.parametrize(
    ("program", "twins"),
    [("bridge", TWINS), ("custom_components", {}), ("custom_nodes", {})],
)
def test_no_class_has_the_name_of_another(program: str, twins: dict[str, str]) -> None:
    """Private ones neither: a trace, and a search, show the name alone."""
    defined = re.compile(r"^ *class (\w+)", re.MULTILINE)
    files = (ROOT / program).rglob("*.py")
    names = Counter(name for file in files for name in defined.findall(file.read_text("utf-8")))
    assert {name for name, count in names.items() if count > 1} == set(twins)
