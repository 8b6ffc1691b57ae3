"""The way of an output to the bridge: held, sent, and named in the node's own event."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
from server import PromptServer

from ..declarations import CATEGORY, Declared, InputTypes, about, named
from ..frames import EVENT_TYPE, pack_frame
from ..held import OutputHeader
from ..settings import held_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..formats.encoded import Encoded

try:
    from comfy_execution.utils import get_executing_context
except ImportError:  # an older ComfyUI
    get_executing_context = None

T = TypeVar("T")


class Output:
    """The result that each output node of ours returns to ComfyUI."""

    CATEGORY = CATEGORY
    FUNCTION = "deliver"
    OUTPUT_NODE = True
    RETURN_TYPES = ()
    # One call for a list of batches, not one for each: the index then counts through them all.
    INPUT_IS_LIST = True

    @classmethod
    def IS_CHANGED(cls, **_inputs: object) -> float:  # noqa: N802 - ComfyUI's name
        """Never the same: a cached output node would not run, and nothing would be sent."""
        return float("nan")

    def send_all(self, node: str, name: str, outputs: Iterable[Encoded]) -> dict[str, Any]:
        """Hold and send each output as it is made; the headers of all are the node's output."""
        delivery = _Delivery(_current_prompt_id(), node, name)
        for output in outputs:
            delivery.send(output)
        return {"ui": {"comfy2mqtt": [header.as_dict() for header in delivery.headers]}}


def output_inputs(name: str, source: Mapping[str, Declared], **settings: Declared) -> InputTypes:
    """INPUT_TYPES of an output node: `source` is what it sends, `settings` say how."""
    return {
        "required": {**source, "name": named(name, "The output's name in results."), **settings},
        "optional": about("output"),
        "hidden": {"unique_id": "UNIQUE_ID"},
    }


def unless_interrupted(things: Iterable[T]) -> Iterator[T]:
    """The same, until somebody interrupts the prompt."""
    for thing in things:
        comfy.model_management.throw_exception_if_processing_interrupted()
        yield thing


class _Delivery:
    """The outputs of one node in one run."""

    def __init__(self, prompt_id: str, node: str, name: str) -> None:
        self._prompt_id, self._node, self._name = prompt_id, node, name
        self.headers: list[OutputHeader] = []
        held_outputs().begin(prompt_id, node)

    def send(self, output: Encoded) -> None:
        header = OutputHeader(
            prompt_id=self._prompt_id,
            node=self._node,
            index=len(self.headers),
            name=self._name,
            content_type=output.content_type,
            size=len(output.data),
            sha256=sha256(output.data).hexdigest(),
            width=output.width,
            height=output.height,
        )
        # Held first: what the socket drops can then always be asked for.
        held_outputs().hold(header, output.data)
        server = PromptServer.instance
        # Without a client id send_sync would send to every socket there is.
        if server.client_id is not None:
            server.send_sync(EVENT_TYPE, pack_frame(header, output.data), server.client_id)
        self.headers.append(header)


def _current_prompt_id() -> str:
    context = get_executing_context() if get_executing_context else None
    return str(context.prompt_id if context else PromptServer.instance.last_prompt_id)
