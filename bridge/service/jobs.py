"""Makes the parts that run jobs: the dispatcher, the sinks of outputs, warm-ups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from bridge import tracing
from bridge.adapters.mqtt.size_probe import SizeProbe
from bridge.comfyui.instance import Instance
from bridge.jobs.core import JobLimits
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.finalizer import Finalizer
from bridge.jobs.input_files import InputFiles
from bridge.jobs.listener import Listener
from bridge.jobs.warmup import Warmup
from bridge.service.media import MediaParts
from bridge.service.shared import SharedParts
from bridge.service.sinks import SinkParts
from bridge.workflows.library import Library


class JobParts:
    """`dispatcher` runs jobs, `sinks` deliver their outputs, `warmups` keep models loaded."""

    def __init__(
        self,
        shared: SharedParts,
        *,
        instances: Sequence[Instance],
        library: Library,
        listener: Listener,
        media: MediaParts,
        size_probe: SizeProbe,
    ) -> None:
        """Make the parts. `listener` receives the events of all jobs. Raises ConfigError."""
        config = shared.config
        self.sinks = SinkParts(shared, read=self._read_stored)
        self.dispatcher = Dispatcher(
            journal=shared.journal,
            files=shared.files,
            instances=instances,
            listener=listener,
            dependencies=media.dependencies,
            can_run=library.can_run,
            limits=JobLimits(
                config.max_attempts,
                config.timeout_s,
                config.silence_s,
                config.reorder_s,
                config.quarantine_s,
            ),
            input_files=InputFiles(instances, config.keep_uploads_s),
            finalizer=Finalizer(
                shared.journal,
                shared.files,
                listener,
                config.keep_outputs_s,
                show=media.displays.show,
                transcoder=media.transcoder,
                link=media.links.output,
                trace=tracing.traces(),
                result_room=shared.publisher.result_room,
                trial=size_probe,
            ),
            deliver=self.sinks.deliveries.deliver,
        )
        warm = {config.instance_name(each): each.warm for each in config.comfyuis if each.warm}
        self.warmups = [
            Warmup(each, warm[each.name], library=library, dispatcher=self.dispatcher)
            for each in instances
            if each.name in warm
        ]

    def _read_stored(self, sha256: str, size: int) -> AsyncIterator[bytes]:
        return self.dispatcher.delivery.read(sha256, size)
