"""Decides what is retried, when, and for how long. Pure: times are seconds."""

from __future__ import annotations

from bridge.contract.errors import BridgeError, DeliveryFailed

# Answers by which a server says that it may go better later: too early, too much, its own fault.
_PASSING = frozenset({408, 423, 425, 429, 500, 502, 503, 504, 507})
_GONE = 410
_REDIRECTS = range(300, 400)
_OK = range(200, 300)
# A server hangs if no byte of a body or an answer moves for this many seconds.
STALL_S = 30.0
# A server that takes less in a second is not waited for.
_LEAST_RATE = 64 * 1024
# A server may ask for longer, and gets this.
LONGEST_PAUSE_S = 60.0

# Between the attempts of a webhook: ten in some eighteen hours.
PAUSES_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 14_400.0, 14_400.0, 28_800.0)
WEBHOOK_TIMEOUT_S = 15.0


class DeliveryRefused(Exception):
    """A server's answer that says no; `passes`: it may say yes later, in `after_s` at the soonest.

    `missing`: the folder is not there, which WebDAV can make.
    """

    def __init__(
        self, problem: str, status: int, *, passes: bool = False, after_s: float | None = None
    ) -> None:
        super().__init__(problem)
        self.status = status
        self.passes = passes
        self.after_s = after_s

    @property
    def missing(self) -> bool:
        """True if WebDAV lacks the folder that the file is to lie in (RFC 4918, 9.7.1)."""
        return self.status == 409  # noqa: PLR2004 - HTTP's


def judge(
    status: int, reason: str, code: str | None, retry_after: str | None
) -> DeliveryRefused | None:
    """Return why an answer is a refusal, None if it is none.

    `code` is the word that a store's XML has for it, `retry_after` the header.
    """
    if status in _OK:
        return None
    what = f"the server answers {status} {reason}".rstrip()
    if code is not None:
        what = f"{what} ({code})"
    if status in _REDIRECTS:
        return DeliveryRefused(f"{what}; redirects are not followed", status)
    passes = status in _PASSING
    return DeliveryRefused(
        what, status, passes=passes, after_s=_seconds(retry_after) if passes else None
    )


def _seconds(retry_after: str | None) -> float | None:
    """Return how long a server asks to be left alone; None if it gives a date, or nothing."""
    text = (retry_after or "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:9]), LONGEST_PAUSE_S)


def longest(size: int, within_s: float) -> float:
    """Return the longest time of one output's delivery, all attempts together.

    The last one may begin late, after a pause.
    """
    return within_s + 2 * STALL_S + size / _LEAST_RATE


def next_attempt(attempts: int, status: int | None) -> float | None:
    """Return the pause before a webhook is sent again, after `attempts` failures.

    None if it is given up: after enough attempts, or if the receiver answers `gone`.
    `status` is the last answer's, None if there was none.
    """
    if status == _GONE or attempts > len(PAUSES_S):
        return None
    return PAUSES_S[attempts - 1]


def failed(problem: str, url: str, *, attempts: int, status: int | None = None) -> BridgeError:
    """Return what a client learns of a delivery that failed."""
    tried = "" if attempts == 1 else f", after {attempts} attempts"
    return DeliveryFailed(f"{problem}{tried}", url=url, attempts=attempts, status=status)
