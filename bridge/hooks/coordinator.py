"""All hooks and locks of a bridge together: which ComfyUI may have jobs, and what is to be done.

Pure: what is known goes in, `step` returns what is to be done. A ComfyUI gets jobs once the bridge
has its GPU, and then its hooks are through, one after the other in the order of the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from msgspec import Struct

from bridge.hooks.lock import BRIDGE, Lock, SavedLock
from bridge.hooks.machine import Machine, Rules


class Now(Struct, frozen=True):
    """The seconds of two clocks: locks use the journal's, which continues after a restart."""

    journal: float
    steady: float


# -- what is to be done ---------------------------------------------------------------------------


class PrepareHook(Struct, frozen=True):
    """Call a hook's `before_busy`. Answered by `ended`."""

    hook: str


class ReleaseHook(Struct, frozen=True):
    """Free the memory of a hook's ComfyUIs, then call its `after_idle`. Answered by `ended`."""

    hook: str


class VacateGpu(Struct, frozen=True):
    """The ComfyUIs on a GPU are to end what they run and to free their memory.

    Without `finish` what runs goes back to the queue.
    """

    gpu: str
    finish: bool


class UseGpu(Struct, frozen=True):
    """Use the ComfyUIs on a GPU again."""

    gpu: str


class FreeMemory(Struct, frozen=True):
    """Free the memory of a GPU's ComfyUIs. Answered by `freed`."""

    gpu: str


class HoldInstance(Struct, frozen=True):
    """A ComfyUI is to get no jobs, for a reason; None: it gets jobs again."""

    instance: str
    reason: str | None


Action: TypeAlias = PrepareHook | ReleaseHook | VacateGpu | UseGpu | FreeMemory | HoldInstance


class ComfyUIView(Struct):
    """The coordinator's view of a ComfyUI.

    `wanted`: jobs wait for it or are there. `vacant`: nothing of ours is on its GPU, since it
    yielded or has no process.
    """

    wanted: bool = False
    vacant: bool = False


class State(Struct, frozen=True):
    """The state kept over a restart: hooks that are to be released, and the locks by GPU."""

    prepared: list[str] = []
    locks: dict[str, SavedLock] = {}


class _Gpu:
    """One GPU with a lock, and what the bridge is doing about it."""

    def __init__(self, instances: Sequence[str], kept: SavedLock | None) -> None:
        self.instances = instances
        self.lock = Lock(kept)
        # Set while its ComfyUIs leave the GPU: True if their jobs may finish.
        self.left: bool | None = None
        self.idle_since: float | None = None
        self.freeing = False


class Coordinator:
    """`step` after each change, and at `wakes_at`. Used by one caller at a time."""

    def __init__(
        self,
        hooks: Sequence[Rules],
        gpus: Mapping[str, Sequence[str]],
        *,
        free_after_s: float,
        state: State | None = None,
    ) -> None:
        """`gpus` are the ComfyUIs on each GPU that has a lock.

        After `free_after_s` without a job the bridge leaves a GPU; at 0 only if it is asked to.
        """
        state = state or State()
        self.machines = {
            each.name: Machine(each, prepared=each.name in state.prepared) for each in hooks
        }
        self.gpus = {
            name: _Gpu(instances, state.locks.get(name)) for name, instances in gpus.items()
        }
        names = set[str]().union(*gpus.values(), *(each.instances for each in hooks))
        self.views = {name: ComfyUIView() for name in sorted(names)}
        self._free_after_s = free_after_s
        self._held: dict[str, str | None] = {}

    def state(self) -> State:
        """Return what outlives the process."""
        return State(
            [name for name, machine in self.machines.items() if machine.prepared],
            {name: gpu.lock.kept() for name, gpu in self.gpus.items()},
        )

    # -- events --

    def ended(self, hook: str, error: str | None, now: Now) -> None:
        """Note that a hook's call has ended, and what went wrong."""
        self.machines[hook].ended(error, now.steady)

    def freed(self, gpu: str, now: Now) -> None:
        """Note that a GPU's memory is free."""
        found = self.gpus[gpu]
        found.freeing = False
        found.idle_since = None
        found.lock.give_up(now.journal)

    def step(self, now: Now) -> list[Action]:
        """Return what is to be done now, each once."""
        actions: list[Action] = []
        for name, gpu in self.gpus.items():
            actions += self._step_gpu(name, gpu, now)
        for machine in self.machines.values():
            work = machine.step(
                now.steady, wanted=self._wants(machine, now), blocked=self._blocked(machine, now)
            )
            if work is not None:
                made = PrepareHook if work == "prepare" else ReleaseHook
                actions.append(made(machine.rules.name))
        for name in self.views:
            reason = self.reason(name, now)
            if name not in self._held or self._held[name] != reason:
                self._held[name] = reason
                actions.append(HoldInstance(name, reason))
        return actions

    def wakes_at(self, now: Now) -> float:
        """Return when `step` is due though nothing changes, by the steady clock."""
        steady = [each.wakes_at(wanted=self._wants(each, now)) for each in self.machines.values()]
        for gpu in self.gpus.values():
            steady.append(gpu.lock.wakes_at(now.journal) - now.journal + now.steady)
            if gpu.idle_since is not None and not gpu.freeing:
                steady.append(gpu.idle_since + self._free_after_s)
        return min(steady, default=float("inf"))

    # -- GPUs --

    def _step_gpu(self, name: str, gpu: _Gpu, now: Now) -> Iterator[Action]:
        lock = gpu.lock
        wanted = any(self.views[each].wanted for each in gpu.instances)
        lock.want(wanted=wanted, now=now.journal)
        claim = lock.claim(now.journal)
        if claim is not None and gpu.left is not None and self._is_vacant(gpu):
            lock.vacated(now.journal)
            claim = lock.claim(now.journal)
        if claim is not None or lock.lent:
            finish = claim is None or claim.finish
            if gpu.left is None or (gpu.left and not finish):
                gpu.left = finish
                yield VacateGpu(name, finish)
        elif gpu.left is not None:
            gpu.left = None
            yield UseGpu(name)
        if wanted or not lock.ours or not self._free_after_s:
            gpu.idle_since = None
        elif gpu.idle_since is None:
            gpu.idle_since = now.steady
        elif not gpu.freeing and now.steady >= gpu.idle_since + self._free_after_s:
            gpu.freeing = True
            yield FreeMemory(name)

    def _is_vacant(self, gpu: _Gpu) -> bool:
        """True if nothing of ours is on a GPU, and no hook around it is being called."""
        calls = any(
            machine.running and not machine.rules.instances.isdisjoint(gpu.instances)
            for machine in self.machines.values()
        )
        return not calls and all(self.views[each].vacant for each in gpu.instances)

    def _gpu_of(self, instance: str) -> tuple[str, _Gpu] | None:
        return next(
            ((name, gpu) for name, gpu in self.gpus.items() if instance in gpu.instances), None
        )

    def _is_ours(self, instance: str, now: Now) -> bool:
        found = self._gpu_of(instance)
        return found is None or (found[1].lock.ours and found[1].lock.claim(now.journal) is None)

    # -- hooks --

    def _wants(self, machine: Machine, now: Now) -> bool:
        """True if jobs wait for a ComfyUI of which all else is ready."""
        return any(
            self.views[name].wanted and self._is_ours(name, now) and self._is_open(name, machine)
            for name in machine.rules.instances
        )

    def _is_open(self, instance: str, before: Machine) -> bool:
        """True if the hooks of a ComfyUI that come before one are through."""
        for machine in self.machines.values():
            if machine is before:
                return True
            if instance in machine.rules.instances and not machine.open:
                return False
        return True

    def _blocked(self, machine: Machine, now: Now) -> bool:
        """True if another program has a GPU of this hook's, or is about to."""
        found = (self._gpu_of(name) for name in machine.rules.instances)
        return any(
            gpu.lock.lent or gpu.lock.claim(now.journal) is not None
            for _, gpu in filter(None, found)
        )

    # -- reasons --

    def reason(self, instance: str, now: Now) -> str | None:
        """Return for what a ComfyUI waits, so that it gets no jobs; None if it gets them."""
        found = self._gpu_of(instance)
        if found is not None and not self._is_ours(instance, now):
            return _of_gpu(*found, now)
        for machine in self.machines.values():
            if instance in machine.rules.instances and not machine.open:
                name = f"hook {machine.rules.name!r}"
                if machine.error is None:
                    return name
                return f"{name}, which fails and is called again: {machine.error}"
        return None


def _of_gpu(name: str, gpu: _Gpu, now: Now) -> str:
    lease, claim = gpu.lock.lease, gpu.lock.claim(now.journal)
    if claim is not None:
        return f"GPU {name!r}, which {claim.holder!r} gets next"
    if lease is None or lease.holder == BRIDGE:
        return f"GPU {name!r}"
    return f"GPU {name!r}, which {lease.holder!r} has"
