"""Film."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from ..comfy_video import VideoFromFile
from ..declarations import CATEGORY, InputTypes
from ..formats.video import check
from ..settings import settings
from .by_hash import hash_inputs, held_bytes, nothing_given, refusal_of_one, wants_example


class VideoInput:
    """A film, named by the SHA-256 of its encoded bytes. Whoever uses it decodes it."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A film that a request may set."
    FUNCTION = "read"
    RETURN_TYPES = ("VIDEO",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return hash_inputs("video", "video", example="VIDEO")

    @classmethod
    def VALIDATE_INPUTS(cls, video: str | None) -> bool | str:  # noqa: N802 - ComfyUI's name
        """Refuse what is not held before the prompt is queued (None: it is a link)."""
        return refusal_of_one(video)

    def check_lazy_status(self, *, video: str, **inputs: object) -> list[str]:
        """Ask for the example only where it is used."""
        return wants_example(video, inputs)

    def read(self, *, name: str, video: str, example: object = None, **_about: str) -> tuple[Any]:
        """Return the film. Raises MediaNotHeld, MediaUnreadable."""
        if video:
            data = held_bytes(video)
            check(data, settings().unpacked_bytes)
            return (VideoFromFile(BytesIO(data)),)
        if example is None:
            raise nothing_given(name, "video")
        return (example,)
