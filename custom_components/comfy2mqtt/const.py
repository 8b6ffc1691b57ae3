"""Names that several parts of the integration use."""

from __future__ import annotations

import logging
from typing import Final

DOMAIN: Final = "comfy2mqtt"
LOGGER = logging.getLogger(__package__)

# Fired at each job's end and each change of a bridge, for the triggers of devices.
EVENT: Final = "comfy2mqtt_event"

CONF_BASE: Final = "base"
CONF_CLIENT: Final = "client"

SUBENTRY_AI_TASK: Final = "ai_task"
CONF_WORKFLOW: Final = "workflow"
CONF_PROMPT_INPUT: Final = "prompt_input"
CONF_ATTACHMENT_INPUT: Final = "attachment_input"
CONF_INPUTS: Final = "inputs"
CONF_TIMEOUT: Final = "timeout"

# The version of the bridge's messages that this integration speaks.
CONTRACT: Final = 1
# How long an AI task may wait and run, in seconds.
DEFAULT_TIMEOUT: Final = 300
