"""Notices of a real PostgreSQL, as one session receives them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from bridge.jobs.database.notices import Ask, listen
from tests.jobs.listening import listening, nothing
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


async def test_notices_one_after_another_cost_no_watch_and_no_timer_each(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    calls = []

    async with listening(address) as heard:
        for name in ("add_reader", "call_at"):
            monkeypatch.setattr(loop, name, lambda *_, name=name: calls.append(name))
        with psycopg.connect(address, autocommit=True) as sender:
            for number in range(MANY):
                sender.execute("SELECT pg_notify('x', %s)", (str(number),))
                assert await heard.get() == str(number)
        monkeypatch.undo()
    assert not calls


async def test_those_that_come_with_an_answer_are_received_in_their_order(address: str) -> None:
    asked = asyncio.Event()

    async def poll(ask: Ask) -> None:
        if not asked.is_set():
            asked.set()
            await ask("SELECT pg_notify('x', 'with an answer')", ())

    async with listening(address, poll=poll, every_s=0.01) as heard:
        assert await heard.get() == "with an answer"
        with psycopg.connect(address, autocommit=True) as sender:
            sender.execute("SELECT pg_notify('x', 'after it')")
        assert await heard.get() == "after it"


async def test_a_flood_does_not_keep_from_looking(address: str) -> None:
    looked = asyncio.Event()

    async def poll(_: Ask) -> None:
        looked.set()

    with psycopg.connect(address, autocommit=True) as sender:
        async with listening(address, poll=poll, every_s=0.05) as heard:
            while not looked.is_set():
                # Before the last one is read there are others.
                sender.execute("SELECT pg_notify('x', each::text) FROM generate_series(1, 3) each")
                await heard.get()


async def test_a_notice_that_cannot_be_handled_ends_the_listening(address: str) -> None:
    def take(text: str | None) -> None:
        if text is not None:
            raise ValueError(text)
        sender.execute("SELECT pg_notify('x', 'unheard of')")

    with psycopg.connect(address, autocommit=True) as sender:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ValueError, match="unheard of"):
                await listen(address, "x", take, began=nothing, poll=nothing, every_s=PATIENCE_S)


async def test_a_notice_in_another_encoding_ends_nothing(postgresql: PostgreSQL) -> None:
    postgresql.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        async with listening(address := postgresql.address("latin")) as heard:
            with psycopg.connect(address, autocommit=True) as sender:
                for text in ("é", "e"):
                    sender.execute("SELECT pg_notify('x', %s)", (text,))
            assert await heard.get() == "\ufffd"
            assert await heard.get() == "e"
    finally:
        postgresql.execute("DROP DATABASE latin WITH (FORCE)")


async def test_what_is_opened_under_the_number_of_a_lost_socket_stays_watched(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    remove = loop.remove_reader
    lost: list[int] = []
    ours, other = socket.socketpair()

    def removed(number: int) -> bool:
        was_there = remove(number)
        if not lost and not _is_open(number):
            # libpq has closed it: any socket that is opened now may get its number.
            lost.append(os.dup2(ours.fileno(), number))
            loop.add_reader(number, readable.set)
        return was_there

    monkeypatch.setattr(loop, "remove_reader", removed)
    with closing(ours), closing(other):
        async with listening(address) as heard:
            with psycopg.connect(address, autocommit=True) as sender:
                sender.execute(END_SESSIONS)
            assert await heard.get() is None
            assert lost
            other.send(b"x")
            await readable.wait()
        remove(lost[0])
        os.close(lost[0])


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
