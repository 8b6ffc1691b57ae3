"""Makes the parts that answer requests of clients."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from bridge.adapters.homeassistant.job_updates import CLIENT as HOME_ASSISTANT
from bridge.adapters.mqtt.retained import Retained
from bridge.adapters.mqtt.size_probe import SizeProbe
from bridge.config import Config
from bridge.jobs.sets.collect import OutputRoutes
from bridge.requests.admission import Admission, AdmissionConfig
from bridge.requests.handler import RequestHandler
from bridge.requests.permissions import Permissions
from bridge.requests.processor_time import ProcessorTime
from bridge.requests.rate_limit import RateLimiter
from bridge.requests.thumbnails import Thumbnails
from bridge.service.jobs import JobParts
from bridge.service.media import MediaParts
from bridge.service.sets import SetParts, set_parts
from bridge.service.shared import SharedParts
from bridge.workflows.catalogue import NodeRules
from bridge.workflows.library import Library


class RequestParts:
    """`handler` answers requests, `sets` drives the sets that were requested."""

    def __init__(
        self,
        shared: SharedParts,
        *,
        jobs: JobParts,
        library: Library,
        media: MediaParts,
        nodes: NodeRules,
        retained: Retained,
        size_probe: SizeProbe,
        refresh: Callable[[], Awaitable[bool]],
    ) -> None:
        """`refresh` reads the nodes of the ComfyUIs again."""
        config, permissions = shared.config, shared.permissions
        journal, files = shared.journal, shared.files
        dispatcher, sinks = jobs.dispatcher, jobs.sinks
        admission = Admission(
            AdmissionConfig(config.max_queue, permissions, nodes),
            library=library,
            journal=journal,
            files=files,
            dispatcher=dispatcher,
            media=media.inputs,
            refresh=refresh,
            check_display=media.displays.check,
            sinks=sinks.rules,
            under_way=sinks.deliveries.under_way,
        )
        processor = ProcessorTime(
            lambda client: permissions.of(client).processor_share, time.monotonic
        )
        media.dependencies.bounds.spend = processor.spend
        self.sets: SetParts = set_parts(
            shared,
            admission=admission,
            dispatcher=dispatcher,
            library=library,
            media=media.inputs,
            transcoder=media.transcoder,
            trial=size_probe,
            routes=OutputRoutes(
                deliver=sinks.deliveries.deliver,
                show=media.displays.show,
                link=media.links.set_output,
            ),
            spend=processor.spend,
        )
        self.handler = RequestHandler(
            admission=admission,
            sets=self.sets.requests,
            uploads=media.uploads,
            journal=journal,
            files=files,
            thumbnails=Thumbnails(files, media.transcoder, processor),
            dispatcher=dispatcher,
            rate_limiter=_rate_limiter(config, permissions),
            processor=processor,
            retained=retained.present,
        )


def _rate_limiter(config: Config, permissions: Permissions) -> RateLimiter:
    """Return the limits of requests. The bridge's own clients are never new."""
    own = {each.client for each in config.trigger} | {HOME_ASSISTANT}
    return RateLimiter(
        lambda client: permissions.of(client).requests_per_s,
        time.monotonic,
        new_per_s=config.new_clients_per_s,
        listed=lambda client: client in own or permissions.lists(client),
    )
