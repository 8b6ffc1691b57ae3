"""Mutants of pipelines: sets (each job once, nobody waits for thousands), agents, warm-up."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_JOURNAL = "bridge/jobs/journal/sets.py"

SETS: tuple[Mutant, ...] = (
    Mutant(
        name="agents-without-token",
        file="bridge/agents/server.py",
        old="if not secrets.compare_digest(given, wanted):",
        new="if given and not secrets.compare_digest(given, wanted):",
        guarantee="over HTTP only who sends the token runs workflows",
        tests=("tests/agents/test_server.py",),
    ),
    Mutant(
        name="agents-near-by",
        file="bridge/cli/mcp.py",
        old="if token is None and not _is_here(host):",
        new="if False:",
        guarantee="without a token agents are served on this machine alone",
        tests=("tests/cli/test_mcp.py",),
    ),
    Mutant(
        name="forbidden-tools",
        file="bridge/agents/server.py",
        old="        except Forbidden:\n            may = False",
        new="        except Forbidden:\n            may = True",
        guarantee="an agent is offered what its client may use",
        tests=("tests/agents/test_server.py",),
    ),
    Mutant(
        name="warmed-after-each-job",
        file="bridge/jobs/warmup.py",
        old="new = state.epoch != self.epoch",
        new="new = True",
        guarantee="a workflow is run unasked at a start and after a yield alone",
        tests=("tests/jobs/test_warmup.py",),
    ),
    Mutant(
        name="set-made-twice",
        file=_JOURNAL,
        old="if db.execute(queries.EXPAND_SET, values).rowcount != 1:",
        new="if db.execute(queries.EXPAND_SET, values).rowcount > 1:",
        guarantee="the jobs of a set are made once, whoever makes them",
        tests=("tests/jobs/test_journal_sets.py",),
    ),
    Mutant(
        name="set-redelivered",
        file=_JOURNAL,
        old="known = None if job is None else _set_of(db, job)",
        new="known = None",
        guarantee="a request for a set that the broker delivers again is one set",
        tests=("tests/jobs/test_journal_sets.py", "tests/requests/test_sets.py"),
    ),
    Mutant(
        name="set-ends-before-its-jobs",
        file=_JOURNAL,
        old="            if unended:\n",
        new="            if unended > record.total:\n",
        guarantee="a set ends once, after its jobs",
        tests=("tests/jobs/test_journal_sets.py",),
    ),
    Mutant(
        name="set-media-swept",
        file=_JOURNAL,
        old="acceptance.keep_blobs(db, media_key(key), new.blobs, new.media)",
        new="acceptance.keep_blobs(db, media_key(key), set(), new.media)",
        guarantee="the bytes of a set's media are kept until its last job has them",
        tests=("tests/jobs/test_journal_sets.py",),
    ),
    Mutant(
        name="set-of-any-size",
        file="bridge/contract/expansion.py",
        old="    if found > limit:\n",
        new="    if found > limit * limit:\n",
        guarantee="a set of too many jobs is refused before any is made",
        tests=("tests/contract/test_expansion.py",),
    ),
    Mutant(
        name="sets-without-quota",
        file="bridge/requests/sets.py",
        old="if unmade + total > limit:",
        new="if total > limit:",
        guarantee="what all sets of a client have yet to make is bounded",
        tests=("tests/requests/test_sets.py",),
    ),
    Mutant(
        name="set-before-a-button",
        file="bridge/jobs/sets/progress.py",
        old="min(MOST, int(per_s * _AHEAD_S))",
        new="MOST",
        guarantee="a set puts few jobs into the queue at a time",
        tests=("tests/jobs/sets/test_progress.py", "tests/requests/test_sets.py"),
    ),
    Mutant(
        name="chain-of-sets-waits-for-itself",
        file="bridge/jobs/sets/driver.py",
        old="if live.record.waits:",
        new="if live.record.made < 0:",
        guarantee="jobs that wait for others of a set do not hold those up",
        tests=("tests/requests/test_sets.py",),
    ),
    Mutant(
        name="paused-set-goes-on",
        file="bridge/jobs/journal/queries.py",
        old="AND made = ? AND state = 'running' AND",
        new="AND made = ? AND",
        guarantee="a set that is paused makes no more jobs",
        tests=("tests/jobs/test_journal_sets.py",),
    ),
)
