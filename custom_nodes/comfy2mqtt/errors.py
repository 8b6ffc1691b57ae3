"""The errors of these nodes.

    NodeError
    |-- SettingInvalid         an environment variable does not say what it should
    |-- ValueOutOfLimits       an input's value lies outside the limits set in its node
    |-- MediaNotHeld           a media input names bytes that nobody has put here
    |-- MediaUnreadable        bytes that are not what the input takes, or too much of it
    |-- MediaTooLarge          media above the whole budget
    |-- ImagesDiffer           images of several sizes where one batch is asked for
    |-- NotEncodable           something that the asked-for format cannot hold
    |   |-- ImageNotEncodable
    |   |-- AudioNotEncodable
    |   |-- VideoNotEncodable
    |   |-- TextNotEncodable
    |   `-- LatentNotEncodable
    `-- OutputBudgetExceeded   one job's outputs are larger than the budget for all

Raised from a node, each of them fails the job: ComfyUI sends class and text as `execution_error`.
"""

from __future__ import annotations


class NodeError(Exception):
    """The root. `code` is stable; the text is for people."""

    code = "node_error"


class SettingInvalid(NodeError):
    """An environment variable that does not say what it should."""

    code = "setting_invalid"

    def __init__(self, key: str, value: str, allowed: str) -> None:
        super().__init__(f"{key} is {value!r}; it has to be {allowed}.")
        self.key, self.value, self.allowed = key, value, allowed


class ValueOutOfLimits(NodeError):
    """The value of the input `name` breaks a limit that its own node sets."""

    code = "value_out_of_limits"

    def __init__(self, name: str, value: object, limit: str) -> None:
        super().__init__(f"Input '{name}': {value} is {limit}.")
        self.name, self.value, self.limit = name, value, limit


class MediaNotHeld(NodeError):
    """No bytes with this SHA-256 are held here (never sent, evicted, or ComfyUI restarted)."""

    code = "media_not_held"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"No media with the SHA-256 '{sha256}' is held here.")
        self.sha256 = sha256


class MediaUnreadable(NodeError):
    """Bytes that cannot become the `kind` of media asked for: image, audio or video."""

    code = "media_unreadable"

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"The {kind} cannot be read: {reason}.")
        self.kind, self.reason = kind, reason


class MediaTooLarge(NodeError):
    """Media of `size` bytes (the least that is known of it) above the `budget` for all media."""

    code = "media_too_large"

    def __init__(self, size: int, budget: int) -> None:
        super().__init__(f"{size} bytes are more than the {budget} that may be held.")
        self.size, self.budget = size, budget


class ImagesDiffer(NodeError):
    """Images for one batch that are not all of one size; `sizes` as (width, height)."""

    code = "images_differ"

    def __init__(self, name: str, sizes: list[tuple[int, int]]) -> None:
        given = ", ".join(f"{width} x {height}" for width, height in sizes)
        super().__init__(
            f"Input '{name}': a batch takes images of one size, not of {given} pixels."
        )
        self.name, self.sizes = name, sizes


class NotEncodable(NodeError):
    """Something that the format asked for cannot hold, or that is not what it should be."""

    code = "not_encodable"
    noun = "output"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The {self.noun} cannot be encoded: {reason}.")
        self.reason = reason


class ImageNotEncodable(NotEncodable):
    """An image, a mask or an animation."""

    code = "image_not_encodable"
    noun = "image"


class AudioNotEncodable(NotEncodable):
    """Sound."""

    code = "audio_not_encodable"
    noun = "audio"


class VideoNotEncodable(NotEncodable):
    """A film."""

    code = "video_not_encodable"
    noun = "video"


class TextNotEncodable(NotEncodable):
    """A text that UTF-8 cannot hold."""

    code = "text_not_encodable"
    noun = "text"


class LatentNotEncodable(NotEncodable):
    """A latent that is no plain tensor."""

    code = "latent_not_encodable"
    noun = "latent"


class OutputBudgetExceeded(NodeError):
    """The outputs of one job alone are larger than what may be held for all jobs."""

    code = "output_budget_exceeded"

    def __init__(self, size: int, budget: int) -> None:
        super().__init__(
            f"The outputs of this job take {size} bytes; {budget} may be held for all jobs "
            f"(environment variable COMFY2MQTT_OUTPUT_BYTES)."
        )
        self.size, self.budget = size, budget
