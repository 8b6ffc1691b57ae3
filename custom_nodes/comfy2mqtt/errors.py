"""What can go wrong in these nodes.

    NodeError
    |-- SettingInvalid         an environment variable does not say what it should
    |-- ValueOutOfLimits       an input's value lies outside the limits set in its node
    |-- MediaNotHeld           an image input names bytes that nobody has put here
    |-- MediaUnreadable        bytes that are no image, or one that is too large
    |-- MediaTooLarge          media above the whole budget
    |-- ImageNotEncodable      an image that the asked-for format cannot hold
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
        super().__init__(f"No image with the SHA-256 '{sha256}' is held here.")
        self.sha256 = sha256


class MediaUnreadable(NodeError):
    """Bytes that cannot become an image."""

    code = "media_unreadable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The image cannot be read: {reason}.")
        self.reason = reason


class MediaTooLarge(NodeError):
    """Media of `size` bytes (the least that is known of it) above the `budget` for all media."""

    code = "media_too_large"

    def __init__(self, size: int, budget: int) -> None:
        super().__init__(f"{size} bytes are more than the {budget} that may be held.")
        self.size, self.budget = size, budget


class ImageNotEncodable(NodeError):
    """An image that the format asked for cannot hold, or that is no picture at all."""

    code = "image_not_encodable"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The image cannot be encoded: {reason}.")
        self.reason = reason


class OutputBudgetExceeded(NodeError):
    """The outputs of one job alone are larger than what may be held for all jobs."""

    code = "output_budget_exceeded"

    def __init__(self, size: int, budget: int) -> None:
        super().__init__(
            f"The outputs of this job take {size} bytes; {budget} may be held for all jobs "
            f"(environment variable COMFY2MQTT_OUTPUT_BYTES)."
        )
        self.size, self.budget = size, budget
