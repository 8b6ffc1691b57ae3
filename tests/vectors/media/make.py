"""Makes the files of this folder, in it, with PyAV: run it with the Python of a ComfyUI."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av  # type: ignore[import-not-found]
import numpy as np  # type: ignore[import-not-found]

RATE = 48_000


def film(path: str, codec: str, size: tuple[int, int], frames: int, **options: Any) -> None:
    """White pictures at 25 a second, with silence if `sound` names a codec."""
    container = av.open(path, "w", format=options.get("form"), options=options.get("muxer", {}))
    video = container.add_stream(codec, rate=25)
    video.width, video.height = size
    video.pix_fmt = "yuv420p"
    video.options = options.get("encoder", {})
    track = _track(container, options["sound"]) if "sound" in options else None
    white = np.full((size[1], size[0], 3), 255, np.uint8)
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(white, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        container.mux(video.encode(frame))
    container.mux(video.encode(None))
    if track is not None:
        _silence(container, track, frames / 25)
    container.close()


def sound(path: str, codec: str, form: str | None = None) -> None:
    """A fifth of a second of silence."""
    container = av.open(path, "w", format=form)
    _silence(container, _track(container, codec), 0.2)
    container.close()


def _track(container: Any, codec: str) -> Any:
    track = container.add_stream(codec, rate=RATE, layout="stereo")
    track.options = {"strict": "-2"}
    return track


def _silence(container: Any, track: Any, seconds: float) -> None:
    samples = np.zeros((1, int(seconds * RATE) * 2), np.int16)
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
    frame.sample_rate, frame.pts = RATE, 0
    container.mux(track.encode(frame))
    container.mux(track.encode(None))


film("bomb.mp4", "libx264", (3840, 2160), 94, encoder={"preset": "ultrafast"})
film("small.mp4", "libx264", (64, 48), 10, sound="aac")
film(
    "frag.mp4",
    "libx264",
    (64, 48),
    10,
    sound="aac",
    muxer={"movflags": "frag_keyframe+empty_moov"},
)
film("small.mov", "libx264", (64, 48), 10, sound="aac")
film("small.webm", "libvpx-vp9", (64, 48), 10, sound="libopus")
film("live.webm", "libvpx", (64, 48), 10, muxer={"live": "1"})
film("small.mkv", "libx264", (64, 48), 10, sound="vorbis", form="matroska")
film("small.avi", "mpeg4", (64, 48), 10, sound="libmp3lame")
sound("small.flac", "flac")
sound("opus.ogg", "libopus", "ogg")
sound("vorbis.ogg", "vorbis", "ogg")
sound("small.mp3", "libmp3lame")
sound("small.m4a", "aac", "ipod")
