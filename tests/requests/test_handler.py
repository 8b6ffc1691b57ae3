from __future__ import annotations

from typing import Any, cast

from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.journal import Journal
from bridge.jobs.uploads import Uploads
from bridge.media.files import Files
from bridge.requests.admission import Admission
from bridge.requests.context import Answer, RequestContext
from bridge.requests.handler import RequestHandler
from bridge.requests.rate_limit import RateLimiter
from bridge.requests.thumbnails import Thumbnails


class Defective:
    """A part of the bridge with a defect that nobody foresaw."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)


async def test_a_defect_costs_the_request_that_met_it_and_nothing_else() -> None:
    part = Defective()
    desk = RequestHandler(
        intake=cast("Admission", part),
        uploads=cast("Uploads", part),
        journal=cast("Journal", part),
        files=cast("Files", part),
        thumbnails=cast("Thumbnails", part),
        dispatcher=cast("Dispatcher", part),
        rates=RateLimiter(lambda _: 100.0, lambda: 0.0),
    )
    answers: list[Answer] = []
    asked = RequestContext(client="alice", verb="ack", payload=b'{"up_to": 1, "transaction": "t"}')
    await desk.handle(asked, answers.append)
    (answer,) = answers
    assert answer.error is not None
    assert answer.error.code == "bridge_error"
    assert answer.transaction == "t"
