"""Makes the parts for media: inputs, uploads, displays, and links to outputs."""

from __future__ import annotations

from msgspec import UNSET

from bridge.adapters.displays import Displays
from bridge.adapters.mqtt.last_values import LastValues
from bridge.adapters.mqtt.retained_images import retained_images
from bridge.contract.errors import DependencyFailed
from bridge.contract.sources import Url
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.uploads import UploadRules, Uploads
from bridge.media.download import DownloadRules, download
from bridge.media.extents import MediaLimits
from bridge.media.transcode import Transcoder
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import setting
from bridge.service.public_urls import Links
from bridge.service.shared import SharedParts


class MediaParts:
    """The parts that read and store inputs, and that show outputs. Close `transcoder`."""

    def __init__(self, shared: SharedParts) -> None:
        """Make the parts. Raises ConfigError."""
        config, permissions = shared.config, shared.permissions
        journal, files = shared.journal, shared.files
        self._config = config
        self._permissions = permissions
        self.last_values = LastValues()
        self.transcoder = Transcoder()
        self.dependencies = Dependencies(
            journal,
            files,
            Sources(self._download, self.last_values.get),
            self.transcoder,
            MediaLimits(
                config.max_input_pixels,
                config.max_input_frames,
                config.max_input_seconds,
                config.max_input_unpacked,
            ),
        )
        self.uploads = Uploads(
            config.folder / "uploads",
            journal,
            files,
            UploadRules(
                config.max_upload,
                lambda client: permissions.of(client).max_uploads,
                config.keep_uploads_s,
            ),
        )
        self.inputs = InputMedia(
            self.dependencies, self.uploads, permissions, config.max_inline_input
        )
        self.links = Links.of(config, files)
        addresses = self.links.addresses
        self.displays = Displays(
            config.display,
            images=retained_images(
                config.folder / "displays",
                journal.adapter_store if config.journal else None,
                "display",
                shared.publisher,
                shared.topics.display_image,
            ),
            publisher=shared.publisher,
            topics=shared.topics,
            rights=permissions,
            transcoder=self.transcoder,
            **({} if addresses is None else {"url_of": addresses.display}),
        )

    async def _download(self, client: str, wanted: Url) -> bytes:
        """Download a URL, or its backup URL if that fails."""
        config = self._config
        rules = DownloadRules(
            self._permissions.of(client).url_hosts,
            setting(client, "url_hosts"),
            max_bytes=config.max_upload,
            timeout_s=config.url_timeout_s,
        )
        try:
            return await download(wanted.url, rules)
        except DependencyFailed:
            if wanted.backup_url is UNSET:
                raise
        return await download(wanted.backup_url, rules)
