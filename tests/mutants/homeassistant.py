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
    Mutant(
        name="late-news-of-a-job-count",
        file="bridge/adapters/homeassistant/news.py",
        old="if job_id in self._ended or n < self._latest.get(job_id, 0):",
        new="if job_id in self._ended:",
        guarantee="news that overtake each other leave the job's last state in Home Assistant",
        tests=("tests/adapters/homeassistant/test_news.py",),
    ),
    Mutant(
        name="an-end-is-shown-twice",
        file="bridge/adapters/homeassistant/news.py",
        old="            return False\n        self._ended[job_id] = None",
        new="            return True\n        self._ended[job_id] = None",
        guarantee="the end of a job that comes again is no second event in Home Assistant",
        tests=("tests/adapters/homeassistant/test_news.py",),
    ),
    Mutant(
        name="an-old-file-overrides-what-was-set",
        file="bridge/adapters/homeassistant/inputs.py",
        old="await self._kept.keep(KIND, found, new=True)",
        new="await self._kept.keep(KIND, found)",
        guarantee="what was set in Home Assistant since an upgrade stays",
        tests=("tests/adapters/homeassistant/test_inputs.py",),
    ),
    Mutant(
        name="the-leader-carries-a-command-out-twice",
        file="bridge/adapters/mqtt/admin_commands.py",
        old="return rest if intake or leader else Responder.SILENT",
        new="return rest if intake else Responder.SILENT",
        guarantee="a bridge that has a command by two connections carries it out by one",
        tests=("tests/adapters/mqtt/test_admin_commands.py",),
    ),
    Mutant(
        name="others-comfyuis-are-not-described",
        file="bridge/workflows/library.py",
        old="if gone or not catalogue.knows(others):",
        new="if gone:",
        guarantee="a request is refused only if no bridge of the group can run it",
        tests=("tests/workflows/test_library.py",),
    ),
    Mutant(
        name="offers-of-members-are-swept",
        file="bridge/jobs/journal/offers.py",
        old="            db.execute(queries.SEE_OFFERS)\n",
        new="",
        guarantee="what a bridge's ComfyUIs have is known for as long as it is a member",
        tests=("tests/jobs/test_kept.py",),
        postgresql=True,
    ),
    Mutant(
        name="a-stopping-bridge-keeps-what-waits",
        file="bridge/jobs/core/core.py",
        old="if not self._alone:\n            # Another",
        new="if False:\n            # Another",
        guarantee="a bridge of a group that stops gives back what has not begun",
        tests=("tests/jobs/core/test_group.py",),
    ),
    Mutant(
        name="two-pictures-for-one-display",
        file="bridge/adapters/mqtt/retained_images.py",
        old="await until_on_disk(lambda: self._agree(name, image))",
        new="pass",
        guarantee="the picture that a broker retains is the last one in the journal",
        tests=("tests/adapters/mqtt/test_retained_images.py",),
    ),
)
