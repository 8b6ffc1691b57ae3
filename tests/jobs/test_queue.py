from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bridge.jobs.queue import Key, Queue


def drained(queue: Queue) -> list[Key]:
    found = []
    while (key := queue.take()) is not None:
        found.append(key)
    return found


def test_one_clients_jobs_start_in_order_of_acceptance() -> None:
    queue = Queue()
    for seq in (3, 1, 2):
        queue.add(Key("a", str(seq)), seq=seq, priority=0)
    assert [key.job_id for key in drained(queue)] == ["1", "2", "3"]


def test_a_higher_priority_goes_first_within_a_client() -> None:
    queue = Queue()
    queue.add(Key("a", "low"), seq=1, priority=0)
    queue.add(Key("a", "high"), seq=2, priority=5)
    queue.add(Key("a", "high-too"), seq=3, priority=5)
    assert [key.job_id for key in drained(queue)] == ["high", "high-too", "low"]


def test_a_client_with_thousands_does_not_starve_one_with_a_single_job() -> None:
    queue = Queue()
    for seq in range(5000):
        queue.add(Key("many", str(seq)), seq=seq, priority=9)
    queue.take()
    queue.add(Key("one", "x"), seq=5000, priority=0)
    assert queue.position(Key("one", "x")) == 1
    assert [queue.take(), queue.take()] == [Key("many", "1"), Key("one", "x")]


def test_what_waits_already_keeps_its_place() -> None:
    queue = Queue()
    queue.add(Key("a", "1"), seq=1, priority=0)
    queue.add(Key("a", "1"), seq=9, priority=9)
    queue.add(Key("a", "2"), seq=2, priority=0)
    assert [key.job_id for key in drained(queue)] == ["1", "2"]


def test_what_does_not_wait_has_no_position() -> None:
    queue = Queue()
    assert queue.position(Key("a", "1")) is None
    assert not queue.remove(Key("a", "1"))
    assert queue.take() is None


JOBS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-2, 2)), min_size=1, max_size=40)


@given(JOBS)
def test_a_position_is_how_many_start_before(jobs: list[tuple[str, int]]) -> None:
    queue = Queue()
    for seq, (client, priority) in enumerate(jobs):
        queue.add(Key(client, str(seq)), seq=seq, priority=priority)
    told = {key: queue.position(key) for key in queue}
    assert told == {key: index for index, key in enumerate(drained(queue))}


@given(JOBS, st.sampled_from("abcdx"), st.integers(-2, 2))
def test_the_position_of_the_next_is_the_one_it_then_has(
    jobs: list[tuple[str, int]], client: str, priority: int
) -> None:
    queue = Queue()
    for seq, (other, its_priority) in enumerate(jobs):
        queue.add(Key(other, str(seq)), seq=seq, priority=its_priority)
    told = queue.position_of_next(client, priority)
    key = Key(client, "next")
    queue.add(key, seq=len(jobs), priority=priority)
    assert queue.position(key) == told


class QueueMachine(RuleBasedStateMachine):
    """Any order of adding, removing and taking: nothing is lost, doubled or starved."""

    waiting = Bundle("waiting")

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.model: dict[Key, tuple[int, int]] = {}
        self.passed: dict[str, dict[str, int]] = {}
        self.seq = 0

    @rule(target=waiting, client=st.sampled_from("abc"), priority=st.integers(-1, 1))
    def add(self, client: str, priority: int) -> Key:
        self.seq += 1
        key = Key(client, str(self.seq))
        if self.queue.count(client) == 0:
            self.passed[client] = {}
        self.queue.add(key, seq=self.seq, priority=priority)
        self.model[key] = (-priority, self.seq)
        return key

    @rule(key=consumes(waiting))
    def remove(self, key: Key) -> None:
        assert self.queue.remove(key) == (key in self.model)
        self.model.pop(key, None)

    @rule()
    def take(self) -> None:
        key = self.queue.take()
        if key is None:
            assert not self.model
            return
        own = [rank for other, rank in self.model.items() if other.client == key.client]
        assert self.model.pop(key) == min(own)
        self.passed[key.client] = {}
        for client, counts in self.passed.items():
            if client != key.client and self.queue.count(client):
                counts[key.client] = counts.get(key.client, 0) + 1
                # A client's first waiting job starts after at most one of each other client.
                assert counts[key.client] <= 1

    @invariant()
    def nothing_is_lost(self) -> None:
        assert set(self.queue) == set(self.model)
        assert len(self.queue) == len(self.model)


TestQueueMachine = QueueMachine.TestCase


def fill(queue: Queue, *jobs: tuple[str, str], **options: bool) -> None:
    """Add jobs of client a, each with its placement, in their order."""
    for job_id, placement in jobs:
        queue.add(Key("a", job_id), seq=int(job_id), priority=0, placement=placement, **options)


def taken(queue: Queue, prefer: str, *, now: float = 0.0, reorder_s: float = 60.0) -> str:
    key = queue.take(prefer=lambda placement: placement == prefer, reorder_s=reorder_s, now=now)
    assert key is not None
    return key.job_id


def test_what_cannot_run_here_is_passed_over_and_keeps_its_turn() -> None:
    queue = Queue()
    queue.add(Key("a", "1"), seq=1, priority=0, placement="elsewhere")
    queue.add(Key("a", "2"), seq=2, priority=0, placement="here")
    queue.add(Key("b", "3"), seq=3, priority=0, placement="elsewhere")
    assert queue.take(may_take=lambda placement: placement == "here") == Key("a", "2")
    assert queue.take(may_take=lambda placement: placement == "here") is None
    assert drained(queue) == [Key("b", "3"), Key("a", "1")]


def test_a_job_whose_model_is_loaded_goes_first_for_a_while() -> None:
    queue = Queue()
    fill(queue, ("1", "x"), ("2", "y"), ("3", "x"), ("4", "y"), ("5", "y"), ("6", "y"))
    assert taken(queue, "y", now=0) == "2"
    assert taken(queue, "y", now=59) == "4"
    assert taken(queue, "y", now=60) == "1"  # passed for the first time at 0
    assert taken(queue, "y", now=60) == "5"  # and 3 at 59
    assert taken(queue, "y", now=119) == "3"


def test_each_job_is_passed_for_a_limited_time_since_it_was_first_passed() -> None:
    queue = Queue()
    fill(queue, ("1", "x"), ("2", "y"))
    assert taken(queue, "y", now=0) == "2"
    fill(queue, ("3", "x"), ("4", "y"))
    assert taken(queue, "y", now=30) == "4"
    fill(queue, ("5", "y"))
    assert taken(queue, "y", now=60) == "1"
    assert taken(queue, "y", now=60) == "5"  # 3 was first passed at 30
    fill(queue, ("6", "y"))
    assert taken(queue, "y", now=90) == "3"


def test_no_model_goes_before_a_higher_priority_or_an_ordered_job() -> None:
    queue = Queue()
    fill(queue, ("2", "y"))
    queue.add(Key("a", "3"), seq=3, priority=1, placement="x")
    assert taken(queue, "y") == "3"
    queue = Queue()
    fill(queue, ("1", "x"), ("2", "x"), ordered=True)
    fill(queue, ("3", "y"))
    assert taken(queue, "y") == "1"
    assert taken(queue, "y") == "2"
    queue = Queue()
    fill(queue, ("1", "x"))
    fill(queue, ("2", "y"), ordered=True)
    assert taken(queue, "y") == "1"


def test_no_model_takes_another_clients_turn() -> None:
    queue = Queue()
    fill(queue, ("1", "x"))
    queue.add(Key("b", "2"), seq=2, priority=0, placement="y")
    assert taken(queue, "y") == "1"


@given(JOBS)
def test_the_queue_can_be_listed_in_its_order(jobs: list[tuple[str, int]]) -> None:
    queue = Queue()
    for seq, (client, priority) in enumerate(jobs):
        key = Key(client, str(seq))
        queue.add(key, seq=seq, priority=priority, placement=priority % 2)
    told = list(queue.in_order())
    assert told == drained(queue)
