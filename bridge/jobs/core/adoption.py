"""Prompts that earlier processes of the bridge left at ComfyUIs, and who runs their jobs. Pure.

After a start a job may be at a ComfyUI already. Each ComfyUI is asked once for its prompts. A job
whose prompt is there is run there; one whose ComfyUI is away is run by another one, and its prompt
is cancelled once the first is back.
"""

from __future__ import annotations

from collections.abc import Collection

from bridge.jobs.core import effects
from bridge.jobs.core.book import Book
from bridge.jobs.core.entry import Entry, Phase
from bridge.jobs.core.pool import PoolInstance


class Adoption:
    """Knows which prompts may be at more than one ComfyUI."""

    def __init__(self, book: Book) -> None:
        self._book = book
        # The ComfyUI that runs a prompt, by prompt id, while others were not asked for theirs.
        self._run_by: dict[str, str] = {}

    def add(self, entry: Entry) -> None:
        """Take a job from before this process, which may be at a ComfyUI."""
        entry.adopt = True
        self._book.adopting.add(entry.job.key)
        instance = self._book.pool.get(entry.job.instance)
        if instance is not None and instance.attached:
            # If that one is away for long, what became of the job is known only there.
            entry.pinned = instance.name

    def starts(self, entry: Entry, instance: PoolInstance) -> None:
        """Note that a job from before this process is started at a ComfyUI."""
        if not self._all_asked:
            self._run_by[entry.job.prompt_id] = instance.name
        entry.adopt = False
        self._book.adopting.discard(entry.job.key)

    def usable(self, instance: PoolInstance) -> list[effects.Effect]:
        """Note that a ComfyUI became usable; its prompts are listed if that can tell anything."""
        if instance.asked or instance.asking:
            return []
        if self._book.adopting or self._run_by:
            instance.asking = True
            return [effects.ListPrompts(instance.name)]
        instance.asked = True
        return []

    def listed(
        self, instance: PoolInstance, prompt_ids: Collection[str] | None
    ) -> list[effects.Effect]:
        """Pin the jobs whose prompts a ComfyUI has to it, and cancel those that another one runs.

        `prompt_ids` is None if it could not be asked: it is asked again when it is usable again.
        """
        instance.asking = False
        if prompt_ids is None:
            return []
        instance.asked = True
        for key in list(self._book.adopting):
            entry = self._book.entries[key]
            if entry.phase is Phase.QUEUED and entry.job.prompt_id in prompt_ids:
                self._book.dequeue(entry)
                entry.pinned = instance.name
                self._book.enqueue(entry)
        cancelled: list[effects.Effect] = [
            effects.CancelPrompt(instance.name, prompt_id)
            for prompt_id in prompt_ids
            if self._run_by.get(prompt_id, instance.name) != instance.name
        ]
        if self._all_asked:
            self._run_by.clear()
        return cancelled

    @property
    def _all_asked(self) -> bool:
        return all(each.asked for each in self._book.pool)
