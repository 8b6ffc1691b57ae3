"""Film: pictures and sound to MP4 or WebM, and what is such a file already, into a clean one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, cast

import av
import numpy as np

from ..errors import MediaUnreadable, VideoNotEncodable
from .audio import FORMATS as AUDIO_FORMATS
from .audio import add_track, fill_track
from .containers import reading, writing
from .encoded import Encoded
from .image_decoding import MAX_PIXELS
from .image_encoding import flatten

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

    import torch
    from av.container import OutputContainer
    from PIL import Image

# ITU-R BT.709, as players take it for granted at high resolution. A file that does not say so is
# shown with other colours at low resolution.
_BT709 = 1
_LIMITED_RANGE = 1

_AUDIO_BIT_RATE = 192_000

# Three floats a pixel; one a sample.
_BYTES_OF_A_PIXEL = 12
_BYTES_OF_A_SAMPLE = 4
# Samples of a packet where the codec does not say: what most codecs have.
_LONGEST_FRAME = 1024


@dataclass(frozen=True, slots=True)
class _VideoFormat:
    """A kind of file, and the encoders for what goes into it.

    `worst` and `best`: the picture encoder's own scale. `carries`: codecs, by FFmpeg's names, that
    such a file may hold and players of it play.
    """

    content_type: str
    muxer: str
    encoder: str
    options: dict[str, str]
    worst: int
    best: int
    audio_encoder: str
    audio_rates: tuple[int, ...]
    carries: frozenset[str]


FORMATS = {
    "MP4": _VideoFormat(
        content_type="video/mp4",
        muxer="mp4",
        encoder="libx264",
        options={},
        worst=51,
        best=1,  # 0 would be lossless, in a profile that browsers don't play
        audio_encoder="aac",
        audio_rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
        carries=frozenset({"h264", "aac", "mp3"}),
    ),
    "WebM": _VideoFormat(
        content_type="video/webm",
        muxer="webm",
        encoder="libvpx-vp9",
        # Without a bit rate of 0 it would be the quality's upper limit. Of its speeds (0 to 8)
        # those below 4 take minutes for seconds of film on a CPU.
        options={"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"},
        worst=63,
        best=3,
        audio_encoder="libopus",
        audio_rates=AUDIO_FORMATS["Opus"].rates,
        carries=frozenset({"vp8", "vp9", "av1", "opus", "vorbis"}),
    ),
}


@dataclass(frozen=True, slots=True)
class Sound:
    """A waveform, [channels, samples], and its rate in Hz."""

    waveform: torch.Tensor
    rate: int


def encode(
    pictures: Iterable[Image.Image],
    name: str,
    *,
    frame_rate: Fraction,
    quality: int,
    sound: Sound | None = None,
) -> Encoded:
    """Encode pictures of one size, and the sound to them as far as they last.

    `name`: a key of FORMATS. `quality`: 1 to 100. The pictures are taken one at a time. A side of
    an odd number of pixels is made one longer, by its last line: both encoders keep colours for
    squares of four pixels. Raises VideoNotEncodable.
    """
    film = FORMATS[name]
    frames = iter(pictures)
    first = next(frames)
    width, height = first.width + first.width % 2, first.height + first.height % 2
    stream = BytesIO()
    try:
        with writing(stream, film.muxer) as container:
            video = _add_video(container, film, (width, height), frame_rate, quality)
            track = sound and _add_sound(container, film, sound)
            count = 0
            for picture in chain([first], frames):
                container.mux(video.encode(_frame(picture, count, frame_rate)))
                count += 1
            container.mux(video.encode(None))
            if sound and track:
                lasts = math.ceil(count / frame_rate * sound.rate)
                fill_track(container, track, sound.waveform[:, :lasts], sound.rate)
    except (av.FFmpegError, ValueError) as error:
        reason = f"{name} of {width} x {height} pixels: {error}"
        raise VideoNotEncodable(reason) from error
    return Encoded(stream.getvalue(), film.content_type, width, height)


def _add_video(
    container: OutputContainer,
    film: _VideoFormat,
    size: tuple[int, int],
    frame_rate: Fraction,
    quality: int,
) -> av.VideoStream:
    video = cast("av.VideoStream", container.add_stream(film.encoder, rate=frame_rate))
    video.width, video.height = size
    video.pix_fmt = "yuv420p"
    crf = film.worst + (film.best - film.worst) * quality / 100
    video.options = {**film.options, "crf": str(round(crf))}
    context = video.codec_context
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED_RANGE
    return video


def _add_sound(container: OutputContainer, film: _VideoFormat, sound: Sound) -> av.AudioStream:
    channels = len(sound.waveform)
    track = add_track(container, film.audio_encoder, channels, sound.rate, film.audio_rates)
    track.bit_rate = _AUDIO_BIT_RATE
    return track


def _frame(picture: Image.Image, index: int, frame_rate: Fraction) -> av.VideoFrame:
    pixels = np.asarray(flatten(picture).convert("RGB"))
    odd_rows, odd_columns = pixels.shape[0] % 2, pixels.shape[1] % 2
    if odd_rows or odd_columns:
        pixels = np.pad(pixels, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
    frame.pts, frame.time_base = index, 1 / frame_rate
    return frame


def check(data: bytes, max_bytes: int) -> None:
    """Raise MediaUnreadable unless `data` is a film that can be held.

    Its pictures have to be of a size that can be, and no more than `max_bytes` bytes once they and
    the sound are floats. For that packets are counted, and nothing is decoded: the headers of a
    film may say less than decoders find.
    """
    with reading(data, "video") as container:
        if not container.streams.video:
            raise MediaUnreadable("video", "it holds no pictures")
        video = container.streams.video[0]
        context = video.codec_context
        if not 0 < context.width * context.height <= MAX_PIXELS:
            size = f"{context.width} x {context.height}"
            raise MediaUnreadable("video", f"its pictures are of {size} pixels")
        costs = {video.index: context.width * context.height * _BYTES_OF_A_PIXEL}
        for sound in container.streams.audio[:1]:
            samples = sound.codec_context.frame_size or _LONGEST_FRAME
            costs[sound.index] = samples * sound.codec_context.channels * _BYTES_OF_A_SAMPLE
        unpacked = 0
        for packet in container.demux([each for each in container.streams if each.index in costs]):
            unpacked += costs[packet.stream.index] if packet.size else 0
            if unpacked > max_bytes:
                reason = f"it has more than the {max_bytes} bytes allowed once it is unpacked"
                raise MediaUnreadable("video", reason)


def repack(data: bytes, name: str) -> Encoded | None:
    """The film in `data` in a file of the format `name`, as it is: nothing is encoded again.

    None where that format doesn't carry what it is made of. Only pictures and sound are taken:
    ComfyUI writes the graph into the rest. Raises MediaUnreadable.
    """
    film = FORMATS[name]
    stream = BytesIO()
    with reading(data, "video") as source:
        streams = [*source.streams.video[:1], *source.streams.audio[:1]]
        codecs = {each.codec_context.codec.canonical_name for each in streams}
        if not source.streams.video or not codecs <= film.carries:
            return None
        width, height = source.streams.video[0].width, source.streams.video[0].height
        with writing(stream, film.muxer) as container:
            # Opaque: without a decoder in between, which older PyAV would lose the headers in.
            copies = {
                each.index: container.add_stream_from_template(each, opaque=True)
                for each in streams
            }
            for packet in source.demux(streams):
                # The last packet of each stream is empty, and only for decoders.
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    container.mux(packet)
    return Encoded(stream.getvalue(), film.content_type, width, height)
