"""Notices of a real PostgreSQL, as one session receives them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from bridge.jobs.database.notices import Ask, notices
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql
MANY = 50
END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE application_name = 'comfy2mqtt notices' AND datname = current_database()"""


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


async def _nothing(_: Ask) -> None:
    pass


async def test_notices_one_after_another_cost_no_watch_each(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    watched = []
    add = loop.add_reader

    def counted(socket: int, *rest: object) -> None:
        watched.append(socket)
        add(socket, *rest)  # type: ignore[arg-type]

    async with asyncio.timeout(PATIENCE_S):
        heard = notices(address, "x", began=_nothing, look=_nothing, every_s=PATIENCE_S)
        assert await anext(heard) is None
        monkeypatch.setattr(loop, "add_reader", counted)
        with psycopg.connect(address, autocommit=True) as sender:
            for number in range(MANY):
                sender.execute("SELECT pg_notify('x', %s)", (str(number),))
                assert await anext(heard) == str(number)
    assert not watched
    await heard.aclose()  # type: ignore[attr-defined]


async def test_those_that_come_with_an_answer_are_received_in_their_order(address: str) -> None:
    asked = asyncio.Event()

    async def look(ask: Ask) -> None:
        if not asked.is_set():
            asked.set()
            await ask("SELECT pg_notify('x', 'with an answer')", ())

    async with asyncio.timeout(PATIENCE_S):
        heard = notices(address, "x", began=_nothing, look=look, every_s=0.01)
        assert await anext(heard) is None
        assert await anext(heard) == "with an answer"
        with psycopg.connect(address, autocommit=True) as sender:
            sender.execute("SELECT pg_notify('x', 'after it')")
        assert await anext(heard) == "after it"
    await heard.aclose()  # type: ignore[attr-defined]


async def test_a_flood_does_not_keep_from_looking(address: str) -> None:
    looked = asyncio.Event()

    async def look(_: Ask) -> None:
        looked.set()

    with psycopg.connect(address, autocommit=True) as sender:
        async with asyncio.timeout(PATIENCE_S):
            heard = notices(address, "x", began=_nothing, look=look, every_s=0.05)
            assert await anext(heard) is None
            while not looked.is_set():
                # Before the last one is read there are others.
                sender.execute("SELECT pg_notify('x', each::text) FROM generate_series(1, 3) each")
                await anext(heard)
    await heard.aclose()  # type: ignore[attr-defined]


async def test_what_is_opened_under_the_number_of_a_lost_socket_stays_watched(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, heard = asyncio.get_running_loop(), asyncio.Event()
    remove = loop.remove_reader
    lost: list[int] = []
    ours, other = socket.socketpair()

    def removed(number: int) -> bool:
        was_there = remove(number)
        if not lost and not _is_open(number):
            # libpq has closed it: any socket that is opened now may get its number.
            lost.append(os.dup2(ours.fileno(), number))
            loop.add_reader(number, heard.set)
        return was_there

    monkeypatch.setattr(loop, "remove_reader", removed)
    with closing(ours), closing(other):
        async with asyncio.timeout(PATIENCE_S):
            session = notices(address, "x", began=_nothing, look=_nothing, every_s=PATIENCE_S)
            assert await anext(session) is None
            with psycopg.connect(address, autocommit=True) as sender:
                sender.execute(END_SESSIONS)
            assert await anext(session) is None
            assert lost
            other.send(b"x")
            await heard.wait()
        await session.aclose()  # type: ignore[attr-defined]
        remove(lost[0])
        os.close(lost[0])


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
