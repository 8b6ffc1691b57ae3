"""Film, from pictures or from a VIDEO."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from typing import TYPE_CHECKING, Any

import av

from ..declarations import InputTypes, choice, number, rate
from ..errors import VideoNotEncodable
from ..formats.audio import Audio, split_audio
from ..formats.image_encoding import split_batch
from ..formats.video import FORMATS, Sound, encode, repack
from .delivery import Output, output_inputs, unless_interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from ..formats.encoded import Encoded

try:
    from ..comfy_video import VideoFromFile
except ImportError:  # an older ComfyUI has no VIDEO; pictures make a film nevertheless
    VideoFromFile = None

# In which ComfyUI, too, counts frame rates: 29.97 is 2997/100.
_RATE_STEPS = 1000
DEFAULT_FPS = 24.0


class VideoOutput(Output):
    """Sends each film."""

    DESCRIPTION = (
        "Sends a film to the bridge: a VIDEO, or a batch of images, with sound or without."
    )

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        inputs = output_inputs(
            "video",
            {},
            format=choice(list(FORMATS), "MP4", "MP4 is H.264 and AAC, WebM is VP9 and Opus."),
            quality=number(60, 1, 100, "For what is encoded here."),
        )
        inputs["optional"] = {
            "video": (
                "VIDEO",
                {"tooltip": "A film; what is in the format already is not encoded again."},
            ),
            "images": ("IMAGE", {"tooltip": "Or its pictures: one output for each batch."}),
            "audio": ("AUDIO", {"tooltip": "The sound to the pictures."}),
            "fps": rate(DEFAULT_FPS, 240.0),
            **inputs["optional"],
        }
        return inputs

    def deliver(
        self,
        *,
        name: list[str],
        format: list[str],  # noqa: A002 - the input's name in the graph
        quality: list[int],
        unique_id: list[str],
        video: list[Any] | None = None,
        images: list[torch.Tensor] | None = None,
        audio: list[Audio] | None = None,
        fps: list[float] | None = None,
        **_about: list[str],
    ) -> dict[str, Any]:
        """Send each film, or each batch of images as one."""
        if (video is None) == (images is None):
            raise VideoNotEncodable("the node takes either a video or images")
        films: Iterator[Encoded]
        if images is None:
            films = (_film(each, format[0], quality[0]) for each in video or [])
        else:
            frame_rate = _frame_rate(fps[0] if fps else DEFAULT_FPS)
            sounds = _as_many(audio or [None], len(images))
            films = (
                _encode(batch, sound, frame_rate, format[0], quality[0])
                for batch, sound in zip(images, sounds, strict=True)
            )
        return self.send_all(unique_id[0], name[0], films)


def _as_many(sounds: Sequence[Audio | None], count: int) -> list[Audio | None]:
    """As ComfyUI does with the shorter of two lists: the last is taken again."""
    return [sounds[min(index, len(sounds) - 1)] for index in range(count)]


def _film(video: Any, name: str, quality: int) -> Encoded:
    """A VIDEO of ComfyUI's, as it is if it is in the format already."""
    return _as_it_is(video, name) or _encode_again(video, name, quality)


def _as_it_is(video: Any, name: str) -> Encoded | None:
    if VideoFromFile is None or not isinstance(video, VideoFromFile):
        return None
    file = BytesIO()
    try:
        # Without a format ComfyUI copies the packets; in newer versions, those of a cut only.
        video.save_to(file)
    except (av.FFmpegError, OSError, ValueError):
        return None  # of a format that cannot be written, such as a list of pictures
    return repack(file.getvalue(), name)


def _encode_again(video: Any, name: str, quality: int) -> Encoded:
    parts = video.get_components()
    return _encode(parts.images, parts.audio, _frame_rate(parts.frame_rate), name, quality)


def _encode(
    images: torch.Tensor, audio: Audio | None, frame_rate: Fraction, name: str, quality: int
) -> Encoded:
    pictures = unless_interrupted(split_batch(images))
    return encode(pictures, name, frame_rate=frame_rate, quality=quality, sound=_sound(audio))


def _frame_rate(fps: float | Fraction) -> Fraction:
    return Fraction(round(fps * _RATE_STEPS), _RATE_STEPS)


def _sound(audio: Audio | None) -> Sound | None:
    """The first waveform, where there is any."""
    if not audio or audio["waveform"].numel() == 0:
        return None
    waveforms: Iterator[torch.Tensor] = split_audio(audio)
    return Sound(next(waveforms), int(audio["sample_rate"]))
