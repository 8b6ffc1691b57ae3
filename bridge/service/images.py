"""Retained images, kept in the data folder, or in the journal of a group of bridges."""

from __future__ import annotations

from collections.abc import Callable

from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained_images import RetainedImages, SharedImages
from bridge.config import Config
from bridge.jobs.journal import Journal


def retained_images(
    config: Config,
    journal: Journal,
    publisher: Publisher,
    topic: Callable[[str], str],
    *,
    folder: str,
    kind: str,
) -> RetainedImages:
    """Make the store of one kind of image: a `folder`, or the journal's entries of that `kind`."""
    if config.journal:
        return SharedImages(journal.kept, kind, publisher, topic)
    return RetainedImages(config.folder / folder, publisher, topic)
