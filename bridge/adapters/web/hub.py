"""The hub: all sessions by client, and the decision which frame each of them is sent. Pure.

A frame is encoded once and written to all its sessions at once. A slow reader loses previews, then
progress; one that has stopped reading is dropped; no session waits for another.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.adapters.web import frames
from bridge.contract.reading import UNREADABLE

# With so many bytes waiting for a reader, previews are left out, then progress.
PREVIEW_ROOM: Final = 64 * 1024
PROGRESS_ROOM: Final = 256 * 1024
_OUTCOMES: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
_DIGITS: Final = 15
_NUMBERS: Final = frozenset({"index", "size", "width", "height"})
# The order in which a new session is sent what is retained.
_ORDER: Final = ("bridge", "info", "health", "comfyui", "choices", "workflow")
# The newest progress of so many jobs of a client is kept for sessions that come later, and the ids
# of as many that have ended.
_MOST_JOBS: Final = 1000

Retained = tuple[str, str | None]


class Importance(enum.Enum):
    """The order in which a slow reader loses frames: bytes that may wait before one is left out."""

    PREVIEW = PREVIEW_ROOM
    PROGRESS = PROGRESS_ROOM
    KEEP = None


class SendDecision(enum.Enum):
    """The decision about a frame for one reader."""

    SEND = enum.auto()
    SKIP = enum.auto()
    DROP = enum.auto()


def send_decision(importance: Importance, waiting: int, buffer: int) -> SendDecision:
    """Decide by the bytes that wait for a reader; above `buffer` it is dropped."""
    if waiting > buffer:
        return SendDecision.DROP
    if importance.value is not None and waiting > importance.value:
        return SendDecision.SKIP
    return SendDecision.SEND


class FrameWriter(Protocol):
    """Writes frames to one connection."""

    @property
    def waiting(self) -> int:
        """Bytes that the other side has not taken yet."""

    def write(self, frame: bytes) -> None:
        """Write a frame, without waiting; one that is closing takes nothing."""

    def drop(self) -> None:
        """Cut the connection at once."""


class BrowserSession:
    """One registered connection. `n` is the highest that it was sent, None before any.

    `buffer`: bytes that may wait for its reader. `key`: the key's id.
    """

    def __init__(
        self, writer: FrameWriter, *, name: str, client: str, key: str, buffer: int
    ) -> None:
        self.name = name
        self.client = client
        self.key = key
        self.n: int | None = None
        self.pending = 0
        """Requests without an answer."""
        self.last_message_at = 0.0
        self.ended = False
        """It was dropped, or has ended."""
        self._writer = writer
        self._buffer = buffer
        self._held: list[tuple[int, bytes]] | None = None
        self._held_bytes = 0
        self._replayed = 0

    def send(
        self, frame: bytes, importance: Importance = Importance.KEEP, n: int | None = None
    ) -> None:
        """Write a frame, unless this reader is behind; `n` is the number in it.

        What is held back counts against the buffer as what waits for the network does.
        """
        if self.ended:
            return
        found = send_decision(importance, self._writer.waiting, self._buffer - self._held_bytes)
        if found is SendDecision.DROP:
            self.ended = True
            self._held, self._held_bytes = None, 0
            self._writer.drop()
        elif n is not None and self._held is not None:
            self._held.append((n, frame))
            self._held_bytes += len(frame)
        elif found is SendDecision.SEND:
            self._writer.write(frame)
            if n is not None:
                self.n = max(n, self.n or 0)

    def hold_back(self) -> None:
        """Hold back frames with a number: those with a lower one are sent first."""
        if self._held is None:
            self._held, self._replayed = [], 0

    def send_missed(self, frame: bytes, n: int) -> None:
        """Send a frame that was missed, before those that are held back."""
        held, self._held = self._held, None
        self.send(frame, n=n)
        self._replayed = max(n, self._replayed)
        if not self.ended:
            self._held = held

    def release_held(self) -> None:
        """Send what was held back, except what a newer message of its job has replaced.

        The client's own `after` is no bound: a bridge with a new journal counts from 1.
        """
        held, self._held, self._held_bytes = self._held or [], None, 0
        for n, frame in held:
            if n > self._replayed:
                self.send(frame, n=n)


class _Client:
    """One client's connections, and the newest of its jobs and sets that run."""

    def __init__(self) -> None:
        self.sessions: set[BrowserSession] = set()
        self.jobs: dict[str, dict[Importance, bytes]] = {}
        self._ended: dict[str, None] = {}

    def running(self, job_id: str) -> dict[Importance, bytes] | None:
        """Return the newest of a job that runs, to add to; None: it has ended, or they are many.

        A broker that does not keep the order sends a job's status after its result.
        """
        if job_id in self._ended or (job_id not in self.jobs and len(self.jobs) >= _MOST_JOBS):
            return None
        return self.jobs.setdefault(job_id, {})

    def end(self, job_id: str) -> None:
        """Note that a job has ended."""
        self.jobs.pop(job_id, None)
        self._ended[job_id] = None
        if len(self._ended) > _MOST_JOBS:
            del self._ended[next(iter(self._ended))]


class _JobHead(Struct):
    """The fields of a message about a job that matter here."""

    n: Annotated[int, Meta(ge=0, lt=2**53)] | UnsetType = UNSET
    state: str | UnsetType = UNSET
    type: Raw | UnsetType = UNSET


_HEAD: Final = msgspec.json.Decoder(_JobHead)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


class Hub:
    """All registered sessions. `bridge`: online, offline, or unreachable without a broker."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client] = {}
        self._retained: dict[Retained, bytes] = {}
        self._bodies: dict[Retained, bytes] = {}
        self._unconfirmed: set[Retained] = set()
        self.bridge = "unreachable"
        self._send_bridge()

    def __iter__(self) -> Iterator[BrowserSession]:
        for found in self._clients.values():
            yield from found.sessions

    def __len__(self) -> int:
        return sum(len(found.sessions) for found in self._clients.values())

    def sessions_of(self, client: str) -> list[BrowserSession]:
        """Return a client's connections."""
        found = self._clients.get(client)
        return [] if found is None else list(found.sessions)

    @property
    def clients(self) -> list[str]:
        """Clients with a session."""
        return list(self._clients)

    def is_waiting(self, session: BrowserSession) -> bool:
        """Return whether a session waits for an answer, or for a job or set of its client."""
        found = self._clients.get(session.client)
        return bool(session.pending or (found is not None and found.jobs))

    def add(self, session: BrowserSession) -> None:
        """Add a session; first it is sent what is retained."""
        self._clients.setdefault(session.client, _Client()).sessions.add(session)
        for key in sorted(self._retained, key=_rank):
            session.send(self._retained[key])
        session.send(frames.text("ready"))

    def send_progress(self, session: BrowserSession) -> None:
        """Send a session the newest progress of its client's jobs and sets."""
        found = self._clients.get(session.client)
        for newest in found.jobs.values() if found is not None else ():
            for importance, frame in newest.items():
                session.send(frame, importance)

    def remove(self, session: BrowserSession) -> None:
        """Remove a session, and with a client's last one what was kept for it."""
        found = self._clients.get(session.client)
        if found is not None:
            session.ended = True
            found.sessions.discard(session)
            if not found.sessions:
                del self._clients[session.client]

    # Messages to everybody.

    def on_disconnected(self) -> None:
        """The broker is away: the state of the bridge is unknown."""
        self.bridge = "unreachable"
        self._send_bridge()

    def on_connecting(self) -> None:
        """The broker is back: retained messages come again, which confirms them."""
        self._unconfirmed = set(self._bodies)

    def on_connected(self) -> None:
        """All retained messages have come: those that were not confirmed are gone."""
        for key in sorted(self._unconfirmed, key=_rank):
            self.on_public(*key, b"")
        if self.bridge == "unreachable":
            self.bridge = "offline"  # it has never been there
            self._send_bridge()

    def on_public(self, what: str, name: str | None, payload: bytes) -> None:
        """Send all sessions a message of the bridge; an empty payload: it is gone."""
        if what == "state":
            self.bridge = "online" if payload == b"online" else "offline"
            self._send_bridge()
            return
        fields = _fields(payload) if payload else {}
        if fields is None:
            return  # not the bridge's
        if what == "event":
            if payload:
                self._send_all(frames.text("event", {"event": Raw(payload)}))
            return
        key = (what, name)
        self._unconfirmed.discard(key)
        if payload == self._bodies.get(key, b""):
            return
        fields.pop("type", None)  # it would be read as another frame
        frame = _public_frame(what, name, payload, fields)
        if payload:
            self._bodies[key], self._retained[key] = payload, frame
        else:
            self._bodies.pop(key, None)
            self._retained.pop(key, None)
        self._send_all(frame)

    def _send_bridge(self) -> None:
        frame = frames.text("bridge", {"state": self.bridge})
        if frame != self._retained.get(("bridge", None)):
            self._retained["bridge", None] = frame
            self._send_all(frame)

    def _send_all(self, frame: bytes) -> None:
        for session in self:
            session.send(frame)

    # Messages about jobs.

    def on_job(
        self,
        client: str,
        levels: Sequence[str],
        payload: bytes,
        content_type: str | None,
        properties: Iterable[tuple[str, str]],
    ) -> None:
        """Send a message about a job to the sessions of its client."""
        found = self._clients.get(client)
        if found is None:
            return
        match levels:
            case [job_id, "status" | "result" | "progress" as what]:
                self._send_json(found, job_id, what, payload)
            case [job_id, "preview"]:
                header = {"type": "preview", "job_id": job_id, "content_type": content_type}
                frame = frames.binary(header, payload)
                self._send_newest(found, job_id, Importance.PREVIEW, frame)
            case [job_id, "output", index] if _is_number(index):
                facts = {
                    name: int(value) if name in _NUMBERS and _is_number(value) else value
                    for name, value in properties
                }
                about = {"job_id": job_id, "index": int(index), "content_type": content_type}
                frame = frames.binary({**facts, **about, "type": "output"}, payload)
                for session in found.sessions:
                    session.send(frame)

    def _send_json(self, found: _Client, job_id: str, what: str, payload: bytes) -> None:
        try:
            # A text frame that is not UTF-8 would end the connection.
            head = _HEAD.decode(payload.decode())
        except UNREADABLE:
            return  # not the bridge's
        if head.type is not UNSET:
            return  # it would be read as another frame
        frame = frames.spliced(what, payload)
        if what == "progress":
            self._send_newest(found, job_id, Importance.PROGRESS, frame)
            return
        if what == "result" or head.state in _OUTCOMES:
            found.end(job_id)
        else:
            found.running(job_id)
        n = None if head.n is UNSET else head.n
        for session in found.sessions:
            session.send(frame, n=n)

    # Messages about sets.

    def on_set(self, client: str, set_id: str, what: str, payload: bytes) -> None:
        """Send a `status` or `result` of a set to the sessions of its client.

        They have no part in what is held back: a client asks how far a set is when it is back.
        """
        found = self._clients.get(client)
        fields = _fields(payload)
        if found is None or fields is None or "type" in fields:
            return
        frame = frames.spliced(f"set_{what}", payload)
        key = f"set/{set_id}"  # no job has such an id
        if what == "status":
            self._send_newest(found, key, Importance.PROGRESS, frame)
            return
        found.end(key)
        for session in found.sessions:
            session.send(frame)

    def _send_newest(
        self, found: _Client, job_id: str, importance: Importance, frame: bytes
    ) -> None:
        newest = found.running(job_id)
        if newest is not None:
            newest[importance] = frame
        for session in found.sessions:
            session.send(frame, importance)


def _rank(key: Retained) -> tuple[int, str]:
    return _ORDER.index(key[0]), key[1] or ""


def _is_number(text: str) -> bool:
    return len(text) <= _DIGITS and text.isascii() and text.isdecimal()


def _fields(payload: bytes) -> dict[str, Raw] | None:
    """Return an object's fields; None for what is none, or is not UTF-8."""
    try:
        return _OBJECT.decode(payload.decode())
    except UNREADABLE:
        return None


def _public_frame(what: str, name: str | None, payload: bytes, fields: dict[str, Raw]) -> bytes:
    match what:
        case "workflow":
            definition = Raw(payload or b"null")
            return frames.text(what, {"name": name, "definition": definition})
        case "choices":
            return frames.text(what, {"name": name, "choices": fields.get("choices")})
        case "comfyui":
            return frames.text(what, {**fields, "instance": name})
        case _:
            return frames.text(what, fields)
