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
    Mutant(
        name="unpacked-bytes-unbounded",
        file="bridge/media/extents/__init__.py",
        old="        if found > allowed:\n",
        new="        if False:\n",
        guarantee="media that would unpack to gigabytes are refused by their headers",
        tests=("tests/media/extents/test_extents.py", "tests/requests/test_admission.py"),
    ),
    Mutant(
        name="pictures-of-a-film-not-counted",
        file="bridge/media/extents/films.py",
        old='elif kind in (b"stsz", b"stz2"):',
        new="elif False:",
        guarantee="the pictures of a film are counted where they are listed",
        tests=("tests/media/extents/test_extents.py",),
    ),
    Mutant(
        name="inputs-of-a-request-not-summed",
        file="bridge/media/extents/__init__.py",
        old="    if unpacked > limits.unpacked:\n",
        new="    if False:\n",
        guarantee="all inputs of a request together are bounded by what they unpack to",
        tests=("tests/media/extents/test_extents.py",),
    ),
)
