"""Any bytes, as a file, for nodes that take a path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import folder_paths

from ..declarations import CATEGORY, InputTypes
from ..settings import settings
from ..temporary import TemporaryFiles, is_suffix
from .by_hash import hash_inputs, held_bytes, nothing_given, refusal_of_one


@cache
def temporary_files() -> TemporaryFiles:
    """The files of this process; together no larger than the media that it may hold."""
    return TemporaryFiles(Path(folder_paths.get_temp_directory()), settings().media_bytes)


class FileInput:
    """A file, named by the SHA-256 of its bytes."""

    CATEGORY = CATEGORY
    DESCRIPTION = "A file that a request may set: the path of a copy in ComfyUI's temp folder."
    FUNCTION = "read"
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("path",)

    @classmethod
    def INPUT_TYPES(cls) -> InputTypes:  # noqa: N802 - ComfyUI's name
        """The inputs, as ComfyUI asks for them."""
        ending = "What the file's name ends in, such as .csv, for nodes that check it."
        return hash_inputs("file", "file", suffix=("STRING", {"default": "", "tooltip": ending}))

    @classmethod
    def VALIDATE_INPUTS(  # noqa: N802 - ComfyUI's name
        cls, file: str | None, suffix: str | None = ""
    ) -> bool | str:
        """Refuse what is not held before the prompt is queued (None: it is a link)."""
        if suffix and not is_suffix(suffix):
            return f"'{suffix}' is not a dot with up to 16 letters or digits."
        return refusal_of_one(file)

    @classmethod
    def IS_CHANGED(  # noqa: N802 - ComfyUI's name
        cls, file: str | None, suffix: str | None = "", **_about: object
    ) -> int:
        """Another number where the file had to make room, and so a path in the cache is stale."""
        return temporary_files().removals(f"{file}{suffix}")

    def read(self, *, name: str, file: str, suffix: str = "", **_about: str) -> tuple[str]:
        """Return the path. Raises MediaNotHeld."""
        if not file:
            raise nothing_given(name, "file")
        return (str(temporary_files().put(file, suffix, held_bytes(file))),)
