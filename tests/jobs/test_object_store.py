"""Large blobs in a bucket: one in memory, with a clock and late deletions as the tests wish."""

from __future__ import annotations

import hashlib
import threading
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from obstore.exceptions import GenericError

from bridge.jobs.database import DatabaseError, TransientError
from bridge.jobs.object_store import BucketAddress, ObjectStore
from bridge.media.files import BlobDamaged, Sweeper, compare_all
from tests.support.bucket import Bucket
from tests.support.patience import PATIENCE_S

DATA = bytes(range(256)) * 1000
SHA = hashlib.sha256(DATA).hexdigest()
AGE_S = 3600.0


class Time:
    def __init__(self) -> None:
        self.at = 1e9

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def bucket(time: Time) -> Bucket:
    return Bucket(time)


def opened(bucket: Bucket, **options: Any) -> ObjectStore:
    store = ObjectStore(cast("Any", bucket), "s3://pictures/x", steady=bucket.clock, **options)
    store.open()
    return store


@pytest.fixture
def files(bucket: Bucket) -> ObjectStore:
    return opened(bucket)


@pytest.mark.parametrize("new", [False, True])
def test_bytes_come_back_whole_or_in_parts(
    files: ObjectStore, bucket: Bucket, *, new: bool
) -> None:
    files.put(SHA, memoryview(DATA))
    reader = opened(bucket) if new else files
    assert reader.read(SHA, 5, 7) == DATA[5:12]
    assert reader.read(SHA, len(DATA) - 3, 7) == DATA[-3:]
    assert reader.read(SHA, len(DATA), 7) == b""
    assert reader.read(SHA, 100) == DATA[100:]
    assert reader.read(SHA) == DATA


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "ab", "x" * 64, "A" * 64])
def test_only_a_hash_is_a_name(files: ObjectStore, name: str) -> None:
    with pytest.raises(ValueError, match="no SHA-256"):
        files.read(name)
    with pytest.raises(ValueError, match="no SHA-256"):
        files.put(name, b"")


def test_what_was_put_a_moment_ago_is_not_put_again(
    files: ObjectStore, bucket: Bucket, time: Time
) -> None:
    files.put(SHA, DATA)
    files.put(SHA, DATA)
    assert bucket.calls.count("put") == 1
    time.at += AGE_S / 2
    files.put(SHA, DATA)
    assert len(bucket.found()) == 2


def test_what_nobody_needs_is_swept_unless_it_is_new(
    files: ObjectStore, bucket: Bucket, time: Time
) -> None:
    files.put(SHA, DATA)
    opened(bucket).sweeper(AGE_S)(())
    assert files.read(SHA) == DATA
    time.at += AGE_S + 1
    opened(bucket).sweeper(AGE_S)({SHA})
    assert files.read(SHA) == DATA
    opened(bucket).sweeper(AGE_S)(())
    with pytest.raises(FileNotFoundError):
        files.read(SHA)
    assert not bucket.found()


def test_what_is_put_after_a_sweep_began_is_not_old_to_it(files: ObjectStore, time: Time) -> None:
    sweep = files.sweeper(AGE_S)
    files.put(SHA, DATA)
    time.at += 10 * AGE_S
    sweep(())
    assert files.read(SHA) == DATA


def test_a_late_deletion_does_not_reach_what_was_put_meanwhile(
    files: ObjectStore, bucket: Bucket, time: Time
) -> None:
    files.put(SHA, DATA)
    time.at += AGE_S + 1
    bucket.held = []
    opened(bucket).sweeper(AGE_S)(())
    files.put(SHA, DATA)
    bucket.let_go()
    assert files.read(SHA) == DATA
    assert opened(bucket).read(SHA) == DATA


@pytest.mark.parametrize(("links_s", "left"), [(0.0, 1), (100_000.0, 2)])
def test_of_a_blob_that_was_put_again_one_is_kept_or_all_that_links_may_lead_to(
    files: ObjectStore, bucket: Bucket, time: Time, links_s: float, left: int
) -> None:
    for _ in range(2):
        files.put(SHA, DATA)
        time.at += AGE_S + 1
    (_, newest) = sorted(bucket.found(), key=lambda key: bucket._put_at[key])
    opened(bucket, links_s=links_s).sweeper(AGE_S)({SHA})
    assert len(bucket.found()) == left
    assert newest in bucket.found()
    assert files.read(SHA) == DATA


def test_what_is_not_ours_is_not_swept(files: ObjectStore, bucket: Bucket, time: Time) -> None:
    bucket.put("holiday.png", DATA)
    bucket.put(f"{SHA}/by-hand.png", DATA)
    time.at += 2 * AGE_S
    files.sweeper(AGE_S)(())
    assert len(bucket.found()) == 2


def test_a_bucket_is_listed_a_few_times_an_hour(
    files: ObjectStore, bucket: Bucket, time: Time
) -> None:
    before = bucket.calls.count("list")
    for _ in range(60):
        files.sweeper(AGE_S)(())
        time.at += 60
    assert bucket.calls.count("list") - before == 4


def test_while_the_stores_clock_was_set_lately_nothing_is_swept(time: Time) -> None:
    ahead = 0.0
    bucket = Bucket(lambda: time.at + ahead)
    files = ObjectStore(cast("Any", bucket), "s3://x", steady=time)
    files.put(SHA, DATA)
    files.sweeper(AGE_S)(())
    time.at += 1000
    ahead = 2 * AGE_S
    files.sweeper(AGE_S)(())
    assert files.read(SHA) == DATA


@pytest.mark.parametrize("part", [(0, -1), (5, 7), (200_000, 10)])
def test_a_damaged_blob_is_never_given_and_is_repaired_when_its_bytes_come_again(
    files: ObjectStore, bucket: Bucket, part: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    files.put(SHA, DATA)
    (key,) = bucket.found()
    bucket.store.put(key, b"something else")
    with pytest.raises(BlobDamaged):
        files.read(SHA, *part)
    assert f"blob {SHA} is damaged" in caplog.text
    with pytest.raises(FileNotFoundError):
        files.read(SHA, *part)
    files.put(SHA, DATA)
    assert files.read(SHA) == DATA


def test_a_blob_that_is_read_whole_is_compared_each_time(
    files: ObjectStore, bucket: Bucket
) -> None:
    files.put(SHA, DATA)
    assert files.read(SHA) == DATA
    files.put(SHA, DATA)
    (key,) = bucket.found()
    bucket.rotten[key] = DATA[:-1] + b"x"
    with pytest.raises(BlobDamaged):
        files.read(SHA)


@pytest.mark.parametrize("part", [(0, -1), (5, 7)])
def test_bytes_that_are_damaged_on_their_way_cost_no_blob(
    files: ObjectStore, bucket: Bucket, part: tuple[int, int]
) -> None:
    files.put(SHA, DATA)
    reader = opened(bucket)
    bucket.garbled = [DATA[:-1] + b"x", DATA[:-2]]
    with pytest.raises(TransientError, match="not the same each time"):
        reader.read(SHA, *part)
    bucket.garbled = [DATA[:-1] + b"x"]
    with pytest.raises(TransientError, match="not the same each time"):
        reader.read(SHA, *part)
    assert reader.read(SHA) == DATA


def test_where_one_object_of_a_blob_is_damaged_another_is_read(
    files: ObjectStore, bucket: Bucket, time: Time
) -> None:
    files.put(SHA, DATA)
    time.at += AGE_S
    files.put(SHA, DATA)
    newest = max(bucket.found(), key=lambda key: bucket._put_at[key])
    bucket.store.put(newest, b"something else")
    assert files.read(SHA) == DATA
    assert opened(bucket).read(SHA, 5, 7) == DATA[5:12]


def test_a_blob_is_compared_once_for_all_of_its_parts(bucket: Bucket) -> None:
    opened(bucket).put(SHA, DATA)
    reader = opened(bucket)
    reader.read(SHA, 5, 5)
    before = len(bucket.calls)
    for start in range(0, len(DATA), 10_000):
        assert reader.read(SHA, start, 10_000) == DATA[start : start + 10_000]
    assert set(bucket.calls[before:]) == {"get"}
    assert len(bucket.calls) - before == 26


def test_what_is_damaged_or_missing_is_found_among_many(files: ObjectStore, bucket: Bucket) -> None:
    files.put(SHA, DATA)
    other = hashlib.sha256(b"x" * 100_000).hexdigest()
    files.put(other, b"x" * 100_000)
    (key,) = (key for key in bucket.found() if key.startswith(other))
    bucket.store.put(key, b"y")
    assert compare_all(opened(bucket), [SHA, other, "0" * 64]) == ([other], ["0" * 64])


TOLD = "Server returned non-2xx status code: {}: <Error><Code>{}</Code></Error>"


@pytest.mark.parametrize(
    ("told", "meaning", "passes"),
    [
        (TOLD.format("403 Forbidden", "RequestTimeTooSkewed"), "clock", True),
        (TOLD.format("403 Forbidden", "InvalidAccessKeyId"), "access key", False),
        (TOLD.format("403 Forbidden", "SignatureDoesNotMatch"), "secret key", False),
        (TOLD.format("403 Forbidden", "AccessDenied"), "may not", False),
        (TOLD.format("404 Not Found", "NoSuchBucket"), "no such bucket", False),
        (TOLD.format("503 Service Unavailable", "SlowDown"), "too much to do", True),
        (TOLD.format("500 Internal Server Error", "InternalError"), "of its own", True),
        ("HTTP error: error sending request\n\nkind: Connect", "cannot be reached", True),
        ("HTTP error: operation timed out\n\nkind: Timeout", "in time", True),
        ("something new\nmore", "something new", True),
    ],
)
def test_what_is_wrong_is_reported_in_a_sentence_and_whether_to_wait_for_it(
    files: ObjectStore, bucket: Bucket, told: str, meaning: str, *, passes: bool
) -> None:
    bucket.fault = FileNotFoundError(told) if "404" in told else GenericError(told)
    with pytest.raises(DatabaseError, match=meaning) as caught:
        files.put(SHA, DATA)
    assert isinstance(caught.value, TransientError) is passes
    assert "\n" not in str(caught.value)
    assert files.fault == str(caught.value)
    bucket.fault = None
    files.put(SHA, DATA)
    now: str | None = files.fault
    assert now is None
    assert files.read(SHA) == DATA


def test_a_missing_bucket_is_not_a_missing_blob(files: ObjectStore, bucket: Bucket) -> None:
    """Else a wrong setting would lose outputs."""
    files.put(SHA, DATA)
    bucket.fault = FileNotFoundError(TOLD.format("404 Not Found", "NoSuchBucket"))
    with pytest.raises(DatabaseError, match="no such bucket"):
        files.read(SHA)


def test_while_the_store_is_away_one_call_at_a_time_waits_for_it(bucket: Bucket) -> None:
    files = opened(bucket)
    bucket.fault = GenericError("HTTP error: error sending request, Connect")
    with pytest.raises(TransientError):
        files.put(SHA, DATA)
    entered, leave = threading.Event(), threading.Event()

    def slowly(*_: object, **__: object) -> list[Any]:
        entered.set()
        leave.wait(PATIENCE_S)
        return []

    bucket.fault = None
    bucket.store = cast("Any", type("Slow", (), {"list": slowly}))
    one = threading.Thread(target=files.open)
    one.start()
    assert entered.wait(PATIENCE_S)
    with pytest.raises(TransientError, match="cannot be reached"):
        files.read(SHA)
    leave.set()
    one.join()


def test_the_sweep_finds_out_whether_the_store_works_again(
    files: ObjectStore, bucket: Bucket
) -> None:
    files.sweeper(AGE_S)(())
    bucket.fault = GenericError("Connect")
    with pytest.raises(TransientError):
        files.read(SHA)
    bucket.fault = None
    files.sweeper(AGE_S)
    now: str | None = files.fault
    assert now is None


def test_a_place_is_shown_without_its_secrets() -> None:
    place = BucketAddress(bucket="pictures", prefix="a/b", access_key="x", secret_key="hunter2")  # noqa: S106
    assert "hunter2" not in repr(place)
    assert str(place) == "s3://pictures/a/b"


class TwoBridges(RuleBasedStateMachine):
    """Two bridges put, name and sweep the same blob; each stops wherever it likes.

    What is supposed: a row is written within 40 minutes after its blob was put.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.bucket = Bucket(self.time)
        self.bucket.held = []
        self.bridges = [opened(self.bucket) for _ in range(2)]
        self.named = False
        # Until when a row may be written for what was put.
        self.due = 0.0
        self.begun: Sweeper | None = None
        self.kept: set[str] | None = None

    @rule(bridge=st.integers(0, 1), minutes=st.sampled_from([0, 1, 39]))
    def put_and_write_row(self, bridge: int, minutes: int) -> None:
        self.bridges[bridge].put(SHA, DATA)
        self.time.at += 60 * minutes
        self.named = True

    @rule(bridge=st.integers(0, 1))
    def put(self, bridge: int) -> None:
        self.bridges[bridge].put(SHA, DATA)
        self.due = self.time.at + 2400

    @precondition(lambda self: self.time.at < self.due)
    @rule()
    def write_row(self) -> None:
        self.named = True

    @precondition(lambda self: self.named)
    @rule()
    def delete_row(self) -> None:
        self.named = False

    @precondition(lambda self: self.begun is None)
    @rule(bridge=st.integers(0, 1))
    def begin_sweep(self, bridge: int) -> None:
        self.begun = self.bridges[bridge].sweeper(AGE_S)

    @precondition(lambda self: self.begun is not None and self.kept is None)
    @rule()
    def see_what_to_keep(self) -> None:
        self.kept = {SHA} if self.named else set()

    @precondition(lambda self: self.kept is not None)
    @rule()
    def sweep(self) -> None:
        assert self.begun is not None
        assert self.kept is not None
        self.begun(self.kept)
        self.begun = self.kept = None

    @precondition(lambda self: self.bucket.held)
    @rule()
    def deletions_arrive(self) -> None:
        self.bucket.let_go()

    @rule(minutes=st.sampled_from([19, 61]))
    def time_passes(self, minutes: int) -> None:
        self.time.at += 60 * minutes

    @rule(bridge=st.integers(0, 1))
    def restart(self, bridge: int) -> None:
        self.bridges[bridge] = opened(self.bucket)

    @invariant()
    def a_row_has_its_bytes(self) -> None:
        if self.named:
            assert self.bridges[0].read(SHA) == self.bridges[1].read(SHA) == DATA


TestTwoBridges = TwoBridges.TestCase
TestTwoBridges.settings = settings(stateful_step_count=60)
