"""Sound."""

from __future__ import annotations

from typing import Any

from ..declarations import InputTypes, choice, number
from ..formats.audio import BIT_DEPTHS, FORMATS, Audio, encode, split_audio
from .delivery import Output, output_inputs, unless_interrupted


class AudioOutput(Output):
    """Sends each piece of sound in a batch."""

    DESCRIPTION = "Sends the sound to the bridge, without a file on disk."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return output_inputs(
            "audio",
            {"audio": ("AUDIO", {"tooltip": "What to send: one output for each in a batch."})},
            format=choice(list(FORMATS), "FLAC", "How the sound is encoded."),
            bit_depth=choice(list(BIT_DEPTHS), BIT_DEPTHS[0], "For FLAC and WAV."),
            bit_rate=number(192, 16, 320, "In kbit/s, for MP3 and Opus."),
        )

    def deliver(
        self,
        *,
        audio: list[Audio],
        name: list[str],
        format: list[str],  # noqa: A002 - the input's name in the graph
        bit_depth: list[str],
        bit_rate: list[int],
        unique_id: list[str],
        **_about: list[str],
    ) -> dict[str, Any]:
        """Send each waveform of each batch."""
        pieces = (
            (waveform, int(batch["sample_rate"]))
            for batch in audio
            for waveform in split_audio(batch)
        )
        return self.send_all(
            unique_id[0],
            name[0],
            (
                encode(
                    waveform, hertz, format[0], bit_depth=bit_depth[0], bit_rate=bit_rate[0] * 1000
                )
                for waveform, hertz in unless_interrupted(pieces)
            ),
        )
