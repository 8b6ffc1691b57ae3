from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.comfyui import Refused
from tests.custom_nodes.graphs import deliver, node
from tests.custom_nodes.sounds import noise as sound
from tests.custom_nodes.sounds import read_wav, tone, wav

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph, Output

pytestmark = pytest.mark.comfyui


def audio_graph(audio: str, **inputs: Any) -> Graph:
    """From our audio input straight to our audio output, node 2."""
    return {
        "1": node("Comfy2MQTTAudioInput", name="voice", audio=audio),
        "2": deliver("Audio", audio=["1", 0], **inputs),
    }


async def convert(comfyui: ComfyUI, data: bytes, **inputs: Any) -> Output:
    """Return what the node makes of an encoded sound."""
    run = await comfyui.run(audio_graph(await comfyui.put_media(data, "audio/wav"), **inputs))
    assert run.succeeded, run.error
    (made,) = run.outputs
    return made


@pytest.mark.parametrize("channels", [1, 2, 6])
async def test_wav_comes_through_sample_by_sample(comfyui: ComfyUI, channels: int) -> None:
    samples = sound(channels=channels, seed=channels)
    made = await convert(comfyui, wav(samples, channels=channels), format="WAV")
    assert read_wav(made.data) == (44_100, channels, 2, samples)


@pytest.mark.parametrize("bit_depth", ["16", "24"])
async def test_flac_loses_nothing(comfyui: ComfyUI, bit_depth: str) -> None:
    samples = sound(seed=3)
    flac = await convert(comfyui, wav(samples, rate=22_050), bit_depth=bit_depth)
    assert flac.data.startswith(b"fLaC")
    back = await convert(comfyui, flac.data, format="WAV")
    assert read_wav(back.data) == (22_050, 2, 2, samples)


async def test_twenty_four_bits_are_kept_where_they_are_asked_for(comfyui: ComfyUI) -> None:
    samples = bytes(range(240)) * 3
    flac = await convert(comfyui, wav(samples, width=3), bit_depth="24")
    back = await convert(comfyui, flac.data, format="WAV", bit_depth="24")
    assert read_wav(back.data) == (44_100, 2, 3, samples)


async def test_eight_bits_are_read_around_their_middle(comfyui: ComfyUI) -> None:
    made = await convert(comfyui, wav(bytes([0, 128, 255]), channels=1, width=1), format="WAV")
    assert read_wav(made.data)[3] == struct.pack("<3h", -(2**15), 0, 127 * 256)


@pytest.mark.parametrize(
    ("wanted", "content_type", "magic"),
    [
        ("FLAC", "audio/flac", b"fLaC"),
        ("WAV", "audio/wav", b"RIFF"),
        ("MP3", "audio/mpeg", b"ID3"),
        ("Opus", "audio/ogg", b"OggS"),
    ],
)
async def test_the_format_is_the_one_asked_for(
    comfyui: ComfyUI, wanted: str, content_type: str, magic: bytes
) -> None:
    made = await convert(comfyui, wav(sound(seed=4)), format=wanted)
    assert made.data.startswith(magic)
    assert made.header["content_type"] == content_type
    assert (made.header["width"], made.header["height"]) == (0, 0)


@pytest.mark.parametrize(("wanted", "rate"), [("MP3", 44_100), ("MP3", 96_000), ("Opus", 22_050)])
async def test_a_lossy_format_keeps_length_and_tone_at_any_rate(
    comfyui: ComfyUI, wanted: str, rate: int
) -> None:
    lossy = await convert(comfyui, wav(tone(rate, rate), rate=rate, channels=1), format=wanted)
    back = await convert(comfyui, lossy.data, format="WAV")
    found_rate, channels, _, samples = read_wav(back.data)
    values = struct.unpack(f"<{len(samples) // 2}h", samples)
    assert channels == 1
    assert len(values) / found_rate == pytest.approx(1.0, abs=0.06)
    middle = values[len(values) // 4 : len(values) // 4 * 3]
    rising = sum(a < 0 <= b for a, b in pairwise(middle))
    assert rising / (len(middle) / found_rate) == pytest.approx(440, abs=4)
    assert max(middle) == pytest.approx(16_000, rel=0.05)


@pytest.mark.parametrize("wanted", ["MP3", "Opus"])
async def test_less_bit_rate_is_fewer_bytes(comfyui: ComfyUI, wanted: str) -> None:
    data = wav(sound(count=20_000, seed=5))
    small = await convert(comfyui, data, format=wanted, bit_rate=32)
    large = await convert(comfyui, data, format=wanted, bit_rate=320)
    assert small.header["size"] < large.header["size"] / 2


@pytest.mark.parametrize("wanted", ["FLAC", "WAV", "MP3", "Opus"])
async def test_the_same_sound_is_the_same_bytes(comfyui: ComfyUI, wanted: str) -> None:
    data = wav(sound(seed=6))
    first = await convert(comfyui, data, format=wanted)
    second = await convert(comfyui, data, format=wanted)
    assert first.data == second.data


async def test_the_frame_and_the_held_bytes_are_one(comfyui: ComfyUI) -> None:
    made = await convert(comfyui, wav(sound(seed=7)), name="speech")
    header = made.header
    assert header["name"] == "speech"
    async with comfyui.http.get(f"/comfy2mqtt/outputs/{header['prompt_id']}/2/0") as response:
        assert (response.content_type, await response.read()) == ("audio/flac", made.data)


async def test_comfyuis_own_nodes_read_the_same_sound(comfyui: ComfyUI) -> None:
    graph = audio_graph(await comfyui.put_media(wav(sound(seed=8))), format="WAV")
    graph["3"] = node("SplitAudioChannels", audio=["1", 0])
    graph["2"]["inputs"]["audio"] = ["3", 1]
    (made,) = (await comfyui.run(graph)).outputs
    stereo = struct.unpack("<4000h", sound(seed=8))
    assert read_wav(made.data) == (44_100, 1, 2, struct.pack("<2000h", *stereo[1::2]))


async def test_a_format_without_room_for_the_channels_fails_the_job(comfyui: ComfyUI) -> None:
    audio = await comfyui.put_media(wav(sound(channels=6), channels=6))
    run = await comfyui.run(audio_graph(audio, format="MP3"))
    assert run.error["exception_type"].endswith(".AudioNotEncodable")
    assert "MP3 of 6 channels at 44100 Hz" in run.error["exception_message"]
    assert not run.outputs


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no sound at all", "it is none of MP4, WebM"),
        (b"", "it is none of MP4, WebM"),
        (PLAYLIST, "it is none of MP4, WebM"),
        (b"ffconcat version 1.0\nfile '/etc/hostname'\n", "it is none of MP4, WebM"),
        (wav(b""), "it holds no sound"),
    ],
)
async def test_other_bytes_are_refused(comfyui: ComfyUI, data: bytes, message: str) -> None:
    run = await comfyui.run(audio_graph(await comfyui.put_media(data)))
    assert run.error["exception_type"].endswith(".MediaUnreadable")
    assert message in run.error["exception_message"]


async def test_without_sound_the_example_is_used(comfyui: ComfyUI) -> None:
    graph = audio_graph("", format="WAV")
    graph["1"]["inputs"]["example"] = ["3", 0]
    graph["3"] = node("Comfy2MQTTAudioInput", name="other")
    graph["3"]["inputs"]["audio"] = await comfyui.put_media(wav(sound(seed=10)))
    (made,) = (await comfyui.run(graph)).outputs
    assert read_wav(made.data)[3] == sound(seed=10)


async def test_without_sound_and_example_the_job_fails(comfyui: ComfyUI) -> None:
    run = await comfyui.run(audio_graph(""))
    assert "Input 'voice': no audio is given" in run.error["exception_message"]


@pytest.mark.parametrize("kind", ["Audio", "Video", "File", "Mask", "Image"])
async def test_what_is_not_held_is_refused_before_the_job_is_queued(
    comfyui: ComfyUI, kind: str
) -> None:
    key = "image" if kind == "Mask" else kind.lower()
    graph = {
        "1": node(f"Comfy2MQTT{kind}Input", name="wanted", **{key: "0" * 64}),
        "2": node("PreviewAny", source=["1", 0]),
    }
    with pytest.raises(Refused) as caught:
        await comfyui.submit(graph)
    assert any("is held here" in message for message in caught.value.messages("1", key))
    graph["1"]["inputs"][key] = "../../etc/hostname"
    with pytest.raises(Refused) as caught:
        await comfyui.submit(graph)
    assert any("is not a SHA-256" in message for message in caught.value.messages("1", key))


async def test_sound_is_never_cached_on_its_way_out(comfyui: ComfyUI) -> None:
    graph = audio_graph(await comfyui.put_media(wav(sound(seed=11))))
    first = await comfyui.run(graph)
    second = await comfyui.run(graph)
    assert [made.data for made in first.outputs] == [made.data for made in second.outputs]
    assert second.outputs[0].header["prompt_id"] == second.prompt_id
