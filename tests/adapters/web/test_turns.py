from __future__ import annotations

from bridge.adapters.web.requests import Reply, Turns


def test_requests_of_one_key_start_in_their_order_once_the_last_was_answered() -> None:
    turns, done = Turns(), Reply("ok")
    started: list[str] = []
    assert turns.take("a", lambda: started.append("a0"))
    assert turns.take("b", lambda: started.append("b0"))
    ended = turns.until("a", lambda _: started.append("answered"))

    def second() -> None:
        started.append("a1")
        assert turns.take("a", second)

    # The first that waits fails at once, and takes no turn.
    for again in (lambda: started.append("failed"), second, lambda: started.append("a2")):
        assert not turns.take("a", again)
    ended(done)
    assert started == ["answered", "failed", "a1"]
    turns.until("a", lambda _: None)(done)
    assert started[3:] == ["a2"]
    assert turns.take("a", second)
