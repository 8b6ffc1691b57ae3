"""Drives hooks and GPU locks: reports events to the coordinator, and executes its decisions.

It lives from `start` to `stop`. What is to be given back after a crash, and the leases of other
programs, are in a file in the data folder, written before anything follows from them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.retained import Retained
from bridge.aio import wait_set
from bridge.atomicfile import PRIVATE, write_file
from bridge.comfyui.errors import ComfyUIError
from bridge.comfyui.instance import Instance
from bridge.config import Config
from bridge.contract.errors import BadRequest
from bridge.contract.messages import or_unset
from bridge.contract.operator import GpuReport, OfGpu, ReleaseGpu, RequestGpu
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained import GpuLease, HookHealth
from bridge.hooks.calls import CallFailed, MqttCalls
from bridge.hooks.coordinator import (
    Action,
    Coordinator,
    FreeMemory,
    HoldInstance,
    Now,
    PrepareHook,
    ReleaseHook,
    State,
    UseGpu,
    VacateGpu,
)
from bridge.hooks.machine import Machine
from bridge.hooks.presets import Do, HookCalls, calls_of, check_warm, gpus_of, rules_of
from bridge.jobs.clock import Clock
from bridge.jobs.core import events
from bridge.jobs.dispatcher import Dispatcher
from bridge.mqtt import Incoming, Subscription
from bridge.requests.handler import RequestHandler

log = logging.getLogger(__name__)

# The bridge's own lease of a GPU, and how often it is renewed, in seconds.
LEASE_S = 60.0
_RENEW_S = 20.0
# What is given back when the bridge stops has to be through by then.
_STOP_S = 10.0
# Nothing of ours is on the GPU: it is freed, or there is no process.
_VACANT = ("yielded", "stopped", "restarting", "crash_loop")


class Hooks(Extension):
    """All hooks and locks of a bridge. Used on the event loop's thread alone."""

    def __init__(
        self,
        config: Config,
        *,
        instances: Sequence[Instance],
        dispatcher: Dispatcher,
        mqtt: MqttCalls,
        retained: Retained,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        """Raise ConfigError for a hook that could never work.

        `changed` is called when what `health` returns has changed.
        """
        self._instances = {each.name: each for each in instances}
        self._dispatcher = dispatcher
        self._mqtt = mqtt
        self._retained = retained
        self._clock = clock
        self._file = config.folder / "hooks.json"
        self._hooks: dict[str, HookCalls] = {
            each.name: calls_of(each, mqtt, config.base_topic) for each in config.hook
        }
        self._answers = sorted({each.answer for each in config.calls if each.answer is not None})
        self._rules = rules_of(config)
        self._gpus = gpus_of(config)
        self._free_after_s = config.idle_unload_s
        check_warm(config)
        self._coordinator = self._coordinated(State())
        self._changed = changed
        self._woken = asyncio.Event()
        self._saved = State()
        self._saving = asyncio.Lock()
        self._reported: Mapping[str, HookHealth] = {}
        self._published: dict[str, GpuLease] = {}
        self._renewed_at = float("-inf")
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = False

    def _coordinated(self, state: State) -> Coordinator:
        return Coordinator(self._rules, self._gpus, free_after_s=self._free_after_s, state=state)

    def _now(self) -> Now:
        return Now(self._clock.now(), time.monotonic())

    def health(self) -> dict[str, HookHealth]:
        """Return how each hook is, by name."""
        return {
            name: HookHealth(state=machine.state, error=or_unset(machine.error))
            for name, machine in self._coordinator.machines.items()
        }

    # -- MQTT --

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """The topics of answers to hooks; nothing that the broker has from before."""
        return [Subscription(filter=each, retain_handling=2) for each in self._answers]

    async def received(
        self, incoming: Incoming, _delivery: str | None, _handler: RequestHandler
    ) -> None:
        """Take a message that may be the answer to a hook."""
        self._mqtt.received(incoming)

    # -- commands of other programs --

    def owns(self, gpu: str) -> bool:
        """True if a GPU of that name is this bridge's."""
        return gpu in self._gpus

    async def execute(self, command: RequestGpu | ReleaseGpu) -> GpuReport:
        """Request a GPU for a program, or release it; it is on disk when this returns.

        Raises BadRequest and Busy.
        """
        gpu = self._gpu_of(command)
        lock, now = self._coordinator.gpus[gpu].lock, self._clock.now()
        if isinstance(command, RequestGpu):
            done = lock.request(command, now)
        else:
            done = lock.release(command.holder, now)
        self._woken.set()
        await self._save()
        return GpuReport(done=done, lease=self._view(gpu))

    def _gpu_of(self, command: OfGpu) -> str:
        names = sorted(self._gpus)
        if not names:
            raise BadRequest(
                "no GPU has a name here: set comfyui_gpu, or gpu in a [[comfyui]] table",
                field="gpu",
            )
        if isinstance(command.gpu, str) and command.gpu in self._gpus:
            return command.gpu
        if isinstance(command.gpu, str):
            raise BadRequest(f"there is no GPU {command.gpu!r}", field="gpu", allowed=names)
        if len(names) > 1:
            raise BadRequest("there are several GPUs: say which one", field="gpu", allowed=names)
        return names[0]

    # -- life --

    async def start(self) -> None:
        """Read what an earlier process left; from here on ComfyUIs get jobs only as decided."""
        if not self._coordinator.views:
            return
        self._saved = await asyncio.to_thread(_read, self._file)
        self._coordinator = self._coordinated(self._saved)
        self._dispatcher.on_wanted = self._wanted
        for name in self._coordinator.views:
            self._hold(HoldInstance(name, self._coordinator.reason(name, self._now())))

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        if not self._coordinator.views:
            return
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for name in self._coordinator.views:
                tasks.create_task(self._follow(self._instances[name]))
            while True:
                self._woken.clear()
                self._step()
                await self._save()
                await wait_set(self._woken, self._pause_s())

    async def stop(self) -> None:
        """Give the GPUs that the bridge uses back; the next start gives back those that are left.

        Machines are not put to sleep: at the bridge's next start they would have to be woken.
        """
        if not self._coordinator.views:
            return
        self._stopping = True
        # At one that is not the bridge's, a job may go on: its GPU is not free.
        used = {
            name
            for name, instance in self._instances.items()
            if not instance.supervised and self._dispatcher.book.pool[name].jobs
        }
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                for name, machine in self._coordinator.machines.items():
                    if machine.rules.instances.isdisjoint(used) and self._hooks[name].at_stop:
                        await self._give_back(name, machine)
        now = self._clock.now()
        for name, gpu in self._coordinator.gpus.items():
            if used.isdisjoint(gpu.instances):
                gpu.lock.want(wanted=False, now=now)
                gpu.lock.give_up(now)
                self._retained.gpu(self._view(name), self._lasts_s(name))
        await self._save()

    async def _give_back(self, name: str, machine: Machine) -> None:
        if not machine.prepared or machine.running:
            return
        error = await self._called(self._hooks[name].after, name)
        if error is None:
            machine.released()
        else:
            log.warning("hook %s, after_idle: %s", name, error)

    def _pause_s(self) -> float | None:
        now = self._now()
        due = self._coordinator.wakes_at(now)
        if any(gpu.lock.ours for gpu in self._coordinator.gpus.values()):
            due = min(due, self._renewed_at + _RENEW_S)
        return None if due == float("inf") else max(0.0, due - now.steady)

    async def _follow(self, instance: Instance) -> None:
        state = instance.state
        while True:
            self._woken.set()
            state = await instance.changed(state)

    def _wanted(self, instance: str, wanted: bool) -> None:  # noqa: FBT001 - what it is about
        self._coordinator.views[instance].wanted = wanted
        self._woken.set()

    def _is_vacant(self, instance: Instance) -> bool:
        state = instance.state.state
        if state in _VACANT:
            return True
        pooled = self._dispatcher.book.pool[instance.name]
        return state == "unreachable" and not pooled.jobs

    # -- what is decided, and what is done --

    def _step(self) -> None:
        if self._stopping:
            return
        for name, view in self._coordinator.views.items():
            view.vacant = self._is_vacant(self._instances[name])
        for action in self._coordinator.step(self._now()):
            self._carry_out(action)
        self._publish()

    def _carry_out(self, action: Action) -> None:
        match action:
            case HoldInstance():
                self._hold(action)
            case PrepareHook(name):
                self._spawn(self._prepare(name))
            case ReleaseHook(name):
                self._spawn(self._release(name))
            case FreeMemory(gpu):
                self._spawn(self._free(gpu))
            case VacateGpu(gpu, finish):
                log.info("GPU %s is released to other programs", gpu)
                for name in self._gpus[gpu]:
                    self._instances[name].yield_("gpu")
                    if not finish:
                        reason = self._coordinator.reason(name, self._now())
                        self._dispatcher.send_back(name, reason)
            case UseGpu(gpu):
                log.info("GPU %s is held by the bridge again", gpu)
                for name in self._gpus[gpu]:
                    self._instances[name].resume("gpu")

    def _hold(self, hold: HoldInstance) -> None:
        self._dispatcher.handle(events.InstanceHeld(hold.instance, hold.reason))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._tasks is None:
            raise RuntimeError("hooks are called while `run` runs")
        self._tasks.create_task(work)

    async def _prepare(self, name: str) -> None:
        await self._save()  # so that it is given back whatever happens
        self._ended(name, "before_busy", await self._called(self._hooks[name].before, name))

    async def _release(self, name: str) -> None:
        for instance in self._coordinator.machines[name].rules.instances:
            await self._free_memory(self._instances[instance])
        self._ended(name, "after_idle", await self._called(self._hooks[name].after, name))

    async def _free(self, gpu: str) -> None:
        for instance in self._gpus[gpu]:
            await self._free_memory(self._instances[instance])
        self._coordinator.freed(gpu, self._now())
        self._woken.set()

    async def _free_memory(self, instance: Instance) -> None:
        if not instance.state.usable:
            return
        try:
            await instance.free()
        except ComfyUIError as error:
            log.warning("ComfyUI %s did not free its memory: %s", instance.name, error)

    async def _called(self, do: Do | None, name: str) -> str | None:
        """Make a call; returns what went wrong."""
        if do is None:
            return None
        limit_s = self._hooks[name].timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await do()
        except TimeoutError:
            return f"no answer within {limit_s:g} s"
        except CallFailed as error:
            return str(error)
        except Exception as error:  # a defect costs the call, not the bridge
            log.exception("hook failed: defect in the bridge")
            return f"a defect of the bridge: {type(error).__name__}"
        return None

    def _ended(self, name: str, what: str, error: str | None) -> None:
        if error is None:
            log.info("hook %s, %s: done", name, what)
        else:
            log.warning("hook %s, %s: %s", name, what, error)
        self._coordinator.ended(name, error, self._now())
        self._woken.set()

    # -- what is published and kept --

    def _publish(self) -> None:
        renew = time.monotonic() >= self._renewed_at + _RENEW_S
        if renew:
            self._renewed_at = time.monotonic()
        for name, gpu in self._coordinator.gpus.items():
            lease = self._view(name)
            # The bridge's own lease ends later each time that one looks.
            seen = msgspec.structs.replace(lease, until=UNSET) if gpu.lock.ours else lease
            if renew or seen != self._published.get(name):
                self._published[name] = seen
                self._retained.gpu(lease, self._lasts_s(name))
        health = self.health()
        if health != self._reported:
            self._reported = health
            self._changed()

    def _view(self, gpu: str) -> GpuLease:
        clock = self._clock
        lock = self._coordinator.gpus[gpu].lock
        return lock.view(gpu, clock.now(), clock.shown, LEASE_S)

    def _lasts_s(self, gpu: str) -> float | None:
        """Return for how long a broker may keep what it has about a GPU; None: for ever."""
        lease = self._coordinator.gpus[gpu].lock.lease
        if lease is None:
            return None
        return LEASE_S if lease.until is None else max(1.0, lease.until - self._clock.now())

    async def _save(self) -> None:
        """Write what outlives the process, if that has changed."""
        async with self._saving:
            state = self._coordinator.state()
            if state == self._saved:
                return
            try:
                data = msgspec.json.encode(state)
                await asyncio.to_thread(write_file, self._file, data, mode=PRIVATE)
            except OSError as error:
                log.warning("cannot write %s: %s", self._file, error.strerror)
            else:
                self._saved = state


def _read(file: Path) -> State:
    """Return what an earlier process wrote; nothing if there is none, or it is damaged."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=State)
    except FileNotFoundError:
        return State()
    except (OSError, *UNREADABLE) as error:
        log.warning("cannot read %s, it is ignored: %s", file, error)
        return State()
