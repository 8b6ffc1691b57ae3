"""Which ComfyUI takes which job.

Each ComfyUI is a post that asks for work by itself, one job ahead, so that it never idles between
two. A post takes what its ComfyUI can run; a job goes to an idle one rather than behind another
job, and to the one that has its model loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from bridge.comfyui.instance import Instance
from bridge.jobs.queue import Key, Lane, Queue
from bridge.jobs.tidying import Tidying
from bridge.workflows.catalogue import Needs

# Whether the ComfyUI of a name has what is needed.
CanRun = Callable[[str, Needs], bool]

_SETTLES_S = 1.0


class At(Struct, frozen=True):
    """A lane of its own: jobs that one ComfyUI has already."""

    name: str


class Post:
    """One ComfyUI, and what the bridge has there.

    `looking` is whether it asks for a job and there is none for it.
    """

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.tidying = Tidying(instance)
        self.looking = False
        self._jobs = 0
        self._left_at = 0.0
        self._models: tuple[str, ...] = ()
        self._loaded_in: tuple[str | None, int] = (None, 0)

    @property
    def name(self) -> str:
        """Its ComfyUI's name."""
        return self.instance.name

    @property
    def free(self) -> bool:
        """Whether it would start a job at once: what others run on a ComfyUI of theirs counts."""
        if self._jobs:
            return False
        # That our own last job is over comes a moment before ComfyUI says that nothing runs.
        lately = time.monotonic() - self._left_at < _SETTLES_S
        return self.instance.state.state == "ready" or (lately and self.instance.state.usable)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it has loaded, by what it ran last; none once they were unloaded."""
        return self._models if self._loaded_in == self._memory else ()

    @property
    def _memory(self) -> tuple[str | None, int]:
        """What changes when what was loaded is there no more."""
        return self.instance.state.epoch, self.instance.state.unloads

    def enter(self) -> None:
        """Note that a job goes there."""
        self._jobs += 1

    def leave(self) -> None:
        """Note that a job is through there."""
        self._jobs -= 1
        self._left_at = time.monotonic()

    def loaded(self, needs: Needs) -> None:
        """Note that a job runs there; one that needs no model leaves in place what is loaded."""
        self._models = needs.models or self.models
        self._loaded_in = self._memory


class Posts:
    """All of them, and how they share the queue."""

    def __init__(
        self,
        instances: Sequence[Instance],
        queue: Queue,
        can_run: CanRun,
        reorder_s: float,
        *,
        alone: bool,
    ) -> None:
        self._posts = [Post(instance) for instance in instances]
        self._by_name = {post.name: post for post in self._posts}
        self._queue = queue
        self._can_run = can_run
        self._reorder_s = reorder_s
        self._no_choice = alone and len(instances) == 1

    def __iter__(self) -> Iterator[Post]:
        return iter(self._posts)

    def __len__(self) -> int:
        return len(self._posts)

    def is_attached(self, name: str) -> bool:
        """Whether there is a ComfyUI of that name, and not ours to start and stop."""
        post = self._by_name.get(name)
        return post is not None and post.instance.output_folder is None

    def take(self, post: Post) -> Key | None:
        """Take the next job for a ComfyUI out of the queue; None if it should have none now."""
        return self._queue.take(
            # With one there is no choice: a job that it cannot run should fail there, and say why.
            able=None if self._no_choice else lambda lane: self._may_take(post, lane),
            prefer=(lambda lane: _fits(post, lane)) if post.models else None,
            reorder_s=self._reorder_s,
            now=time.monotonic(),
        )

    def able(self, needs: Needs) -> list[str]:
        """The names of the ComfyUIs that have what is needed."""
        return [post.name for post in self._posts if self._can_run(post.name, needs)]

    def _may_take(self, post: Post, lane: Lane) -> bool:
        if isinstance(lane, At):
            return lane.name == post.name
        if not (isinstance(lane, Needs) and self._can_run(post.name, lane)):
            return False
        for other in self._posts:
            if other is post or not (other.looking and other.free):
                continue
            if not self._can_run(other.name, lane):
                continue
            if not post.free or (lane.models and other.models == lane.models != post.models):
                return False  # it goes there
        return True


def _fits(post: Post, lane: Lane) -> bool:
    """Whether a job would run with what is loaded."""
    return isinstance(lane, Needs) and lane.models in ((), post.models)
