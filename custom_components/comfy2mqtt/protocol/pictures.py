"""Pictures that are known here: the last of a workflow, and what a display shows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .decode import decoder, whole
from .messages import Output


@dataclass(frozen=True)
class Picture:
    """The last picture of a workflow, and when it came (ISO 8601)."""

    n: int
    job_id: str
    index: int
    content_type: str
    size: int
    sha256: str
    at: str

    def output(self) -> Output:
        """Return the output of the job that this picture is."""
        return Output(self.index, "", "image", self.content_type, self.size, self.sha256)


@decoder("a picture that was kept")
def read_picture(found: Any) -> Picture:
    """Read a picture that was kept. Raises MalformedError."""
    return Picture(
        n=whole(found["n"]),
        job_id=str(found["job_id"]),
        index=whole(found["index"]),
        content_type=str(found["content_type"]),
        size=whole(found["size"]),
        sha256=str(found["sha256"]),
        at=datetime.fromisoformat(found["at"]).isoformat(),
    )


@dataclass(frozen=True)
class Shown:
    """A display's picture, and since when it is known here (ISO 8601)."""

    data: bytes
    at: str
