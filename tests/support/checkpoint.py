"""A checkpoint of random weights that ComfyUI takes for a Stable Diffusion 1.5: for the real
sampler's path, in seconds on a CPU. 147 MB in fp16, made in about three seconds.

Its parts are ComfyUI's own classes, cut down: one level of the UNet (320 channels and a context
of 768 are what makes it an SD1.5), the tiny autoencoder, CLIP-L's embeddings and first layer.
Since the other layers are missing, its graph needs CLIPSetLastLayer at -12:
tests/support/workflows/random_txt2img.json.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT_NAME = "random-sd15.safetensors"

_TIMEOUT_S = 120

# Runs in ComfyUI's interpreter and folder; the target is its argument. ComfyUI's classes leave
# their weights uninitialised, so every one is filled here, each layer keeping its input's scale.
_SCRIPT = """
import json, os, sys

sys.path.insert(0, os.getcwd())
target, sys.argv = sys.argv[1], [sys.argv[0], "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import torch, safetensors.torch
import comfy.ops
from comfy.clip_model import CLIPTextModel
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD

operations = comfy.ops.disable_weight_init
with open(os.path.join("comfy", "sd1_clip_config.json"), encoding="utf-8") as file:
    clip_config = json.load(file) | {"num_hidden_layers": 1}
parts = {
    "model.diffusion_model.": UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1],
        channel_mult=[1], num_heads=8, use_spatial_transformer=True, transformer_depth=[1],
        transformer_depth_middle=1, transformer_depth_output=[1, 1], context_dim=768,
        legacy=False, dtype=torch.float32, operations=operations,
    ),
    "first_stage_model.": TAESD(),
    "cond_stage_model.transformer.": CLIPTextModel(clip_config, torch.float32, "cpu", operations),
}
torch.manual_seed(0)
weights = {}
for prefix, part in parts.items():
    for name, parameter in part.state_dict().items():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            value = torch.randn(parameter.shape) / fan_in**0.5
        elif name.endswith("weight") or name == "vae_scale":
            value = torch.ones(parameter.shape)
        else:
            value = torch.zeros(parameter.shape)
        weights[prefix + name] = value.half()
weights.pop("cond_stage_model.transformer.text_projection.weight")
safetensors.torch.save_file(weights, target)
"""


def make_checkpoint(comfyui: Path, python: Path, target: Path) -> None:
    """Write the checkpoint to `target` with ComfyUI's interpreter, in ComfyUI's folder.

    A checkpoint that is there already stays. Raises CalledProcessError, with what the script
    said in its notes, and TimeoutExpired.
    """
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Under its final name only when it is whole: ComfyUI may list the folder at any moment.
    unfinished = target.with_suffix(".unfinished")
    command = [str(python), "-c", _SCRIPT, str(unfinished)]
    try:
        subprocess.run(
            command, cwd=comfyui, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        error.add_note(str(error.stderr))
        raise
    unfinished.replace(target)
