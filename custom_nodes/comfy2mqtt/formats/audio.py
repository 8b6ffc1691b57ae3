"""Sound: encoded bytes from and to ComfyUI's waveforms.

A waveform is [channels, samples], floats of -1.0 to 1.0; ComfyUI's AUDIO is a dictionary of a
batch of them, [count, channels, samples], and their sample rate in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, TypedDict, cast

import av
import numpy as np
import torch

from ..errors import AudioNotEncodable, MediaUnreadable
from .containers import reading, writing
from .encoded import Encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import OutputContainer
    from numpy.typing import NDArray

# Over all channels: 1 GiB as a tensor, 46 minutes of stereo at 48 kHz. A few kilobytes of Opus
# can unpack to hours of silence.
MAX_SAMPLES = 1 << 28

# What is given to an encoder at a time.
_CHUNK_SAMPLES = 1 << 16

# By the number of channels. Others than these have no place for each of their channels.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 8: "7.1"}
_BATCH_DIMENSIONS = 3

_STEPS_16 = 1 << 15
_STEPS_24 = 1 << 23
# By bit depth: FFmpeg's name for such samples, and the steps on each side of 0.
_DEPTHS = {"16": ("s16", _STEPS_16), "24": ("s32", _STEPS_24), "": ("flt", 0)}

BIT_DEPTHS = ("16", "24")


class Audio(TypedDict):
    """ComfyUI's AUDIO."""

    waveform: torch.Tensor
    sample_rate: int


@dataclass(frozen=True, slots=True)
class _AudioFormat:
    """A lossless format has an encoder for each bit depth, any other has the one called "".

    `rates`: the sample rates that it knows, in Hz; none: any. `most_bit_rate`: bit/s a channel.
    """

    content_type: str
    muxer: str
    encoders: dict[str, str]
    rates: tuple[int, ...] = ()
    most_bit_rate: int = 320_000


FORMATS = {
    "FLAC": _AudioFormat("audio/flac", "flac", {"16": "flac", "24": "flac"}),
    "WAV": _AudioFormat("audio/wav", "wav", {"16": "pcm_s16le", "24": "pcm_s24le"}),
    "MP3": _AudioFormat(
        "audio/mpeg",
        "mp3",
        {"": "libmp3lame"},
        rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    ),
    "Opus": _AudioFormat(
        "audio/ogg",
        "ogg",
        {"": "libopus"},
        rates=(8_000, 12_000, 16_000, 24_000, 48_000),
        most_bit_rate=256_000,
    ),
}


def decode(data: bytes) -> Audio:
    """The first sound track in `data`, in full. Raises MediaUnreadable."""
    pieces: list[NDArray[np.float32]] = []
    rate = 0
    count = 0
    with reading(data, "audio") as container:
        if not container.streams.audio:
            raise MediaUnreadable("audio", "it holds no sound")
        for frame in container.decode(container.streams.audio[0]):
            piece = _samples(frame)
            rate = rate or frame.sample_rate
            if rate != frame.sample_rate or (pieces and len(piece) != len(pieces[0])):
                raise MediaUnreadable("audio", "its rate or its channels change on the way")
            count += piece.size
            if count > MAX_SAMPLES:
                raise MediaUnreadable(
                    "audio", f"it has more than the {MAX_SAMPLES} samples allowed"
                )
            pieces.append(piece)
    if count == 0:
        raise MediaUnreadable("audio", "it holds no sound")
    waveform = torch.from_numpy(np.concatenate(pieces, axis=1))
    return {"waveform": waveform.unsqueeze(0), "sample_rate": rate}


def _samples(frame: av.AudioFrame) -> NDArray[np.float32]:
    """A frame's samples as floats: [channels, samples]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(frame.layout.channels)).T
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    full_scale = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    middle = full_scale if samples.dtype.kind == "u" else np.float32(0.0)
    return (samples.astype(np.float32) - middle) / full_scale


def split_audio(audio: Audio) -> Iterator[torch.Tensor]:
    """The waveforms of a batch: floats on the CPU. Raises AudioNotEncodable."""
    batch = audio["waveform"]
    if batch.ndim != _BATCH_DIMENSIONS or batch.numel() == 0:
        raise AudioNotEncodable(f"a tensor of shape {tuple(batch.shape)} holds no sound")
    if batch.shape[1] not in _LAYOUTS:
        raise AudioNotEncodable(f"{batch.shape[1]} channels have no order that all agree on")
    for waveform in batch:
        yield _as_floats(waveform.detach().cpu())


def _as_floats(waveform: torch.Tensor) -> torch.Tensor:
    if not waveform.is_floating_point():
        # What ComfyUI itself makes of a film's PCM track.
        return waveform.float() / -float(torch.iinfo(waveform.dtype).min)
    if bool(torch.isnan(waveform.amin())):
        raise AudioNotEncodable("it holds values that are not numbers (NaN)")
    return waveform.float().clamp(-1.0, 1.0)


def encode(
    waveform: torch.Tensor, rate: int, name: str, *, bit_depth: str, bit_rate: int
) -> Encoded:
    """Encode one waveform.

    `name`: a key of FORMATS. `bit_depth` (one of BIT_DEPTHS) is for FLAC and WAV, which lose
    nothing else; `bit_rate`, in bit/s, for MP3 and Opus, which also take the next higher sample
    rate that they know. Raises AudioNotEncodable.
    """
    audio_format = FORMATS[name]
    lossy = audio_format.encoders.get("")
    stream = BytesIO()
    try:
        with writing(stream, audio_format.muxer) as container:
            if lossy:
                track = add_track(container, lossy, len(waveform), rate, audio_format.rates)
                track.bit_rate = min(bit_rate, audio_format.most_bit_rate * len(waveform))
                fill_track(container, track, waveform, rate)
            else:
                track = add_track(container, audio_format.encoders[bit_depth], len(waveform), rate)
                track.codec_context.format = _DEPTHS[bit_depth][0]
                fill_track(container, track, waveform, rate, bit_depth)
    except (av.FFmpegError, ValueError) as error:
        reason = f"{name} of {len(waveform)} channels at {rate} Hz: {error}"
        raise AudioNotEncodable(reason) from error
    return Encoded(stream.getvalue(), audio_format.content_type)


def add_track(
    container: OutputContainer,
    encoder: str,
    channels: int,
    rate: int,
    rates: tuple[int, ...] = (),
) -> av.AudioStream:
    """A sound track of as many channels, at the next higher of the `rates` where there are any."""
    taken = min((known for known in rates if known >= rate), default=max(rates, default=rate))
    track = container.add_stream(encoder, rate=taken, layout=_LAYOUTS[channels])
    return cast("av.AudioStream", track)


def fill_track(
    container: OutputContainer,
    track: av.AudioStream,
    waveform: torch.Tensor,
    rate: int,
    bit_depth: str = "",
) -> None:
    """Encode a waveform, to the end of the track. FFmpeg brings it to the track's rate."""
    samples = waveform.numpy()
    sample_format, steps = _DEPTHS[bit_depth]
    for start in range(0, samples.shape[1], _CHUNK_SAMPLES):
        chunk = samples[:, start : start + _CHUNK_SAMPLES]
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(_quantise(chunk, steps)),
            format=f"{sample_format}p",
            layout=_LAYOUTS[len(samples)],
        )
        frame.sample_rate, frame.pts = rate, start
        container.mux(track.encode(frame))
    container.mux(track.encode(None))


def _quantise(samples: NDArray[np.float32], steps: int) -> NDArray[Any]:
    """To `steps` on each side of 0, as 16 or (24 of) 32-bit integers; 0 leaves floats as they are.

    Samples that came as integers of no more bits become just these again.
    """
    if not steps:
        return samples
    whole = np.clip(np.round(samples * np.float32(steps)), -steps, steps - 1)
    if steps == _STEPS_16:
        return whole.astype(np.int16)
    return whole.astype(np.int32) << 8
