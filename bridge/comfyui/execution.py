"""One prompt as ComfyUI reports it: frames in, events out, until its end is known.

Pure: no socket, no clock. Two sources feed it. Frames come as things happen, but only to the
client id that submitted the prompt, and only once. The history comes afterwards; it knows the
outputs and the end, not the bytes that were sent over a socket. What both report is one event.

The end is `executing` without a node, which comes after the history is written;
`execution_success` comes before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bridge.comfyui import events, frames
from bridge.comfyui.events import Event, Terminal
from bridge.comfyui.history import HistoryEntry, failure

# Results of these node classes leave as preview frames, and nowhere else.
SOCKET_IMAGE_CLASSES = frozenset({"SaveImageWebsocket"})

# ComfyUI reports a blocked output by an error of this type, runs on, and calls it a success.
_BLOCKED = "ExecutionBlocked"

# Every node starts at this; it says nothing.
_NO_STEP = (0, 1)


def socket_nodes(prompt: Mapping[str, Any]) -> frozenset[str]:
    """Return the ids of the nodes whose results come as preview frames."""
    return frozenset(
        node
        for node, described in prompt.items()
        if isinstance(described, Mapping) and described.get("class_type") in SOCKET_IMAGE_CLASSES
    )


class Execution:
    """The state of one prompt; its methods yield the events that are new.

    `queued`, `started` and `ended` say what ComfyUI did; ended is not yet the terminal event,
    because outputs may still have to be fetched: `missing`, then `close`.
    """

    def __init__(
        self, *, socket_nodes: frozenset[str] = frozenset(), preview: bool = False
    ) -> None:
        self.queued = False
        self.started = False
        self.ended = False
        self._socket_nodes = socket_nodes
        self._preview = preview
        self._may_have_missed = False
        self._node: str | None = None
        self._steps: dict[str, tuple[float, float]] = {}
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._record: Mapping[str, Mapping[str, Any]] = {}
        self._given: set[tuple[str, int]] = set()
        self._socket_images: dict[str, int] = {}
        self._blocked: events.Failed | None = None
        self.end: Terminal | None = None
        """Its end, if that is known; for a success outputs may still be missing."""

    def feed(self, frame: frames.Frame) -> Iterator[Event]:
        """Take one of this prompt's frames."""
        match frame:
            case frames.OutputBytes():
                yield from self.output(frame.header, frame.data)
            case frames.PreviewImage():
                yield from self._picture(frame)
            case frames.ProgressState() | frames.StepProgress():
                yield from self._progress(frame)
            case frames.NodeExecuted():
                yield from self._executed(frame)
            case frames.Executing(node=str(node)):
                yield from self.start()
                self._node = node
                yield events.NodeStarted(node, frame.display_node or node)
            case frames.ExecutionStart():
                yield from self.start()
            case frames.ExecutionCached() if frame.nodes:
                yield events.Cached(frame.nodes)
            case _:
                self._take_end(frame)

    def enqueue(self) -> Iterator[Event]:
        """Note that ComfyUI has it in its queue."""
        if not self.queued:
            self.queued = True
            yield events.Queued()

    def start(self) -> Iterator[Event]:
        """Note that ComfyUI works on it."""
        if not self.started:
            self.started = True
            yield events.Started()

    def output(self, header: frames.OutputHeader, data: bytes | memoryview) -> Iterator[Event]:
        """Take an output of one of our nodes, from the socket or from our route."""
        if (header.node, header.index) in self._given:
            return
        self._given.add((header.node, header.index))
        yield events.NodeOutput(header, data)

    def disconnected(self) -> None:
        """Note that frames may have been missed."""
        self._may_have_missed = True

    def settle(self, entry: HistoryEntry) -> None:
        """Take the history entry; what frames said before remains."""
        self.ended = True
        self._record = entry.outputs
        self._socket_nodes |= socket_nodes(entry.prompt)
        if self.end is None:
            self.end = entry.end

    def stop(self, end: Terminal) -> None:
        """Note an end that neither frames nor history report: lost, or taken out of the queue."""
        self.ended = True
        self.end = end

    def missing(self) -> tuple[frames.OutputHeader, ...]:
        """Return the outputs of our nodes that a success has and that did not come yet."""
        if not isinstance(self.end, events.Succeeded):
            return ()
        return tuple(
            header
            for output in {**self._record, **self._outputs}.values()
            for header in frames.output_headers(output)
            if (header.node, header.index) not in self._given
        )

    def close(self) -> Iterator[Event]:
        """Yield the outputs that only the history has, then the terminal event."""
        if self.end is None:
            raise AssertionError("closed before its end is known")
        if not isinstance(self.end, events.Succeeded):
            yield self.end
            return
        for node, output in self._record.items():
            if node not in self._outputs:
                self._outputs[node] = output
                yield events.Executed(node, node, output)
        if self._lacks_socket_images():
            yield events.PromptLost(
                "the connection was cut while results were sent that exist only there"
            )
        else:
            yield events.Succeeded(self._outputs)

    def _take_end(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Executing(node=None):
                self.ended = True
            case frames.ExecutionFault() if frame.exception_type == _BLOCKED:
                self._blocked = self._blocked or failure(frame)
            case frames.ExecutionFault():
                self.end = failure(frame)
            case frames.ExecutionInterrupted():
                self.end = events.PromptInterrupted()
            case frames.ExecutionSuccess():
                # An output that did not come because a node refused it is no success.
                self.end = self._blocked or events.Succeeded(self._outputs)

    def _picture(self, frame: frames.PreviewImage) -> Iterator[Event]:
        node = frame.node or self._node
        if node in self._socket_nodes:
            index = self._socket_images.get(node, 0)
            self._socket_images[node] = index + 1
            yield events.SocketImage(node, index, frame.content_type, frame.data)
        elif self._preview:
            yield events.PromptPreview(node, frame.content_type, frame.data)

    def _progress(self, frame: frames.ProgressState | frames.StepProgress) -> Iterator[Event]:
        match frame:
            case frames.ProgressState():
                for node, progress in frame.nodes.items():
                    if progress.state == "running":
                        yield from self._step(node, progress.value, progress.max)
            case frames.StepProgress(node=str(node)):
                yield from self._step(node, frame.value, frame.max)

    def _step(self, node: str, value: float, maximum: float) -> Iterator[Event]:
        # Newer servers report each step twice, in `progress_state` and in `progress`.
        if self._steps.get(node, _NO_STEP) != (value, maximum):
            self._steps[node] = (value, maximum)
            yield events.Step(node, value, maximum)

    def _executed(self, frame: frames.NodeExecuted) -> Iterator[Event]:
        # A cached node without a `ui` output is reported too, with null.
        if frame.output is not None:
            self._outputs[frame.node] = frame.output
            yield events.Executed(frame.node, frame.display_node or frame.node, frame.output)

    def _lacks_socket_images(self) -> bool:
        """Return whether a cut took images of SaveImageWebsocket: it has a step for each."""
        return self._may_have_missed and any(
            self._socket_images.get(node, 0) == 0
            or self._socket_images[node] < self._steps.get(node, _NO_STEP)[1]
            for node in self._socket_nodes
        )
