"""The log of requests that failed."""

from __future__ import annotations

import errno
import logging

import pytest
from msgspec import UNSET

from bridge.contract.errors import Busy
from bridge.requests.errors import refusal


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_fault_of_the_disk_is_one_line(number: int, caplog: pytest.LogCaptureFixture) -> None:
    answer = refusal(OSError(number, "words of the system"), UNSET, "upload of alice")
    assert isinstance(answer.error, Busy)
    (record,) = caplog.records
    assert (record.levelno, record.exc_info) == (logging.ERROR, None)
    assert record.getMessage().endswith("words of the system")


def test_a_defect_is_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    refusal(KeyError("x"), UNSET, "upload of alice")
    (record,) = caplog.records
    assert record.exc_info is not None
