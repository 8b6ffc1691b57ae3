"""The error that answers a request."""

from __future__ import annotations

import logging

from msgspec import UnsetType

from bridge.contract.errors import BridgeError, Busy
from bridge.contract.messages import Transaction
from bridge.jobs.database import DatabaseError
from bridge.requests.context import Answer

log = logging.getLogger(__name__)


def refusal(error: Exception, transaction: Transaction | UnsetType, request: str) -> Answer:
    """Return the answer to a request that an error ended; log it unless the sender caused it.

    `request` names it in the log. A defect must cost the one request that met it, not the bridge:
    it would come again. What a defect says may be of this machine, such as a path: that is for the
    log alone.
    """
    if isinstance(error, BridgeError):
        return Answer(error=error, transaction=transaction)
    log.error("%s failed", request, exc_info=error)
    if isinstance(error, DatabaseError | OSError):
        answer: BridgeError = Busy("the bridge cannot use its disk or its database at the moment")
    else:
        kind = type(error).__name__
        answer = BridgeError(f"internal error ({kind}); the bridge's log says where")
    return Answer(error=answer, transaction=transaction)
