"""Large blobs in a bucket of moto's S3, through a proxy that does harm."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import psycopg
import pytest

from bridge.cli import doctor
from bridge.cli import journal as journal_check
from bridge.config import Config
from bridge.contract.messages import OutputInfo
from bridge.jobs.database import DatabaseError, TransientError
from bridge.jobs.finalizer import Completion, Finalizer
from bridge.jobs.journal import Journal
from bridge.jobs.object_store import PART, BucketAddress, ObjectStore
from bridge.jobs.outputs import CollectedOutput
from bridge.media.files import Files, Folder, MigratingFiles
from bridge.media.transcode import Transcoder
from bridge.service.public_urls import Links
from bridge.service.stores import files_of
from tests.jobs.drafts import draft
from tests.peers import npm, servers, swift
from tests.peers.faulty_s3 import FaultyS3
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL

S3RVER = "s3rver@3.7.1"
# Its access key, and its secret one; the others get the same.
S3RVER_KEY = "S3RVER"
# Puts a server's clock ahead.
SHIFTED = """
const Real = Date, ahead = {seconds} * 1000;
global.Date = class extends Real {{
  constructor(...given) {{ given.length ? super(...given) : super(Real.now() + ahead); }}
  static now() {{ return Real.now() + ahead; }}
}};
"""

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

SMALL = os.urandom(100_000)
LARGE = os.urandom(3 * PART + 12_345)  # in four parts


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def store(s3: FaultyS3, **options: Any) -> ObjectStore:
    place = BucketAddress(
        bucket="pictures",
        prefix="x/y",
        endpoint=s3.url,
        region="us-east-1",
        access_key="x",
        secret_key="y",  # noqa: S106
    )
    return ObjectStore.at(place, **options)


@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_bytes_come_back_whole_in_parts_and_by_a_link(s3: FaultyS3, data: bytes) -> None:
    files = store(s3, links=True)
    await asyncio.to_thread(files.open)
    await asyncio.to_thread(files.put, sha(data), memoryview(data))
    reader = store(s3)
    assert await asyncio.to_thread(reader.read, sha(data), 70_000, 10) == data[70_000:70_010]
    assert await asyncio.to_thread(reader.read, sha(data)) == data
    link = await asyncio.to_thread(files.link, sha(data), 60.0)
    assert link is not None
    assert link.startswith(f"{s3.url}/pictures/x/y/{sha(data)}/")
    async with aiohttp.ClientSession() as session, session.get(link) as answer:
        assert await answer.read() == data
        assert answer.headers["Content-Disposition"] == "attachment"
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(reader.read, "0" * 64)


async def test_a_link_of_a_picture_is_shown_by_browsers_and_names_the_public_endpoint(
    s3: FaultyS3,
) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + SMALL
    place = BucketAddress(
        bucket="pictures",
        endpoint=s3.url,
        links_from="https://s3.example.org",
        region="us-east-1",
        access_key="x",
        secret_key="y",  # noqa: S106
    )
    files = ObjectStore.at(place, links=True)
    await asyncio.to_thread(files.put, sha(picture), picture)
    link = await asyncio.to_thread(files.link, sha(picture), 60.0)
    assert link is not None
    assert link.startswith(f"https://s3.example.org/pictures/{sha(picture)}/")
    async with (
        aiohttp.ClientSession() as session,
        session.get(link.replace("https://s3.example.org", s3.url)) as answer,
    ):
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"] == "inline"


@pytest.mark.parametrize("data", [SMALL, LARGE])
@pytest.mark.parametrize(
    "faults",
    [
        ["slow down", "internal", "slow down"],
        ["slow", "slow down", "slow"],
        ["internal", "", "slow", "internal"],
    ],
)
async def test_a_store_that_is_slow_or_busy_for_a_while_is_tried_again(
    s3: FaultyS3, data: bytes, faults: list[str]
) -> None:
    files = store(s3)
    s3.faults = [*faults]
    await asyncio.to_thread(files.put, sha(data), data)
    s3.faults = [*faults]
    assert await asyncio.to_thread(store(s3).read, sha(data)) == data
    assert files.fault is None


@pytest.mark.parametrize("data", [SMALL, LARGE])
@pytest.mark.parametrize("fault", ["half request", "lost answer", "half answer"])
async def test_after_a_connection_that_was_cut_a_blob_is_whole_or_not_there(
    s3: FaultyS3, data: bytes, fault: str
) -> None:
    files = store(s3)
    for which in range(4):
        s3.faults = [""] * which + [fault]
        try:
            await asyncio.to_thread(files.put, sha(data), data)
        except DatabaseError:
            assert files.fault is not None
            with pytest.raises(FileNotFoundError):
                await asyncio.to_thread(store(s3).read, sha(data))
    s3.faults = []
    await asyncio.to_thread(files.put, sha(data), data)
    assert await asyncio.to_thread(store(s3).read, sha(data)) == data
    for which in range(3):
        s3.faults = [""] * which + [fault]
        try:
            found = await asyncio.to_thread(store(s3).read, sha(data))
        except TransientError:
            continue
        assert found == data


@pytest.mark.parametrize(
    ("fault", "meaning", "kind"),
    [
        ("skew", "clock", TransientError),
        ("slow down", "too much to do", TransientError),
        ("full", "it is full", TransientError),
        ("denied", "these credentials may not", DatabaseError),
        ("half request", "cannot be reached|sending request", TransientError),
    ],
)
async def test_what_is_wrong_is_reported_in_one_sentence(
    s3: FaultyS3, fault: str, meaning: str, kind: type[Exception]
) -> None:
    files = store(s3)
    s3.always = fault
    with pytest.raises(kind, match=meaning) as caught:
        await asyncio.to_thread(files.put, sha(SMALL), SMALL)
    assert "\n" not in str(caught.value)
    assert files.fault == str(caught.value)
    s3.always = None
    await asyncio.to_thread(files.put, sha(SMALL), SMALL)
    assert await asyncio.to_thread(files.read, sha(SMALL)) == SMALL


async def test_what_nobody_needs_is_swept_by_the_stores_clock(s3: FaultyS3) -> None:
    names = []
    for number in range(5):
        data = SMALL + bytes([number])
        names.append(sha(data))
        await asyncio.to_thread(store(s3).put, names[-1], data)
    await asyncio.sleep(1.1)  # a listing tells seconds
    files = store(s3)
    sweep = await asyncio.to_thread(files.sweeper, 3600.0)
    await asyncio.to_thread(sweep, ())
    assert await asyncio.to_thread(store(s3).read, names[0])
    sweep = await asyncio.to_thread(store(s3).sweeper, 0.0)
    await asyncio.to_thread(sweep, {names[0]})
    assert await asyncio.to_thread(store(s3).read, names[0])
    for name in names[1:]:
        with pytest.raises(FileNotFoundError):
            await asyncio.to_thread(store(s3).read, name)


async def test_a_film_is_put_and_compared_without_being_in_memory_once_more(s3: FaultyS3) -> None:
    film = os.urandom(1) * (200 * 1024 * 1024)
    # Past the proxy, which has it in the memory of this process as well.
    direct = store(cast("Any", SimpleNamespace(url=s3.target)))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await asyncio.to_thread(direct.put, sha(film), film)
    direct = store(cast("Any", SimpleNamespace(url=s3.target)))
    assert await asyncio.to_thread(direct.read, sha(film), 5, 5) == film[5:10]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) * 1024
    assert grown < len(film) / 2


class Listener:
    """Takes what is published, and keeps the results."""

    def __init__(self) -> None:
        self.results: list[bytes] = []

    def output(self, *_: object) -> None: ...

    def result(self, _key: object, _envelope: object, result: bytes) -> None:
        self.results.append(result)


async def finished(
    journal: Journal, files: Files, data: bytes, job_id: str, links: Links | None = None
) -> bytes:
    """End a job with an output; returns its result."""
    told = Listener()
    finalizer = Finalizer(
        journal,
        files,
        cast("Any", told),
        60.0,
        show=cast("Any", None),
        transcoder=Transcoder(),
        link=None if links is None else links.output,
    )
    info = OutputInfo(
        index=0, name="x", kind="image", content_type="image/png", size=len(data), sha256=sha(data)
    )
    job = (await journal.accept(draft(job_id), 1.0)).record.job
    await finalizer.write(job, "succeeded", Completion(outputs=[CollectedOutput(info, data)]))
    return told.results[0]


async def test_outcomes_wait_for_a_store_that_is_away_and_are_not_lost(
    s3: FaultyS3, tmp_path: Path
) -> None:
    journal, files = Journal(tmp_path / "journal.db"), store(s3)
    await journal.open()
    s3.always = "slow down"
    ends = asyncio.create_task(finished(journal, files, SMALL, "j1"))
    async with asyncio.timeout(PATIENCE_S):
        while files.fault is None:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.05)
    # Small outputs do not need it.
    await finished(journal, files, b"small", "j2")
    assert not ends.done()
    s3.always = None
    async with asyncio.timeout(PATIENCE_S):
        assert b"succeeded" in await ends
    stored = await journal.output(draft("j1").key, 0)
    assert stored is not None
    assert await asyncio.to_thread(files.read, stored.sha256) == SMALL
    await journal.close()


async def test_results_carry_links_of_the_store_for_what_is_in_it(
    s3: FaultyS3, tmp_path: Path
) -> None:
    journal, files = Journal(tmp_path / "journal.db"), store(s3, links=True)
    await journal.open()
    old = Folder(tmp_path / "blobs")
    old.open()
    links = Links(None, MigratingFiles(files, old))
    result = await finished(journal, files, LARGE, "j1", links)
    assert f'"url":"{s3.url}/pictures/x/y/{sha(LARGE)}/'.encode() in result.replace(b": ", b":")
    assert b'"url"' not in await finished(journal, files, b"small", "j2", links)
    await journal.close()


@pytest.mark.postgresql
async def test_a_group_with_a_bucket_has_no_bytes_of_outputs_in_its_database(
    s3: FaultyS3, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    """The bytes of PostgreSQL's log for 20 MB of outputs: with a bucket, and without."""
    outputs = [os.urandom(2_000_000) for _ in range(10)]
    written = {}
    for where in ("database", "bucket"):
        with postgresql.database() as address:
            settings = Config(
                journal=address,
                data=tmp_path,
                blobs="" if where == "database" else "s3://pictures/group",
                s3_endpoint=s3.url,
                s3_access_key="x",
                s3_secret_key_file=secret(tmp_path),
            )
            files = files_of(settings)
            journal = Journal(address)
            await journal.open()
            await asyncio.to_thread(files.open)
            before = wrote(address)
            for number, data in enumerate(outputs):
                await finished(journal, files, data, f"j{number}")
            written[where] = wrote(address) - before
            with psycopg.connect(address) as connection:
                held = connection.execute("SELECT count(*) FROM chunks").fetchone()
            assert (held == (0,)) is (where == "bucket")
            for data in outputs:
                assert await asyncio.to_thread(files.read, sha(data)) == data
            await journal.close()
            await asyncio.to_thread(files.close)
    assert written["database"] > 20_000_000
    assert written["bucket"] < 1_000_000


def secret(folder: Path) -> Path:
    file = folder / "secret"
    file.write_text("y\n")
    return file


def wrote(address: str) -> int:
    """Return the bytes of PostgreSQL's log so far."""
    with psycopg.connect(address, autocommit=True) as connection:
        (found,) = connection.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
        ).fetchone() or (0,)
    return int(found)


@pytest.mark.postgresql
async def test_blobs_that_are_in_the_database_are_read_there_after_a_bucket_is_set(
    s3: FaultyS3, postgresql: PostgreSQL, tmp_path: Path
) -> None:
    with postgresql.database() as address:
        before = Config(journal=address, data=tmp_path)
        files = files_of(before)
        await asyncio.to_thread(files.open)
        await asyncio.to_thread(files.put, sha(SMALL), SMALL)
        await asyncio.to_thread(files.close)
        after = Config(
            journal=address,
            data=tmp_path,
            blobs="s3://pictures",
            s3_endpoint=s3.url,
            s3_access_key="x",
            s3_secret_key_file=secret(tmp_path),
        )
        files = files_of(after)
        await asyncio.to_thread(files.open)
        assert await asyncio.to_thread(files.read, sha(SMALL)) == SMALL
        await asyncio.to_thread(files.put, sha(LARGE), LARGE)
        with psycopg.connect(address) as connection:
            assert connection.execute("SELECT sha256 FROM files").fetchall() == [(sha(SMALL),)]
        await asyncio.to_thread(files.close)


async def test_doctor_tries_the_bucket_and_compares_what_is_in_it(
    s3: FaultyS3, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Config(
        data=tmp_path,
        blobs="s3://pictures",
        s3_endpoint=s3.url,
        s3_access_key="x",
        s3_secret_key_file=secret(tmp_path),
    )
    (found,) = [each async for each in doctor._bucket(settings)]
    assert found.good
    s3.always = "skew"
    (found,) = [each async for each in doctor._bucket(settings)]
    assert not found.good
    assert "clock" in found.what
    s3.always = None
    journal, files = Journal(tmp_path / "journal.db"), files_of(settings)
    await journal.open()
    await asyncio.to_thread(files.open)
    await finished(journal, files, SMALL, "j1")
    await finished(journal, files, LARGE, "j2")
    await journal.close()
    assert await journal_check.examine_journal(settings, as_json=False) == 0
    assert isinstance(files, MigratingFiles)
    bucket = cast("ObjectStore", files._new)
    (key,) = await asyncio.to_thread(bucket._keys, sha(SMALL))
    await asyncio.to_thread(bucket._store.put, key, b"other bytes")
    assert await journal_check.examine_journal(settings, as_json=False) == 1
    assert f"1 stored inputs or outputs are damaged: {sha(SMALL)}" in capsys.readouterr().out


def s3rver(folder: Path, ahead_s: int = 0) -> AbstractContextManager[str]:
    """Run a store of another make, which refuses requests of another time as AWS does."""
    clock = folder / "clock.js"
    clock.write_text(SHIFTED.format(seconds=ahead_s))
    data = folder / "s3rver"
    data.mkdir()
    program = npm.ensure(S3RVER) / "node_modules" / "s3rver" / "bin" / "s3rver.js"
    where = ("-d", data, "-a", "127.0.0.1", "--configure-bucket", "pictures", "-p")
    return servers.serving(npm.node(), "-r", clock, program, *where)


def rclone(folder: Path) -> AbstractContextManager[str]:
    """Run rclone's server, whose objects are files in a folder.

    It answers who asks for a part with that part and 200, not 206: the library refuses that.
    """
    (folder / "rclone" / "pictures").mkdir(parents=True)
    program = servers.python().with_name("rclone")
    key = (f"{S3RVER_KEY},{S3RVER_KEY}", "--addr", "127.0.0.1:{port}")
    return servers.serving(program, "serve", "s3", "--auth-key", *key, folder / "rclone")


def of_another_make(url: str, key: str = S3RVER_KEY, secret: str = S3RVER_KEY) -> ObjectStore:
    place = BucketAddress(
        bucket="pictures", endpoint=url, region="us-east-1", access_key=key, secret_key=secret
    )
    return ObjectStore.at(place, links=True)


async def behaves(fresh: Callable[[], ObjectStore], *, parts: bool = True) -> None:
    """A store puts, reads, links and sweeps as it has to; `parts`: reads parts as well."""
    files = fresh()
    for data in (SMALL, LARGE):
        await asyncio.to_thread(files.put, sha(data), data)
        reader = fresh()
        if parts:
            assert await asyncio.to_thread(reader.read, sha(data), 5, 7) == data[5:12]
        assert await asyncio.to_thread(reader.read, sha(data)) == data
        link = await asyncio.to_thread(files.link, sha(data), 60.0)
        async with aiohttp.ClientSession() as session, session.get(str(link)) as answer:
            assert await answer.read() == data
    await asyncio.sleep(1.1)
    sweep = await asyncio.to_thread(files.sweeper, 0.0)
    await asyncio.to_thread(sweep, {sha(SMALL)})
    assert await asyncio.to_thread(files.read, sha(SMALL)) == SMALL
    with pytest.raises(FileNotFoundError):
        await asyncio.to_thread(files.read, sha(LARGE))


async def test_a_store_of_another_make_does_the_same(tmp_path: Path) -> None:
    with s3rver(tmp_path) as url:
        await behaves(lambda: of_another_make(url))
        await asyncio.to_thread(of_another_make(url).probe)


async def test_openstacks_store_does_the_same_and_knows_wrong_keys(tmp_path: Path) -> None:
    with swift.serving(tmp_path, "pictures") as url:
        await behaves(lambda: of_another_make(url, swift.USER, swift.PASSWORD))
        await asyncio.to_thread(of_another_make(url, swift.USER, swift.PASSWORD).probe)
        with pytest.raises(DatabaseError, match="the secret key is not that of the access key"):
            await asyncio.to_thread(of_another_make(url, swift.USER, "wrong").open)


async def test_a_store_that_gives_no_parts_is_found_before_they_are_needed(tmp_path: Path) -> None:
    with rclone(tmp_path) as url:
        await behaves(lambda: of_another_make(url), parts=False)
        with pytest.raises(DatabaseError, match="does not give parts of an object") as caught:
            await asyncio.to_thread(of_another_make(url).probe)
        assert not isinstance(caught.value, TransientError)
        assert not any((tmp_path / "rclone" / "pictures").rglob("probe/*"))


async def test_clocks_that_are_an_hour_apart_are_reported(tmp_path: Path) -> None:
    with (
        s3rver(tmp_path, 3600) as url,
        pytest.raises(TransientError, match="clock and the store's are too"),
    ):
        await asyncio.to_thread(of_another_make(url).open)
