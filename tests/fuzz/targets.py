"""The fuzzed decoders of others' messages, each with valid ones to begin from.

A target takes any bytes. What a decoder documents as its errors is part of its work; anything else
that it raises is a fault.
"""

from __future__ import annotations

from tests.fuzz.decoders import comfyui, media, mqtt, requests, web, workflows
from tests.fuzz.target import Target

TARGETS: dict[str, Target] = {
    **requests.TARGETS,
    **mqtt.TARGETS,
    **comfyui.TARGETS,
    **workflows.TARGETS,
    **media.TARGETS,
    **web.TARGETS,
}
