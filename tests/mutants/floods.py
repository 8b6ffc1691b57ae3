"""Mutants of the bounds that keep one client from stopping the others."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FLOODS: tuple[Mutant, ...] = (
    Mutant(
        name="refresh-without-a-rest",
        file="bridge/service/descriptions.py",
        old="            if self._waited_for:\n",
        new="            if False:\n",
        guarantee="a ComfyUI that reports its nodes slowly holds up requests a tenth of the time",
        tests=("tests/service/test_descriptions.py",),
    ),
    Mutant(
        name="unpacked-bytes-unbounded",
        file="bridge/media/extents/__init__.py",
        old="        if found > allowed:\n",
        new="        if False:\n",
        guarantee="media that would unpack to gigabytes are refused by their headers",
        tests=("tests/media/extents/test_extents.py", "tests/requests/test_admission.py"),
    ),
    Mutant(
        name="pictures-of-a-film-not-counted",
        file="bridge/media/extents/films.py",
        old='elif kind in (b"stsz", b"stz2"):',
        new="elif False:",
        guarantee="the pictures of a film are counted where they are listed",
        tests=("tests/media/extents/test_extents.py",),
    ),
    Mutant(
        name="inputs-of-a-request-not-summed",
        file="bridge/media/extents/__init__.py",
        old="    if unpacked > limits.unpacked:\n",
        new="    if False:\n",
        guarantee="all inputs of a request together are bounded by what they unpack to",
        tests=("tests/media/extents/test_extents.py",),
    ),
    Mutant(
        name="thumbnails-cost-nothing",
        file="bridge/requests/thumbnails.py",
        old="self._processor.end(client, took_s)",
        new="self._processor.end(client, 0.0)",
        guarantee="making pictures smaller is paid for from a client's budget of processor time",
        tests=("tests/requests/test_thumbnail_turns.py",),
    ),
    Mutant(
        name="thumbnails-hold-the-window",
        file="bridge/requests/thumbnails.py",
        old="        waits()\n",
        new="",
        guarantee="nobody's PUBACK waits for a picture that is made smaller",
        tests=("tests/requests/test_thumbnail_turns.py",),
    ),
    Mutant(
        name="thumbnails-first-come",
        file="bridge/requests/thumbnails.py",
        old="                self._waiting[client] = turns\n",
        new="                self._waiting = OrderedDict({client: turns, **self._waiting})\n",
        guarantee="each client's pictures are made in its turn",
        tests=("tests/requests/test_thumbnail_turns.py",),
    ),
    Mutant(
        name="dear-verbs-unchecked",
        file="bridge/requests/processor_time.py",
        old="        if verb in _DEAR:\n",
        new="        if False:\n",
        guarantee="a client that spent its processor time is refused what costs much",
        tests=("tests/requests/test_processor_time.py",),
    ),
    Mutant(
        name="queue-walks-over-all-clients",
        file="bridge/jobs/queue.py",
        old="        if len(self._lines) > MAX_EXACT:\n",
        new="        if False:\n",
        guarantee="a request's work does not grow with the clients that wait",
        tests=("tests/test_growth.py",),
    ),
    Mutant(
        name="debounced-topics-unbounded",
        file="bridge/adapters/triggers/debounce.py",
        old="        if len(self._until) > MAX_TOPICS:\n",
        new="        if False:\n",
        guarantee="the topics on which a trigger fired a short while ago are bounded",
        tests=("tests/test_growth.py",),
    ),
    Mutant(
        name="begun-uploads-read-each-time",
        file="bridge/jobs/uploads.py",
        old="            if self._begun_uploads is None:\n                self._b",
        new="            if True:\n                self._b",
        guarantee="the folder of begun uploads is read once",
        tests=("tests/jobs/test_uploads.py",),
    ),
)
