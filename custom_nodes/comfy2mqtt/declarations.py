"""Declarations that the nodes of this package share."""

from __future__ import annotations

from typing import Any

CATEGORY = "comfy2mqtt"

# One input as ComfyUI wants it declared: its type, or its choices, and its options.
Declared = tuple[str | list[str], dict[str, Any]]
InputTypes = dict[str, dict[str, Any]]


def named(default: str, tooltip: str) -> Declared:
    """The `name` of an input or output."""
    return ("STRING", {"default": default, "tooltip": tooltip})


def about(noun: str) -> dict[str, Declared]:
    """The optional texts for people that every input and output has."""
    return {
        "title": ("STRING", {"default": "", "tooltip": f"What people see as the {noun}'s name."}),
        "description": (
            "STRING",
            {"default": "", "multiline": True, "tooltip": f"What the {noun} is for."},
        ),
    }


def choice(choices: list[str], default: str, tooltip: str) -> Declared:
    """One of several words."""
    return (choices, {"default": default, "tooltip": tooltip})


def number(default: int, minimum: int, maximum: int, tooltip: str) -> Declared:
    """A whole number."""
    return ("INT", {"default": default, "min": minimum, "max": maximum, "tooltip": tooltip})


def switch(tooltip: str, *, default: bool) -> Declared:
    """Yes or no."""
    return ("BOOLEAN", {"default": default, "tooltip": tooltip})


def rate(default: float, maximum: float) -> Declared:
    """Pictures a second."""
    limits = {"min": 0.1, "max": maximum, "step": 0.1, "round": False}
    return ("FLOAT", {"default": default, **limits, "tooltip": "Pictures a second."})
