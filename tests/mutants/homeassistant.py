"""The mutants of what Home Assistant is given, and of the integration's part of the contract."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_PROTOCOL = "custom_components/comfy2mqtt/protocol"
_TESTS = ("tests/custom_components/test_protocol.py",)

HOMEASSISTANT: tuple[Mutant, ...] = (
    Mutant(
        name="home-assistant-acknowledges-unseen",
        file=f"{_PROTOCOL}/ledger.py",
        old="return max(self._taken) if self._whole and self._taken else None",
        new="return max(self._taken) if self._taken else None",
        guarantee="Home Assistant acknowledges nothing before what it missed is listed",
        tests=_TESTS,
    ),
    Mutant(
        name="home-assistant-takes-a-result-twice",
        file=f"{_PROTOCOL}/ledger.py",
        old="if n <= self.after or n in self._taken:",
        new="if n <= self.after:",
        guarantee="a result that comes again is no second event",
        tests=_TESTS,
    ),
    Mutant(
        name="home-assistant-packet-too-large",
        file=f"{_PROTOCOL}/messages.py",
        old="room = min(room, (self.max_packet - HEADROOM) * 3 // 4)",
        new="room = min(room, self.max_packet - HEADROOM)",
        guarantee="what Home Assistant sends fits the broker's packets",
        tests=_TESTS,
    ),
    Mutant(
        name="home-assistant-takes-offline-for-idle",
        file=f"{_PROTOCOL}/happenings.py",
        old='"is_idle": self.is_online and not self.is_busy',
        new='"is_idle": not self.is_busy',
        guarantee="an automation does not take a bridge that is offline for an idle one",
        tests=_TESTS,
    ),
    Mutant(
        name="pictures-overtake-each-other",
        file="bridge/adapters/homeassistant/adapter.py",
        old="async with asyncio.Lock() if device is None else device.showing:",
        new="async with asyncio.Lock():",
        guarantee="the picture that Home Assistant shows is that of the last job that ended",
        tests=("tests/adapters/homeassistant/test_adapter.py",),
    ),
    Mutant(
        name="switch-cannot-take-the-gpu-back",
        file="bridge/requests/operator.py",
        old="case Yield(yielded=False):",
        new="case Yield(yielded=False) if False:",
        guarantee="one topic yields the GPU and takes it back",
        tests=("tests/requests/test_operator.py",),
    ),
    Mutant(
        name="switch-cannot-resume-the-queue",
        file="bridge/requests/operator.py",
        old="case PauseQueue(paused=True):",
        new="case PauseQueue():",
        guarantee="one topic pauses the queue and resumes it",
        tests=("tests/requests/test_operator.py",),
    ),
)
