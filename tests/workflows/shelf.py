from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.workflows.library import Library


class Shelf:
    """A folder of workflows, and a library on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workflows"
        self.folder.mkdir()
        self.cache = folder / "data" / "object_info"
        self.library = Library(self.folder, self.cache, ["one", "two"])

    def put(self, file: str, content: Any) -> None:
        if not isinstance(content, bytes):
            content = (content if isinstance(content, str) else json.dumps(content)).encode()
        (self.folder / file).write_bytes(content)

    def remove(self, file: str) -> None:
        (self.folder / file).unlink()
