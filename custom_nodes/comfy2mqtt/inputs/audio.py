"""Sound."""

from __future__ import annotations

from ..declarations import CATEGORY, InputTypes
from ..formats.audio import Audio, decode
from .by_hash import hash_inputs, held_bytes, nothing_given, refusal_of_one, wants_example


class AudioInput:
    """Sound, named by the SHA-256 of its encoded bytes; of a film its sound."""

    CATEGORY = CATEGORY
    DESCRIPTION = "Sound that a request may set."
    FUNCTION = "read"
    RETURN_TYPES = ("AUDIO",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return hash_inputs("audio", "audio", example="AUDIO")

    @classmethod
    def VALIDATE_INPUTS(cls, audio: str | None) -> bool | str:  # noqa: N802 - ComfyUI's name
        """Refuse what is not held before the prompt is queued (None: it is a link)."""
        return refusal_of_one(audio)

    def check_lazy_status(self, *, audio: str, **inputs: object) -> list[str]:
        """Ask for the example only where it is used."""
        return wants_example(audio, inputs)

    def read(
        self, *, name: str, audio: str, example: Audio | None = None, **_about: str
    ) -> tuple[Audio]:
        """Return the sound. Raises MediaNotHeld, MediaUnreadable."""
        if audio:
            return (decode(held_bytes(audio)),)
        if example is None:
            raise nothing_given(name, "audio")
        return (example,)
