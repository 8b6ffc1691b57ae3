"""Mutants of the bounds that keep one client from stopping the others."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FLOODS: tuple[Mutant, ...] = (
    Mutant(
        name="refresh-without-a-rest",
        file="bridge/service/descriptions.py",
        old="            if self._waited_for:\n",
        new="            if False:\n",
        guarantee="a ComfyUI that reports its nodes slowly holds up requests a tenth of the time",
        tests=("tests/service/test_descriptions.py",),
    ),
)
