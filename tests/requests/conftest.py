"""The processes that make pictures, kept from one test to the next: a start takes 0.2 s."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bridge.media.transcode import _Worker


@pytest.fixture(scope="session")
def workers() -> Iterator[list[_Worker]]:
    """Those that no test uses now."""
    idle: list[_Worker] = []
    yield idle
    for each in idle:
        each.stop()


@pytest.fixture(autouse=True)
def _workers_are_kept(workers: list[_Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    start, stop = _Worker.start, _Worker.stop

    def take() -> _Worker:
        return workers.pop() if workers else start()

    def put_back(worker: _Worker) -> None:
        if worker.alive:
            workers.append(worker)
        else:
            stop(worker)

    monkeypatch.setattr(_Worker, "start", take)
    monkeypatch.setattr(_Worker, "stop", put_back)
