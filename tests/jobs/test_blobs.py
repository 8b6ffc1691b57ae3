from __future__ import annotations

import hashlib
from collections.abc import Iterator

import psycopg
import pytest

from bridge.jobs.clock import JumpWatch
from bridge.jobs.database import DatabaseError, TransientError
from bridge.jobs.database.blobs import CHUNK, Blobs
from bridge.media.files import BlobDamaged
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

DATA = bytes(range(256)) * (2 * CHUNK // 256) + b"and some more"
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
def blobs(address: str) -> Iterator[Blobs]:
    blobs = Blobs(address)
    blobs.open()
    yield blobs
    blobs.close()


def test_every_bridge_finds_what_one_has_put(blobs: Blobs, address: str) -> None:
    other = Blobs(address)
    other.open()
    blobs.put(SHA, memoryview(DATA))
    assert other.read(SHA) == DATA
    other.put(SHA, b"the name says what it is; it is not written twice")
    assert blobs.read(SHA) == DATA
    other.close()


@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 7), (CHUNK - 3, 7), (CHUNK, CHUNK), (5, 2 * CHUNK), (2 * CHUNK, -1), (len(DATA), 9)],
)
def test_a_part_is_read_from_the_chunks_that_it_lies_in(
    blobs: Blobs, offset: int, count: int
) -> None:
    blobs.put(SHA, DATA)
    end = len(DATA) if count < 0 else offset + count
    assert blobs.read(SHA, offset, count) == DATA[offset:end]


def test_what_nobody_needs_is_swept_unless_it_is_new(blobs: Blobs, address: str) -> None:
    def age() -> None:
        with psycopg.connect(address) as connection:
            connection.execute("UPDATE files SET put_at = to_timestamp(100)")

    blobs.put(SHA, DATA)
    age()
    blobs.sweeper(older_than_s=60)({SHA})
    assert blobs.read(SHA) == DATA
    blobs.put(SHA, DATA)  # somebody needs it again: not to be swept under their feet
    blobs.sweeper(older_than_s=60)(set())
    assert blobs.read(SHA) == DATA
    age()
    blobs.sweeper(older_than_s=60)(set())
    with pytest.raises(FileNotFoundError):
        blobs.read(SHA)
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT count(*) FROM chunks").fetchone() == (0,)


def test_while_the_databases_clock_was_set_lately_nothing_is_swept(
    blobs: Blobs, address: str
) -> None:
    steady = 0.0
    blobs._jumps = JumpWatch(lambda: steady)
    blobs.put(SHA, DATA)
    blobs.sweeper(older_than_s=3600)(set())
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE files SET put_at = to_timestamp(100)")
    # A bridge whose own clock stood still sees the database's jump by what it was set by.
    steady = -7200.0
    blobs.sweeper(older_than_s=3600)(set())
    assert blobs.read(SHA) == DATA
    steady = -3500.0
    blobs.sweeper(older_than_s=3600)(set())
    assert blobs.read(SHA) == DATA


def test_a_lost_connection_is_made_again(blobs: Blobs, address: str) -> None:
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    blobs.put(SHA, DATA)
    assert blobs.read(SHA) == DATA


def test_a_database_that_is_away_is_reported_without_the_password() -> None:
    blobs = Blobs("postgresql://bridge:hunter2@127.0.0.1:9/journal")
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:9") as caught:
        blobs.put(SHA, DATA)
    assert "hunter2" not in str(caught.value)


def test_a_store_whose_database_starts_or_stops_is_waited_for_and_a_wrong_one_is_not(
    address: str,
) -> None:
    with pytest.raises(TransientError):
        Blobs("postgresql://127.0.0.1:9/journal").open()
    with pytest.raises(DatabaseError) as caught:
        Blobs(f"{address}-of-nobody").open()
    assert not isinstance(caught.value, TransientError)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "x" * 64])
def test_only_a_hash_is_a_name(blobs: Blobs, name: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        blobs.read(name)


DAMAGE = "UPDATE chunks SET data = set_byte(data, 7, 1) WHERE idx = 1"


@pytest.mark.parametrize("part", [(0, -1), (5, 7), (CHUNK, 9), (3 * CHUNK, 1)])
def test_a_damaged_blob_is_never_given_and_is_repaired_when_its_bytes_come_again(
    address: str, part: tuple[int, int]
) -> None:
    blobs = Blobs(address)
    blobs.open()
    blobs.put(SHA, DATA)
    blobs.close()
    with psycopg.connect(address) as connection:
        connection.execute(DAMAGE)
    reader = Blobs(address)
    reader.open()
    with pytest.raises(BlobDamaged):
        reader.read(SHA, *part)
    with pytest.raises(FileNotFoundError):
        reader.read(SHA, *part)
    reader.put(SHA, DATA)
    assert reader.read(SHA) == DATA
    reader.close()


def test_damage_that_nobody_has_read_is_repaired_too(blobs: Blobs, address: str) -> None:
    blobs.put(SHA, DATA)
    with psycopg.connect(address) as connection:
        connection.execute(DAMAGE)
    other = Blobs(address)
    other.open()
    other.put(SHA, DATA)
    assert other.read(SHA) == DATA
    other.close()


def test_what_is_put_after_a_sweep_began_is_not_old_to_it(blobs: Blobs) -> None:
    """However long its process stood still before it read what is to be kept."""
    sweep = blobs.sweeper(older_than_s=0)
    blobs.put(SHA, DATA)
    sweep(set())
    assert blobs.read(SHA) == DATA
