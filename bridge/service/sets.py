"""Makes the parts of sets, and runs what drives them."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from bridge.adapters.mqtt.extension import Extension
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import SizeTrial
from bridge.jobs.sets.collect import OutputRoutes, SetCollector
from bridge.jobs.sets.driver import QueueLimits, SetDriver
from bridge.media.transcode import Transcoder
from bridge.requests.admission import Admission
from bridge.requests.input_media import InputMedia
from bridge.requests.sets import SetRequests
from bridge.service.shared import SharedParts
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
    shared: SharedParts,
    *,
    admission: Admission,
    dispatcher: Dispatcher,
    library: Library,
    media: InputMedia,
    transcoder: Transcoder,
    trial: SizeTrial,
    routes: OutputRoutes,
    spend: Callable[[str, float], None],
) -> SetParts:
    """Make the parts of sets. `spend` notes a client's processor time, in seconds."""
    config, permissions = shared.config, shared.permissions
    driver = SetDriver(
        shared.journal,
        dispatcher,
        shared.publisher,
        catalogue=lambda: library.catalogue,
        limits=QueueLimits(config.max_queue, lambda client: permissions.of(client).max_queue),
        collector=SetCollector(
            shared.journal,
            shared.files,
            transcoder,
            shared.publisher,
            keep_outputs_s=config.keep_outputs_s,
            scratch=config.folder / "collecting",
            routes=routes,
            trial=trial,
        ),
        leads=shared.group.leads,
    )
    requests = SetRequests(
        admission=admission,
        driver=driver,
        journal=shared.journal,
        files=shared.files,
        media=media,
        permissions=permissions,
        catalogue=lambda: library.catalogue,
        spend=spend,
    )
    return SetParts(requests, SetExtension(driver))
