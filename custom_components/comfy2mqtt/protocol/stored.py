"""Contents of the integration's files: the results of a bridge, and the names of actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from .decode import an_object, decoder, optional, whole
from .pictures import Picture, read_picture

# Of each bridge, by the id of its entry, the action of each workflow.
Names: TypeAlias = dict[str, dict[str, str]]


@dataclass(frozen=True)
class StoredResults:
    """The results of one client of a bridge, as `Ledger` has them, and the last pictures.

    An older version had neither base and client, nor the last job.
    """

    base: str | None = None
    client: str | None = None
    after: int = 0
    last: str | None = None
    taken: Mapping[str, int | None] = field(default_factory=dict)
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def written(self) -> dict[str, Any]:
        """Return the JSON object that `read_results` reads again."""
        return asdict(self)


@decoder("what was kept of results")
def read_results(found: Any) -> StoredResults:
    """Read what was written. Raises MalformedError."""
    taken = found.get("taken", {})
    if isinstance(taken, list):
        # An older version had no numbers.
        taken = dict.fromkeys(map(str, taken))
    return StoredResults(
        base=optional(str, found.get("base")),
        client=optional(str, found.get("client")),
        after=whole(found["after"]),
        last=optional(str, found.get("last")),
        taken={job_id: optional(whole, own) for job_id, own in an_object(taken).items()},
        pictures={
            workflow: read_picture(picture)
            for workflow, picture in found.get("pictures", {}).items()
        },
    )


@decoder("the names of actions")
def read_names(found: Any) -> Names:
    """Read what was written. Raises MalformedError."""
    kept = {
        str(entry_id): {str(workflow): _action(name) for workflow, name in an_object(names).items()}
        for entry_id, names in an_object(found).items()
    }
    actions = [action for names in kept.values() for action in names.values()]
    if len(actions) != len(set(actions)):
        raise ValueError("two workflows have one action")
    return kept


def _action(found: Any) -> str:
    if not isinstance(found, str) or not found.startswith("run_"):
        raise ValueError("not the name of an action")
    return found
