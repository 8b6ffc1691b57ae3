"""Topics of one bridge, for one client of it."""

from __future__ import annotations

import re

DEFAULT_BASE = "comfy2mqtt"
DEFAULT_CLIENT = "homeassistant"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_BASE = re.compile(r"[^+#\x00/]{1,200}")
_INFO = "/bridge/info"


def is_id(text: str) -> bool:
    """Return True if a text may stand as one name in a topic: a client's, a workflow's, a job's."""
    return _ID.fullmatch(text) is not None


def is_base(text: str) -> bool:
    """Return True if a text can be a bridge's base topic: one level, without wildcards."""
    return _BASE.fullmatch(text) is not None


def base_of_info(topic: str) -> str | None:
    """Return the base of a `<base>/bridge/info`; None for any other topic."""
    base = topic.removesuffix(_INFO)
    return base if topic.endswith(_INFO) and is_base(base) else None


class Topics:
    """The topics below one base; `client` is the name in which requests are sent."""

    def __init__(self, base: str, client: str) -> None:
        self.base = base
        self.client = client
        self._own = f"{base}/client/{client}/"
        self.state = f"{base}/bridge/state"
        self.info = f"{base}{_INFO}"
        self.health = f"{base}/bridge/health"
        self.comfyui = f"{base}/bridge/comfyui/+"
        self.choices = f"{base}/bridge/choices/+"
        self.workflows = f"{base}/workflow/+"
        self.displays = f"{base}/display/+/image"
        self.responses = f"{self._own}response/+"
        self.results = f"{self._own}job/+/result"
        # Their statuses, progress, previews and results.
        self.steps = f"{self._own}job/+/+"

    def request(self, verb: str, *names: str) -> str:
        """Return the topic of a request: `submit`, or `upload`, an id, and an offset or `fin`."""
        return "/".join((f"{self._own}request/{verb}", *names))

    def command(self, verb: str) -> str:
        """Return the topic of an operator's command."""
        return f"{self.base}/bridge/request/{verb}"

    def command_response(self, verb: str) -> str:
        """Return the topic of the answers to an operator's command."""
        return f"{self.base}/bridge/response/{verb}"

    def verb_of(self, topic: str) -> str:
        """Return the verb that a response answers."""
        return topic.rpartition("/")[2]

    def name_of(self, topic: str) -> str:
        """Return the workflow, ComfyUI or list of choices that a topic is about."""
        return topic.rpartition("/")[2]

    def display_of(self, topic: str) -> str:
        """Return the display that a topic has the picture of."""
        return topic.split("/")[-2]
