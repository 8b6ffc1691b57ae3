"""Images and masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..declarations import CATEGORY, InputTypes, choice, switch
from ..errors import ImagesDiffer
from ..formats.image_decoding import MAX_PIXELS, Decoded, decode, join, luminance
from ..media import split_hashes
from .by_hash import hash_inputs, held_bytes, nothing_given, refusal, wants_example

if TYPE_CHECKING:
    import torch

AUTOMATIC, ALPHA, LUMINANCE = "automatic", "alpha", "luminance"


class ImageInput:
    """Images, named by the SHA-256 of their encoded bytes: several are one batch."""

    CATEGORY = CATEGORY
    DESCRIPTION = "An image that a request may set, and its transparency as a mask."
    FUNCTION = "read"
    RETURN_TYPES = ("IMAGE", "MASK")

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return hash_inputs("image", "image", example="IMAGE")

    @classmethod
    def VALIDATE_INPUTS(cls, image: str | None) -> bool | str:  # noqa: N802 - ComfyUI's name
        """Refuse what is not held before the prompt is queued (None: it is a link)."""
        return refusal(split_hashes(image or ""))

    def check_lazy_status(self, *, image: str, **inputs: object) -> list[str]:
        """Ask for the example only where it is used."""
        return wants_example(image, inputs)

    def read(
        self, *, name: str, image: str, example: torch.Tensor | None = None, **_about: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images and masks. Raises MediaNotHeld, MediaUnreadable, ImagesDiffer."""
        decoded = read_batch(name, image)
        if decoded is None:
            if example is None:
                raise nothing_given(name, "image")
            decoded = Decoded(example, None)
        return (decoded.images, decoded.masks)


class MaskInput:
    """A mask, from an image's transparency or from how light it is."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A mask that a request may set, as an image: what is transparent, or white."
    FUNCTION = "read"
    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        return hash_inputs(
            "mask",
            "image",
            example="MASK",
            source=choice(
                [AUTOMATIC, ALPHA, LUMINANCE],
                AUTOMATIC,
                "What is masked: the transparent, the light, or the light unless something is "
                "transparent.",
            ),
            invert=switch("Mask the rest instead.", default=False),
        )

    @classmethod
    def VALIDATE_INPUTS(cls, image: str | None) -> bool | str:  # noqa: N802 - ComfyUI's name
        """Refuse what is not held before the prompt is queued (None: it is a link)."""
        return refusal(split_hashes(image or ""))

    def check_lazy_status(self, *, image: str, **inputs: object) -> list[str]:
        """Ask for the example only where it is used."""
        return wants_example(image, inputs)

    def read(
        self,
        *,
        name: str,
        image: str,
        source: str = AUTOMATIC,
        invert: bool = False,
        example: torch.Tensor | None = None,
        **_about: str,
    ) -> tuple[torch.Tensor]:
        """Return the masks. Raises MediaNotHeld, MediaUnreadable, ImagesDiffer."""
        decoded = read_batch(name, image)
        if decoded is None:
            if example is None:
                raise nothing_given(name, "mask")
            return (example,)
        mask = _mask(decoded, source)
        return (1.0 - mask if invert else mask,)


def read_batch(name: str, image: str) -> Decoded | None:
    """The images behind the hashes in `image` as one batch; None where there are none.

    All of them together are bound by the pixels that one may have.
    """
    batches: list[Decoded] = []
    left = MAX_PIXELS
    for sha256 in split_hashes(image):
        batch = decode(held_bytes(sha256), left)
        left -= len(batch.images) * batch.size[0] * batch.size[1]
        batches.append(batch)
    sizes = list(dict.fromkeys(batch.size for batch in batches))
    if len(sizes) > 1:
        raise ImagesDiffer(name, sizes)
    return join(batches) if batches else None


def _mask(decoded: Decoded, source: str) -> torch.Tensor:
    transparent = decoded.transparency
    if source == AUTOMATIC and transparent is not None and not bool(transparent.any()):
        # Drawing programs write an alpha channel into pictures that are opaque all over.
        transparent = None
    if source == LUMINANCE or (source == AUTOMATIC and transparent is None):
        return luminance(decoded.images)
    if transparent is None:
        return decoded.images.new_zeros(decoded.images.shape[:3])
    return transparent
