"""Makes the parts of sets, and runs what drives them."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.config import Config
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import SizeTrial
from bridge.jobs.journal import Journal
from bridge.jobs.sets.collect import OutputRoutes, SetCollector
from bridge.jobs.sets.driver import QueueLimits, SetDriver
from bridge.media.files import Files
from bridge.media.transcode import Transcoder
from bridge.requests.admission import Admission
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import Permissions
from bridge.requests.sets import SetRequests
from bridge.workflows.library import Library


class SetExtension(Extension):
    """Drives sets while the bridge runs."""

    def __init__(self, driver: SetDriver) -> None:
        self._driver = driver

    async def start(self) -> None:
        """Delete what an earlier run left half made."""
        await self._driver.open()

    async def run(self) -> None:
        """Make the jobs of sets and end sets, until cancelled."""
        await self._driver.run()


class SetParts(Struct, frozen=True):
    """The parts that answer requests for sets, and that drive them."""

    requests: SetRequests
    extension: SetExtension


def set_parts(
    config: Config,
    *,
    admission: Admission,
    dispatcher: Dispatcher,
    journal: Journal,
    files: Files,
    library: Library,
    media: InputMedia,
    permissions: Permissions,
    publisher: Publisher,
    transcoder: Transcoder,
    trial: SizeTrial,
    routes: OutputRoutes,
    spend: Callable[[str, float], None],
    leads: Callable[[], bool],
) -> SetParts:
    """Make the parts of sets. `spend` notes a client's processor time, in seconds.

    `leads`: True while this bridge is the one to drive the sets.
    """
    driver = SetDriver(
        journal,
        dispatcher,
        publisher,
        catalogue=lambda: library.catalogue,
        limits=QueueLimits(config.max_queue, lambda client: permissions.of(client).max_queue),
        collector=SetCollector(
            journal,
            files,
            transcoder,
            publisher,
            keep_outputs_s=config.keep_outputs_s,
            scratch=config.folder / "collecting",
            routes=routes,
            trial=trial,
        ),
        leads=leads,
    )
    requests = SetRequests(
        admission=admission,
        driver=driver,
        journal=journal,
        files=files,
        media=media,
        permissions=permissions,
        catalogue=lambda: library.catalogue,
        spend=spend,
    )
    return SetParts(requests, SetExtension(driver))
