"""A session against a model of ComfyUI whose messages are late, whose socket is cut, and that dies.

Whatever happens, each prompt ends once, as it ended at ComfyUI, with each output once. A prompt is
lost only if ComfyUI was restarted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Literal, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from bridge.comfyui import events, frames
from bridge.comfyui.errors import ComfyUIError, ComfyUIUnreachable, NotFound, UnexpectedAnswer
from bridge.comfyui.events import Event, Terminal
from bridge.comfyui.execution import Execution
from bridge.comfyui.history import HistoryEntry, QueueState
from bridge.comfyui.prompt_tracker import Prompt
from bridge.comfyui.session import ComfySession

SILENCE_S = 10.0
DATA = b"png"
DESCRIBED: dict[str, Any] = {
    "node": "9",
    "index": 0,
    "name": "image",
    "content_type": "image/png",
    "size": len(DATA),
    "sha256": "00",
}
UI_OUTPUT: dict[str, Any] = {"comfy2mqtt": [DESCRIBED]}
FAILED = events.Failed("RuntimeError", "on purpose", "9", "TestRaise", ())

Fault = ComfyUIError | None
Meanwhile = Literal["nothing", "work", "receive"]
cuts = st.just(ComfyUIUnreachable("cut", sent=True))
useless = st.just(UnexpectedAnswer("it", status=502))


class ComfyUI:
    """Its prompts, and a client that asks it.

    `faults` are those of the next requests; `meanwhile` is called before each is answered.
    """

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile = meanwhile
        self.pending: list[str] = []
        self.running: str | None = None
        self.failing: set[str] = set()
        self.history_of: dict[str, HistoryEntry] = {}
        self.faults: list[Fault] = []
        self.sent: list[tuple[str | None, frames.Frame]] = []

    def work(self) -> None:
        """Begin with a prompt, or end it."""
        prompt_id = self.running
        if prompt_id is None:
            if self.pending:
                self.running = self.pending.pop(0)
                self.send(frames.ExecutionStart(self.running))
        elif prompt_id in self.failing:
            fault = frames.ExecutionFault(prompt_id, "9", "TestRaise", "RuntimeError", "on purpose")
            self.end(FAILED, fault)
        else:
            header = frames.OutputHeader(**DESCRIBED, prompt_id=prompt_id)
            self.send(frames.Executing("9", prompt_id))
            self.send(frames.OutputBytes(header, memoryview(DATA)))
            self.send(frames.NodeExecuted(prompt_id, "9", "9", UI_OUTPUT))
            self.end(events.Succeeded({"9": UI_OUTPUT}), frames.ExecutionSuccess(prompt_id))

    def withdraw(self, prompt_id: str) -> None:
        if prompt_id in self.pending:
            self.pending.remove(prompt_id)
            self.queue_changed()
        elif prompt_id == self.running:
            self.end(events.PromptInterrupted(), frames.ExecutionInterrupted(prompt_id))

    def end(self, how: Any, last: frames.Frame) -> None:
        prompt_id, self.running = self.running, None
        assert prompt_id is not None
        outputs = {"9": UI_OUTPUT} if isinstance(how, events.Succeeded) else {}
        self.history_of[prompt_id] = HistoryEntry({}, outputs, how)
        self.send(last)
        self.send(frames.Executing(None, prompt_id))
        self.queue_changed()

    def send(self, frame: frames.Frame) -> None:
        self.sent.append((frames.prompt_of(frame), frame))

    def queue_changed(self) -> None:
        waiting = len(self.pending) + (self.running is not None)
        self.send(frames.StatusMessage(frames.QueueStatus(frames.ExecInfo(waiting))))

    # -- its routes -----------------------------------------------------------------------------

    def request(self) -> None:
        self.meanwhile()
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault

    async def queue(self) -> QueueState:
        self.request()
        return QueueState(() if self.running is None else (self.running,), tuple(self.pending))

    async def history(self, prompt_id: str) -> HistoryEntry | None:
        self.request()
        return self.history_of.get(prompt_id)

    async def held_output(self, prompt_id: str, node: str, index: int) -> bytes:
        assert (node, index) == ("9", 0)
        self.request()
        if prompt_id not in self.history_of:
            raise NotFound("it", status=404)
        return DATA


class Session(ComfySession):
    """A session whose events are checked as they come."""

    def __init__(self, lives: Lives) -> None:
        client = cast("Any", lives.comfyui)
        silence_s, clock = SILENCE_S, lambda: lives.now
        super().__init__(client, report=lambda _: None, silence_s=silence_s, clock=clock)
        self._lives = lives

    def _apply(self, deliveries: Iterable[tuple[Prompt, Event]]) -> None:
        for prompt, event in deliveries:
            self._lives.published(prompt, event)
        super()._apply(())


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run what waits for nothing but the model."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


class Lives(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.comfyui = ComfyUI(self.meanwhile)
        # What happens between the requests of reconciling.
        self.between: list[Meanwhile] = []
        self.session = Session(self)
        self.told: dict[Prompt, list[Event]] = {}
        self.before_restart: set[Prompt] = set()
        self.connected = True
        # A prompt's frames go to the connection that submitted it.
        self.connection = 1
        self.submitted_under: dict[str | None, int] = {}
        self.in_flight: deque[frames.Frame] = deque()

    def published(self, prompt: Prompt, event: Event) -> None:
        told = self.told[prompt]
        assert not any(isinstance(each, Terminal) for each in told), "an event after the end"
        told.append(event)
        outputs = sum(isinstance(each, events.NodeOutput) for each in told)
        assert outputs <= 1
        if not isinstance(event, Terminal) or prompt in self.before_restart:
            return
        entry = self.comfyui.history_of.get(prompt.prompt_id)
        if entry is None:  # it was taken out of the queue
            assert prompt.withdrawn
            assert isinstance(event, events.PromptInterrupted)
        else:
            assert type(event) is type(entry.end)
            assert outputs == isinstance(event, events.Succeeded)

    def transmit(self) -> None:
        """Put on the line what ComfyUI sent; without a connection it is gone."""
        for prompt_id, frame in self.comfyui.sent:
            mine = isinstance(frame, frames.StatusMessage)
            if self.connected and (mine or self.submitted_under[prompt_id] == self.connection):
                self.in_flight.append(frame)
        self.comfyui.sent.clear()

    # -- prompts --------------------------------------------------------------------------------

    @precondition(lambda self: self.connected)
    @rule(fails=st.booleans(), answered=st.booleans())
    def submit(self, *, fails: bool, answered: bool) -> None:
        """ComfyUI gets a prompt; its answer may be lost."""
        prompt_id = f"p{len(self.told)}"
        execution = Execution()
        prompt, _ = self.session._follow(prompt_id, execution, blind=False)
        self.told[prompt] = []
        self.submitted_under[prompt_id] = self.connection
        self.comfyui.pending.append(prompt_id)
        if fails:
            self.comfyui.failing.add(prompt_id)
        self.comfyui.queue_changed()
        if not answered:
            self.session._tracker.question(prompt)
        self.session._submitted(prompt)
        if answered:
            self.session._apply([(prompt, event) for event in execution.enqueue()])
        self.transmit()

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        prompt = data.draw(st.sampled_from(list(self.told)))
        self.session._tracker.withdraw(prompt.prompt_id)
        self.comfyui.withdraw(prompt.prompt_id)
        if self.session._tracker.follows(prompt):
            self.session._tracker.question(prompt)
        self.transmit()

    # -- ComfyUI and the line to it -------------------------------------------------------------

    @rule()
    def work(self) -> None:
        self.comfyui.work()
        self.transmit()

    @rule()
    def restart(self) -> None:
        """ComfyUI dies, and with it what it remembered."""
        self.cut()
        self.before_restart |= set(self.told)
        self.comfyui = self.session.client = ComfyUI(self.meanwhile)  # type: ignore[assignment]

    @precondition(lambda self: self.in_flight)
    @rule(many=st.integers(1, 5))
    def receive(self, many: int) -> None:
        for _ in range(min(many, len(self.in_flight))):
            self.session._received(self.in_flight.popleft())

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self.in_flight.clear()
        self.connected = False
        self.session._tracker.disconnected()

    @precondition(lambda self: not self.connected)
    @rule()
    def connect(self) -> None:
        self.connected = True
        self.connection += 1
        self.session._tracker.connected()

    @rule(seconds=st.sampled_from([1.0, SILENCE_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.connected)
    @rule(
        faults=st.lists(st.none() | cuts | useless, max_size=4),
        between=st.lists(st.sampled_from(["nothing", "work", "receive"]), max_size=6),
    )
    def reconcile(self, faults: list[Fault], between: list[Meanwhile]) -> None:
        """Some requests fail; between two of them ComfyUI works on, or its messages arrive."""
        self.comfyui.faults, self.between = faults, between
        with suppress(ComfyUIError):
            at_once(self.session._reconcile(self.session._tracker.doubtful(self.now)))
        self.comfyui.faults, self.between = [], []
        self.transmit()

    def meanwhile(self) -> None:
        match self.between.pop(0) if self.between else "nothing":
            case "work":
                self.work()
            case "receive":
                self.receive(len(self.in_flight))

    def teardown(self) -> None:
        """Let everything come to its end: no prompt is followed for ever."""
        if not self.connected:
            self.connect()
        while self.comfyui.pending or self.comfyui.running is not None:
            self.work()
        self.receive(len(self.in_flight))
        for _ in range(2):
            self.now += SILENCE_S
            self.reconcile([], [])
        assert len(self.session._tracker) == 0
        for told in self.told.values():
            assert isinstance(told[-1], Terminal)


TestLives = Lives.TestCase
TestLives.settings = settings(stateful_step_count=40)
