"""Mutants of workflows."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

WORKFLOWS: tuple[Mutant, ...] = (
    # Workflows.
    Mutant(
        name="deny-without-weight",
        file="bridge/workflows/catalogue.py",
        old="if matches_any(self.deny, class_type):",
        new="if not self.allow and matches_any(self.deny, class_type):",
        guarantee="a class on deny_nodes does not run, whatever allow_nodes says",
        tests=("tests/workflows/test_nodes.py",),
    ),
    Mutant(
        name="embedded-bomb",
        file="bridge/workflows/embedded.py",
        old="found = unpacking.decompress(data, MAX_TEXT)",
        new="found = unpacking.decompress(data)",
        guarantee="a compressed text in a picture is unpacked up to a bound",
        tests=("tests/workflows/test_embedded.py",),
    ),
    Mutant(
        name="batch-unbounded",
        file="bridge/workflows/binding.py",
        old="if not 0 < len(values) <= MAX_BATCH:",
        new="if not values:",
        guarantee="a batch of media is bounded",
        tests=("tests/workflows/test_binding.py",),
    ),
)
