from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters.web.keyring import Keyring, KeyringError
from bridge.config import ConfigError, shared_key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "keys.json"


def test_a_key_says_whose_it_is_and_the_file_does_not_say_the_key(path: Path) -> None:
    ring = Keyring(path)
    key, text = ring.add("alice", "phone", 1000.5)
    assert ring.find(text) == key
    assert (key.client, key.name, key.made_at) == ("alice", "phone", 1000)
    assert text.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_a_wrong_key_says_nothing(path: Path) -> None:
    ring = Keyring(path)
    _, text = ring.add("alice", "", 0)
    _, other = ring.add("bob", "", 0)
    swapped = "_".join((*text.split("_")[:2], other.split("_", 2)[2]))
    for wrong in (text[:-1], text + "x", text.removeprefix("c2m_"), swapped, "", "c2m__", "\ud800"):
        assert ring.find(wrong) is None


@given(text=st.text())
def test_garbage_is_no_key(text: str) -> None:
    assert Keyring(Path("/nowhere")).find(text) is None


def test_a_change_is_seen_by_who_reads_the_file_again(path: Path) -> None:
    ring, other = Keyring(path), Keyring(path)
    assert not other.refresh()
    key, text = ring.add("alice", "", 0)
    assert other.find(text) is None
    assert other.refresh()
    assert not other.refresh()
    assert other.find(text) == key
    assert ring.revoke(key.id) == key
    assert ring.revoke(key.id) is None
    assert other.refresh()
    assert not other.holds(key.id)
    path.unlink()
    assert other.refresh()


@pytest.mark.parametrize(
    "data", [b"{", b"{}", b'[{"id": "x"}]', b'[{"name": "K\xfcche"}]', b'[{"x": ' + b"[" * 100_000]
)
def test_a_broken_file_is_reported_and_changes_nothing(path: Path, data: bytes) -> None:
    ring = Keyring(path)
    _, known = ring.add("alice", "", 0)
    path.write_bytes(data)
    with pytest.raises(KeyringError, match=r"keys\.json"):
        ring.refresh()
    assert ring.find(known) is not None


def test_keys_that_are_made_at_the_same_time_are_all_kept(path: Path) -> None:
    """Each process has its own Keyring; so has each thread here."""
    start = threading.Barrier(8)

    def add(number: int) -> None:
        start.wait()
        Keyring(path).add(f"client-{number}", "", 0)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(8)))
    ring = Keyring(path)
    ring.refresh()
    assert {each.client for each in ring.keys} == {f"client-{number}" for number in range(8)}


def test_a_key_that_is_made_while_another_is_revoked_stays(path: Path) -> None:
    ring = Keyring(path)
    old = [ring.add("old", "", 0)[0] for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = [threads.submit(Keyring(path).add, "new", "", 0) for _ in range(4)]
        gone = [threads.submit(Keyring(path).revoke, each.id) for each in old[:4]]
        assert {each.result()[0].client for each in made} == {"new"}
        assert all(each.result() for each in gone)
    ring.refresh()
    assert sorted(each.client for each in ring.keys) == ["new"] * 4 + ["old"] * 4


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyringError):
        Keyring(tmp_path / "file" / "keys.json").add("alice", "", 0)


def test_a_shared_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "link.key"
    made = shared_key(path, 32, "link_key_file")
    assert (len(made), path.stat().st_mode & 0o777) == (32, 0o600)
    assert shared_key(path, 32, "link_key_file") == made
    assert [each.name for each in path.parent.iterdir()] == ["link.key"]


@pytest.mark.parametrize("text", ["", "no hex", "00" * 31])
def test_a_shared_key_that_is_none_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "link.key"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"link\.key"):
        shared_key(path, 32, "link_key_file")
