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
