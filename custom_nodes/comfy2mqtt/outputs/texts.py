"""Texts."""

from __future__ import annotations

from typing import Any

from ..declarations import InputTypes
from ..errors import TextNotEncodable
from ..formats.encoded import Encoded
from .delivery import Output, output_inputs


class TextOutput(Output):
    """Sends a text."""

    DESCRIPTION = "Sends the text to the bridge, in UTF-8."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return output_inputs(
            "text",
            {"text": ("STRING", {"forceInput": True, "tooltip": "What to send."})},
        )

    def deliver(
        self, *, text: list[str], name: list[str], unique_id: list[str], **_about: list[str]
    ) -> dict[str, Any]:
        """Send each text."""
        return self.send_all(unique_id[0], name[0], (_encode_text(each) for each in text))


def _encode_text(text: str) -> Encoded:
    try:
        return Encoded(str(text).encode(), "text/plain")
    except UnicodeEncodeError as error:
        raise TextNotEncodable(f"half a surrogate pair at character {error.start}") from error
