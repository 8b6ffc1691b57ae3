"""The life of a job, decided in one place: events go in, effects come out. Pure.

`Core.handle(event, now)` is the whole interface. An event tells what happened: a job was accepted,
a ComfyUI began one, the journal wrote something, a client asked for a cancel, time passed. An
effect tells what to do: write this, start that there, stop it, publish a status. The core knows no
loop, no clock, no disk, no MQTT and no ComfyUI, so that every guarantee about a job's life can be
tested without any of them. `jobs/dispatcher.py` executes effects and reports back by events.
"""

from bridge.jobs.core.book import Book
from bridge.jobs.core.core import Core
from bridge.jobs.core.entry import Entry, Phase
from bridge.jobs.core.lifecycle import JobLimits, Moment

__all__ = ["Book", "Core", "Entry", "JobLimits", "Moment", "Phase"]
