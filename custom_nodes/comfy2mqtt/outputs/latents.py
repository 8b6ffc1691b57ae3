"""Latents."""

from __future__ import annotations

from typing import Any

import safetensors.torch
import torch

from ..declarations import InputTypes
from ..errors import LatentNotEncodable
from ..formats.encoded import Encoded
from .delivery import Output, output_inputs, unless_interrupted

# There is no name for safetensors that others would know.
_LATENT_TYPE = "application/octet-stream"


class LatentOutput(Output):
    """Sends a latent, as the file that SaveLatent writes and LoadLatent reads."""

    DESCRIPTION = "Sends the latent to the bridge, as the safetensors file that LoadLatent reads."

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return output_inputs(
            "latent", {"samples": ("LATENT", {"tooltip": "What to send: one output for a batch."})}
        )

    def deliver(
        self,
        *,
        samples: list[dict[str, Any]],
        name: list[str],
        unique_id: list[str],
        **_about: list[str],
    ) -> dict[str, Any]:
        """Send each batch of latents."""
        latents = (_encode_latent(each["samples"]) for each in unless_interrupted(samples))
        return self.send_all(unique_id[0], name[0], latents)


def _encode_latent(samples: Any) -> Encoded:
    # Some models keep several tensors in one latent; SaveLatent's format has no room for them.
    if not isinstance(samples, torch.Tensor) or samples.is_nested:
        raise LatentNotEncodable("it is no plain tensor")
    tensors = {
        "latent_tensor": samples.detach().cpu().contiguous(),
        # LoadLatent sees by it that the values need no factor, as those of old files do.
        "latent_format_version_0": torch.tensor([]),
    }
    return Encoded(safetensors.torch.save(tensors), _LATENT_TYPE)
