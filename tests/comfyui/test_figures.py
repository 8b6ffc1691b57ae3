"""The figures of graphics cards, from answers as the programs give them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bridge.comfyui.figures import cards_of, figures

ONE = "0, GPU-5ef0c8a1-7a6f-4c1e, NVIDIA GeForce RTX 3090, 24576, 9216, 61, 212.47\n"
TWO = ONE + "1, GPU-9b1d7c52-11aa-4be2, NVIDIA GeForce RTX 3090, 24576, 12, 34, 21.80\n"
MIXED = ONE + "1, GPU-2c, NVIDIA GeForce RTX 5070, 12227, 400, 40, [N/A]\n"
# One whose memory is the machine's.
UNIFIED = "0, GPU-77, NVIDIA GB10, [N/A], [N/A], 52, 11.60\n"


def stats(name: str, index: int | None = 0, **more: Any) -> dict[str, Any]:
    device = {
        "name": name,
        "type": "cuda",
        "index": index,
        "vram_total": 25386352640,
        "vram_free": 24229016988,
        "torch_vram_total": 905969664,
        "torch_vram_free": 276526492,
    }
    return {"system": {"os": "posix"}, "devices": [{**device, **more}]}


RTX = stats("cuda:0 NVIDIA GeForce RTX 3090 : cudaMallocAsync")


def reported(*args: Any) -> Any:
    return msgspec.to_builtins(figures(*args))


def test_a_card_has_memory_temperature_and_power() -> None:
    assert reported(RTX, cards_of(ONE), None) == {
        "source": "nvidia-smi",
        "device": "NVIDIA GeForce RTX 3090",
        "vram_total": 25386352640,
        "vram_free": 24229016988,
        "temperature_c": 61.0,
        "power_w": 212.47,
    }


def test_without_nvidia_there_is_what_comfyui_says() -> None:
    found = reported(stats("cuda:0 AMD Radeon RX 7900 XTX : native"), [], None)
    assert (found["source"], found["vram_total"]) == ("comfyui", 25386352640)
    assert "temperature_c" not in found
    # A card of another name is not its card.
    assert reported(stats("xpu:0 Intel Arc B580"), cards_of(ONE), None)["source"] == "comfyui"


def test_the_memory_of_a_machine_is_not_taken_for_a_cards() -> None:
    cpu = stats("cpu", None, type="cpu")
    assert reported(cpu, cards_of(ONE), None) == {"source": "comfyui", "device": "cpu"}


def test_what_a_card_does_not_report_is_left_out() -> None:
    found = reported(
        stats("cuda:0 NVIDIA GB10", vram_total=0, vram_free=0), cards_of(UNIFIED), None
    )
    assert found == {
        "source": "nvidia-smi",
        "device": "NVIDIA GB10",
        "temperature_c": 52.0,
        "power_w": 11.6,
    }
    bare = stats("cuda:0 NVIDIA GeForce RTX 5070", vram_total=None, vram_free=True)
    found = reported(bare, cards_of(MIXED), None)
    assert (found["vram_free"], "power_w" in found) == ((12227 - 400) * 2**20, False)


@pytest.mark.parametrize(
    ("visible", "index", "temperature"),
    [
        (None, 0, 61.0),
        (None, 1, 34.0),
        ("1", 0, 34.0),
        ("1,0", 1, 61.0),
        ("GPU-9b1d", 0, 34.0),
        ("GPU-nothing", 0, None),
        ("GPU-", 0, None),  # both
        ("", 0, None),
        ("1", 1, None),
        ("7", 0, None),
    ],
)
def test_of_several_alike_the_settings_say_which(
    visible: str | None, index: int, temperature: float | None
) -> None:
    one = stats("cuda:0 NVIDIA GeForce RTX 3090 : cudaMallocAsync", index)
    assert reported(one, cards_of(TWO), visible).get("temperature_c") == temperature


def test_of_several_of_which_some_are_alike_an_index_says_nothing() -> None:
    three = TWO + "2, GPU-2c, NVIDIA GeForce RTX 5070, 12227, 400, 40, 30.0\n"
    assert reported(RTX, cards_of(three), "1")["source"] == "comfyui"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
        'Field "power.draw" is not a valid field to query.\n',
        "0, GPU-1, a name, with, commas, 1, 2, 3, 4\n",
        "x, GPU-1, NVIDIA, 1, 2, 3, 4\n",
    ],
)
def test_what_is_no_card_is_none(answer: str) -> None:
    assert cards_of(answer) == []


def test_figures_that_cannot_be_are_left_out() -> None:
    (card,) = cards_of("0, GPU-1, NVIDIA, nan, inf, -5, 1e99\n")
    assert (card.total, card.used, card.temperature_c, card.power_w) == (None,) * 4


@pytest.mark.parametrize(
    "answer", [None, {}, {"devices": []}, {"devices": "x"}, {"devices": [7]}, {"devices": None}]
)
def test_a_comfyui_that_says_nothing_is_unknown(answer: Any) -> None:
    assert reported(answer, cards_of(ONE), None) == {"source": "unknown"}
