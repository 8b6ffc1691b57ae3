"""The error that answers a request."""

from __future__ import annotations

import logging

from msgspec import UnsetType

from bridge.contract.errors import BridgeError, Busy, internal
from bridge.contract.messages import Transaction
from bridge.jobs.database import DatabaseError, LeaseLost, TransientError
from bridge.requests.context import Answer

log = logging.getLogger(__name__)


def refusal(error: Exception, transaction: Transaction | UnsetType, request: str) -> Answer:
    """Return the answer to a request that an error ended; log it unless the sender caused it.

    `request` names it in the log. A defect must cost the one request that met it, not the bridge:
    it would come again. The text of a defect may name things of this machine, such as paths: only
    the log gets it. Raises LeaseLost: the request is not acknowledged here, so that the broker
    delivers it to the bridge that took over.
    """
    if isinstance(error, LeaseLost):
        raise error
    if isinstance(error, BridgeError):
        return Answer(error=error, transaction=transaction)
    if isinstance(error, TransientError) or (isinstance(error, OSError) and error.strerror):
        # Of the disk: where in the code it was noticed says nothing.
        log.error("%s failed: %s", request, error)
    else:
        log.error("%s failed", request, exc_info=error)
    if isinstance(error, DatabaseError | OSError):
        answer: BridgeError = Busy("the bridge cannot use its disk, database or store now")
    else:
        answer = internal(error)
    return Answer(error=answer, transaction=transaction)
