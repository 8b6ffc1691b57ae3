"""The measurements, in the order of the table. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.measurements import (
    backlog,
    blobs,
    browsers,
    crowd,
    databases,
    drawing,
    folder,
    gap,
    group,
    idle,
    intakes,
    journal,
    large,
    loop,
    members,
    models,
    others,
    parts,
    pool,
    progress,
    recovery,
    scale,
    sets,
    sinks,
    trivial,
    writers,
)
from tests.bench.stand import Measurement

SUITE: Sequence[Measurement] = tuple(
    module.MEASUREMENT
    for module in (
        trivial,
        parts,
        others,
        crowd,
        large,
        gap,
        progress,
        loop,
        sets,
        sinks,
        scale,
        pool,
        models,
        members,
        group,
        databases,
        blobs,
        recovery,
        journal,
        writers,
        intakes,
        backlog,
        drawing,
        idle,
        folder,
        browsers,
    )
)
