"""All SQL of the journal, by name.

It is SQLite's and PostgreSQL's alike; what is marked so is PostgreSQL's alone. Each `?` stands for
a parameter, in the order in which the text names them. Bytes are a BLOB, as SQLite has it. States
come in as parameters: which there are, and what follows what, is defined by `bridge.jobs.state`
alone.
"""

from __future__ import annotations

import functools
from typing import get_args

from bridge.contract.messages import State

# Time is the database's, which all members share (PostgreSQL).
_NOW = "EXTRACT(EPOCH FROM clock_timestamp())"
# While the database was away nobody could renew a lease: all have one lease's time to do so. A
# start that is yet to come was before the clock was set back.
_UP_FOR_LONG = (
    "pg_postmaster_start_time() NOT BETWEEN "
    "clock_timestamp() - make_interval(secs => ?) AND clock_timestamp()"
)
# The number of a client, two parameters: if the first is NULL, the one that it was given last.
_NUMBER = "COALESCE(?, (SELECT reserved FROM clients WHERE client = ?))"
_SHARED_PARTS = {
    # The job that got a number in the same transaction, if one did: client, id, and the number.
    "numbered_now": "FROM jobs WHERE client = ? AND job_id = ? AND n = [number]",
    "number": _NUMBER,
    # Bytes that are damaged are repaired by the same ones.
    "or_repair": (
        "ON CONFLICT (sha256) DO UPDATE SET data = excluded.data WHERE blobs.data <> excluded.data"
    ),
    # What `rows.read` reads.
    "record": (
        "client, job_id, seq, workflow, workflow_version, state, priority, attempt, prompt_id, "
        "instance, accepted_at, start_before, timeout_s, keep_s, ordered, replace_word, needs, "
        "envelope, fingerprint, n, finished_at, acked, result, owner, cancelling"
    ),
    # What `sets` reads.
    "set": (
        "client, set_id, workflow, fingerprint, state, total, made, waits, accepted_at, envelope, "
        "n, result, finished_at"
    ),
    "now": _NOW,
    "dead": f"expires < {_NOW} AND {_UP_FOR_LONG}",
    "up_for_long": _UP_FOR_LONG,
    "orphaned": (
        "finished_at IS NULL AND owner IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM members WHERE life = jobs.owner)"
    ),
    # The lock that a member's session holds while its process lives.
    "presence": "('x' || substr(life, 1, 16))::bit(64)::bigint",
    # With EXISTS PostgreSQL would read the whole of the other table, to look at some rows of this.
    "used": (
        "(SELECT 1 FROM outputs o WHERE o.sha256 = blobs.sha256 LIMIT 1) IS NOT NULL "
        "OR (SELECT 1 FROM media m WHERE m.sha256 = blobs.sha256 LIMIT 1) IS NOT NULL "
        "OR (SELECT 1 FROM uploads u WHERE u.sha256 = blobs.sha256 LIMIT 1) IS NOT NULL"
    ),
    # Looked up for each row, as above: joined, PostgreSQL may read the whole of the other tables.
    "job_of_output": "FROM jobs j WHERE j.client = o.client AND j.job_id = o.job_id",
    "set_of_output": (
        "FROM sets s WHERE s.client = o.client AND s.set_id = substr(o.job_id, 5) "
        "AND substr(o.job_id, 1, 4) = 'set/'"
    ),
    "output": "client, job_id, idx, (SELECT size FROM blobs WHERE blobs.sha256 = o.sha256)",
    "outputs_after": (
        "FROM outputs o WHERE (client, job_id, idx) > (?, ?, ?) AND keep_until >= ? "
        "ORDER BY client, job_id, idx LIMIT ?"
    ),
    "has_job": "(SELECT 1 FROM jobs WHERE jobs.client = clients.client LIMIT 1) IS NOT NULL",
    # Results to publish again: in two parts, each found by an index of its own.
    "not_published": "result IS NOT NULL AND acked = 0 AND published <> 1",
    "published_since": "result IS NOT NULL AND acked = 0 AND published = 1 AND finished_at >= ?",
    "of_job": "client, job_id AS id, envelope, result, 0 AS of_set, COALESCE(first_n, n) AS turn",
    "of_set": "client, set_id, envelope, result, 1, COALESCE(first_n, n)",
    "any_states": ", ".join("?" * len(get_args(State))),
}


def _sql(text: str) -> str:
    """Insert the parts that several queries share."""
    for name, part in _SHARED_PARTS.items():
        text = text.replace(f"[{name}]", part)
    return text


# Notes: single values by their names.

NOTE = """
    INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"""
NOTED = "SELECT value FROM meta WHERE name = ?"
LATEST_TIME = """
    SELECT MAX(at) FROM (SELECT MAX(finished_at) AS at FROM jobs WHERE finished_at IS NOT NULL
        UNION ALL SELECT MAX(accepted_at) FROM jobs WHERE finished_at IS NULL) AS times"""

# Numbers. The floor is a row of its own, see `sequence`.

ALL_RESERVED = "SELECT client, reserved FROM clients"
RESERVE = """
    INSERT INTO clients (client, reserved) VALUES (?, ?)
    ON CONFLICT (client) DO UPDATE SET reserved = excluded.reserved
    WHERE excluded.reserved > clients.reserved"""
# Client, floor, who draws it.
NEXT_NUMBER = """
    INSERT INTO clients (client, reserved, drawer)
    VALUES (?, 1 + COALESCE((SELECT reserved FROM clients WHERE client = ?), 0), ?)
    ON CONFLICT (client) DO UPDATE SET reserved = clients.reserved + 1,
        run_from = CASE WHEN clients.drawer = excluded.drawer THEN COALESCE(clients.run_from, 0)
            ELSE clients.reserved + 1 END,
        drawer = excluded.drawer
    RETURNING reserved"""
# Those that have jobs: all but the floor.
CLIENTS = "SELECT client FROM clients WHERE client <> '' ORDER BY client LIMIT ?"
HIGHEST_RESERVED = "SELECT COALESCE(MAX(reserved), 0) FROM clients"
RESERVE_FOR_ALL = "UPDATE clients SET reserved = ?"
# The name after which to look, how many to look at; the floor's name is the first.
CLIENTS_IN_USE = _sql(
    "SELECT client, [has_job] FROM clients WHERE client > ? ORDER BY client LIMIT ?"
)
FORGET_CLIENT = _sql(
    "DELETE FROM clients WHERE client = ? AND NOT ([has_job]) RETURNING client, reserved"
)

# A job's life.

INSERT_JOB = """
    INSERT INTO jobs (client, job_id, workflow, workflow_version, fingerprint, delivery, packet,
        state, priority, attempt, prompt_id, accepted_at, start_before, timeout_s, keep_s, ordered,
        replace_word, needs, envelope, plan, set_id, set_index, n)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    RETURNING seq"""


@functools.cache
def insert_job_if_new(blobs: int) -> str:
    """Return the query that writes a job down where its id is free and the bytes are there.

    Its last parameters are the number, and so many SHA-256.
    """
    head, _, columns = INSERT_JOB.partition("VALUES (")
    values = columns.partition(")")[0].removesuffix("?") + _NUMBER
    there = " AND EXISTS (SELECT 1 FROM blobs WHERE sha256 = ?)" * blobs
    return f"{head} SELECT {values} WHERE TRUE{there} ON CONFLICT DO NOTHING RETURNING seq"


# One that this bridge had claimed in its last life is anybody's again.
RELEASE_JOB = """
    UPDATE jobs SET state = ?, plan = ?, n = ?, owner = NULL
    WHERE client = ? AND job_id = ? AND state = ? AND (owner IS NULL OR owner = ?)"""
START_JOB = _sql("""
    UPDATE jobs SET state = ?, attempt = ?, instance = ?, prompt_id = ?, n = [number]
    WHERE client = ? AND job_id = ? AND finished_at IS NULL""")
REQUEUE_JOB = """
    UPDATE jobs SET state = ?, attempt = ?, instance = NULL, prompt_id = ?, n = ?, owner = NULL
    WHERE client = ? AND job_id = ? AND finished_at IS NULL"""
# The first outcome stands; the last parameter is whose it may be besides nobody's. The result is
# put together of what is before its number, the number, and what is after it: head, tail, number.
FINISH_JOB = _sql("""
    UPDATE jobs SET state = ?, finished_at = ?, owner = ?, undelivered = NULL, (n, result) = (
        SELECT n, CAST(CAST(? AS BLOB) || CAST(CAST(n AS TEXT) AS BLOB) || CAST(? AS BLOB) AS BLOB)
        FROM (SELECT [number] AS n) AS drawn)
    WHERE client = ? AND job_id = ? AND finished_at IS NULL AND (owner IS NULL OR owner = ?)""")

# What its sinks are to have, client, job.
KEEP_UNDELIVERED = """
    UPDATE jobs SET undelivered = ? WHERE client = ? AND job_id = ? AND finished_at IS NULL"""
UNDELIVERED = "SELECT undelivered FROM jobs WHERE client = ? AND job_id = ?"

# Jobs as they stand. Rows of a bridge alone have no owner.

JOB = _sql("SELECT [record] FROM jobs WHERE client = ? AND job_id = ?")
JOB_OF_DELIVERY = _sql("SELECT [record] FROM jobs WHERE delivery = ? ORDER BY seq DESC LIMIT 1")
LAST_OF_PACKET = "SELECT delivery FROM jobs WHERE packet = ? ORDER BY seq DESC LIMIT 1"
HOW_MANY_JOBS = "SELECT COUNT(*) FROM jobs"
PLAN = "SELECT plan FROM jobs WHERE client = ? AND job_id = ?"
UNFINISHED = _sql("""
    SELECT [record] FROM jobs WHERE finished_at IS NULL AND COALESCE(owner, '') = ?
    ORDER BY seq""")
# Those that other bridges of the group have.
CLAIMED_BY_OTHERS = _sql("""
    SELECT [record] FROM jobs WHERE finished_at IS NULL AND owner IS NOT NULL AND owner <> ?
    ORDER BY seq""")
# How many have not ended, by what they need.
BACKLOG = """
    SELECT workflow, needs, state, COUNT(*) FROM jobs WHERE finished_at IS NULL
    GROUP BY workflow, needs, state"""
_PAGE = _sql("""
    SELECT [record] FROM jobs WHERE client = ? AND n > ? AND state IN ([any_states])
    AND workflow = COALESCE(?, workflow) [only] ORDER BY n LIMIT ?""")


@functools.cache
def page(*, unended: bool, of_set: bool) -> str:
    """Return the query of a client's jobs with a higher number.

    Jobs that have not ended, or of a set, are found without looking at all others of the client.
    Parameters: client, number, all states that count, workflow (NULL: any), the set if it is
    `of_set`, how many.
    """
    only = " AND finished_at IS NULL" * unended + " AND set_id = ?" * of_set
    return _PAGE.replace("[only]", only)


# Results. `published` is 1 once the broker has it, 2 if the broker did not take it and what has a
# higher number was published nevertheless, 0 otherwise. See `publication` for what follows.

# Client, id, and twice the bridge; changes nothing if the result was overtaken.
PUBLISHED = """
    UPDATE jobs SET published = 1 WHERE client = ? AND job_id = ?
    AND (published = 1 OR acked = 1 OR published = 0 AND (? = '' OR EXISTS (
        SELECT 1 FROM clients WHERE clients.client = jobs.client
        AND clients.drawer = ? AND COALESCE(clients.run_from, 0) <= jobs.n)))"""
NOT_TAKEN = """
    UPDATE jobs SET published = 2 WHERE client = ? AND job_id = ? AND published = 0"""
ALL_NOT_TAKEN = """
    SELECT client, job_id FROM jobs
    WHERE client = ? AND n <= ? AND published = 2 AND acked = 0 AND result IS NOT NULL
    ORDER BY n LIMIT ?"""
# The number, the new `published`, client, id.
RENUMBER = """
    UPDATE jobs SET first_n = COALESCE(first_n, n), n = ?, published = ?
    WHERE client = ? AND job_id = ? AND acked = 0 AND result IS NOT NULL"""
# Those of jobs and of sets, in one order.
_UNPUBLISHED = _sql("""
    SELECT [of_job] FROM jobs WHERE [not_published] AND [whose]
    UNION ALL SELECT [of_job] FROM jobs WHERE [published_since] AND [whose]
    UNION ALL SELECT [of_set] FROM sets WHERE [not_published] AND [whose]
    UNION ALL SELECT [of_set] FROM sets WHERE [published_since] AND [whose]
    ORDER BY client, turn""")
# The bridge, the time since, the bridge, and these again.
UNPUBLISHED = _UNPUBLISHED.replace("[whose]", "COALESCE(owner, '') = ?")
# The time since, twice.
UNPUBLISHED_OF_THE_DEAD = _UNPUBLISHED.replace(
    "[whose]", "NOT EXISTS (SELECT 1 FROM members WHERE life = owner)"
)
# Client, twice the number, the bridge.
ACK = """
    UPDATE jobs SET acked = 1
    WHERE client = ? AND n <= ? AND acked = 0 AND finished_at IS NOT NULL
    AND (published = 1 OR n = ? OR published = 0 AND ? = '')"""
ACK_BY_FIRST_NUMBER = """
    UPDATE jobs SET acked = 1 WHERE client = ? AND first_n = ? AND acked = 0"""
# The last one of each workflow. The client, twice.
LAST_ENDED = _sql("""
    SELECT [record] FROM jobs WHERE client = ? AND finished_at IS NOT NULL AND n IN (
        SELECT MAX(n) FROM jobs WHERE client = ? AND finished_at IS NOT NULL GROUP BY workflow)""")
FORGET_RESULT = """
    UPDATE jobs SET result = NULL, plan = NULL, acked = 1
    WHERE client = ? AND job_id = ? AND finished_at IS NOT NULL AND result IS NOT NULL"""
ESTIMATES = "SELECT workflow, run_s FROM estimates"
SET_ESTIMATE = """
    INSERT INTO estimates VALUES (?, ?)
    ON CONFLICT (workflow) DO UPDATE SET run_s = excluded.run_s"""

# Sets.

INSERT_SET = """
    INSERT INTO sets (client, set_id, workflow, fingerprint, state, total, made, waits,
        accepted_at, envelope, spec, n)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
SET = _sql("SELECT [set] FROM sets WHERE client = ? AND set_id = ?")
SET_SPEC = "SELECT spec FROM sets WHERE client = ? AND set_id = ?"
UNFINISHED_SETS = _sql(
    "SELECT [set] FROM sets WHERE finished_at IS NULL ORDER BY accepted_at, client, set_id"
)
# How many are made then, which set, how many were.
EXPAND_SET = """
    UPDATE sets SET made = ?
    WHERE client = ? AND set_id = ? AND made = ? AND state = 'running' AND finished_at IS NULL"""
ENTER_SET_STATE = """
    UPDATE sets SET state = ?
    WHERE client = ? AND set_id = ? AND finished_at IS NULL AND state <> 'cancelling'"""
CANCEL_ALL_SETS = "UPDATE sets SET state = 'cancelling' WHERE finished_at IS NULL"
# The first outcome stands.
FINISH_SET = """
    UPDATE sets SET state = ?, n = ?, result = ?, finished_at = ?, owner = ?, spec = NULL
    WHERE client = ? AND set_id = ? AND finished_at IS NULL"""
IS_JOB = "SELECT 1 FROM jobs WHERE client = ? AND job_id = ?"
JOBS_OF_SET = """
    SELECT set_index, job_id, state FROM jobs WHERE client = ? AND set_id = ? ORDER BY set_index"""
UNDER_WAY_OF_SET = """
    SELECT job_id FROM jobs WHERE client = ? AND set_id = ? AND finished_at IS NULL
    ORDER BY set_index"""
COUNT_SET_JOBS = """
    SELECT state, COUNT(*) FROM jobs WHERE client = ? AND set_id = ? GROUP BY state"""
UNENDED_OF_SET = """
    SELECT COUNT(*) FROM jobs WHERE client = ? AND set_id = ? AND finished_at IS NULL"""
UNMADE_OF_CLIENT = """
    SELECT COALESCE(SUM(total - made), 0) FROM sets WHERE client = ? AND finished_at IS NULL"""
SET_PUBLISHED = "UPDATE sets SET published = 1 WHERE client = ? AND set_id = ?"
# `first_n` is the number in the result, where an earlier version gave the row another one.
ACK_SET = """
    UPDATE sets SET acked = 1
    WHERE client = ? AND COALESCE(first_n, n) = ? AND acked = 0 AND finished_at IS NOT NULL"""
FORGET_SET = """
    UPDATE sets SET result = NULL, acked = 1
    WHERE client = ? AND set_id = ? AND finished_at IS NOT NULL AND result IS NOT NULL"""
FORGET_RESULTS_OF_SET = """
    UPDATE jobs SET result = NULL, plan = NULL, acked = 1
    WHERE client = ? AND set_id = ? AND finished_at IS NOT NULL AND result IS NOT NULL"""
# The client, which set: what those of its jobs that are kept gave, and their results.
OUTPUTS_OF_SET = """
    SELECT j.set_index, j.job_id, o.idx, o.content_type, b.size
    FROM jobs j JOIN outputs o ON o.client = j.client AND o.job_id = j.job_id
    JOIN blobs b ON b.sha256 = o.sha256
    WHERE j.client = ? AND j.set_id = ? ORDER BY j.set_index, o.idx"""
RESULTS_OF_SET = """
    SELECT set_index, result FROM jobs
    WHERE client = ? AND set_id = ? AND result IS NOT NULL ORDER BY set_index"""
KEEP_OUTPUTS_OF_SET = """
    UPDATE outputs SET keep_until = ? WHERE client = ?
    AND job_id IN (SELECT job_id FROM jobs WHERE client = ? AND set_id = ?)"""
DROP_OUTPUTS_OF_SET = """
    DELETE FROM outputs WHERE client = ?
    AND job_id IN (SELECT job_id FROM jobs WHERE client = ? AND set_id = ?)"""

# Webhooks: results on their way to somebody's server.

# Nothing where so many of that client wait already.
INSERT_WEBHOOK = """
    INSERT INTO webhooks (id, client, name, url, own, body, due)
    SELECT ?, ?, ?, ?, ?, ?, ?
    WHERE (SELECT COUNT(*) FROM webhooks WHERE client = ?) < ?"""
CLIENTS_OF_WEBHOOKS = "SELECT DISTINCT client FROM webhooks WHERE due <= ? ORDER BY client"
DUE_WEBHOOKS = """
    SELECT id, name, url, own, body, attempts FROM webhooks WHERE client = ? AND due <= ?
    ORDER BY due LIMIT ?"""
NEXT_WEBHOOK = "SELECT MIN(due) FROM webhooks WHERE due > ?"
POSTPONE_WEBHOOK = "UPDATE webhooks SET attempts = ?, due = ? WHERE id = ?"
DROP_WEBHOOK = "DELETE FROM webhooks WHERE id = ?"
DROP_WEBHOOKS_OF = "DELETE FROM webhooks WHERE client = ? AND name = ?"

# Bytes: of outputs, of media, of uploads.

KEEP_BLOB = _sql("INSERT INTO blobs VALUES (?, ?, ?) [or_repair]")
# SHA-256, size and bytes, of the job that was ended now.
KEEP_BLOB_OF_ENDED = _sql("INSERT INTO blobs SELECT ?, ?, ? [numbered_now] [or_repair]")
BLOB = "SELECT data FROM blobs WHERE sha256 = ?"
FILES = "SELECT sha256 FROM blobs WHERE data IS NULL"
# The name after which to look, how many.
FILES_AFTER = "SELECT sha256 FROM blobs WHERE data IS NULL AND sha256 > ? ORDER BY sha256 LIMIT ?"
# Nothing where the bytes are not there.
KEEP_MEDIA = """
    INSERT INTO media SELECT ?, ?, sha256 FROM blobs WHERE sha256 = ?
    ON CONFLICT (client, job_id, sha256) DO UPDATE SET sha256 = excluded.sha256"""
IS_BLOB = "SELECT 1 FROM blobs WHERE sha256 = ?"
# SHA-256, of the job that was written down now.
KEEP_MEDIA_OF_NEW = _sql("INSERT INTO media SELECT client, job_id, ? [numbered_now]")
DROP_MEDIA = "DELETE FROM media WHERE client = ? AND job_id = ?"
DROP_MEDIA_OF_ENDED = """
    DELETE FROM media WHERE client = ? AND job_id = ? AND EXISTS (SELECT 1 FROM jobs
        WHERE jobs.client = media.client AND jobs.job_id = media.job_id
        AND finished_at IS NOT NULL)"""
INSERT_OUTPUT = "INSERT INTO outputs VALUES (?, ?, ?, ?, ?, ?)"
# Index, type, SHA-256 and until when, of the job that was ended now.
INSERT_OUTPUT_OF_ENDED = _sql(
    "INSERT INTO outputs SELECT client, job_id, ?, ?, ?, ? [numbered_now]"
)
KEEP_OUTPUTS = "UPDATE outputs SET keep_until = ? WHERE client = ? AND job_id = ?"
OUTPUT = """
    SELECT o.content_type, o.sha256, b.size, b.data
    FROM outputs o JOIN blobs b ON b.sha256 = o.sha256
    WHERE o.client = ? AND o.job_id = ? AND o.idx = ?"""
DROP_OUTPUTS = "DELETE FROM outputs WHERE client = ? AND job_id = ?"
DROP_OUTPUT = "DELETE FROM outputs WHERE client = ? AND job_id = ? AND idx = ? RETURNING sha256"
# The place after which to look, until when they are to be kept, how many. The second one also
# reads what the order depends on in which they are deleted.
OUTPUT_SIZES_AFTER = _sql("SELECT [output] [outputs_after]")
OUTPUTS_AFTER = _sql("""
    SELECT [output],
        COALESCE((SELECT acked [job_of_output]), (SELECT acked [set_of_output]), 0),
        COALESCE((SELECT finished_at [job_of_output]), (SELECT finished_at [set_of_output]), 0)
    [outputs_after]""")
KEEP_UPLOAD = """
    INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (client, upload) DO UPDATE SET kind = excluded.kind,
        content_type = excluded.content_type, extension = excluded.extension,
        sha256 = excluded.sha256, keep_until = excluded.keep_until"""
UPLOAD = """
    SELECT u.kind, u.content_type, u.extension, u.sha256, b.size
    FROM uploads u JOIN blobs b ON b.sha256 = u.sha256
    WHERE u.client = ? AND u.upload = ?"""
# A row takes some bytes too.
UPLOADED = """
    SELECT COALESCE(SUM(b.size + 1024), 0)
    FROM uploads u JOIN blobs b ON b.sha256 = u.sha256
    WHERE u.client = ?"""

# The sweep, in this order.


def at_most(sql: str, rows: int) -> str:
    """Bound a query of the sweep; as a parameter PostgreSQL would plan for a tenth of all."""
    return sql.replace("[rows]", str(rows))


# Each up to a time, and so many rows (`at_most`); these two return what bytes the rows named.
SWEEP_OUTPUTS = """
    DELETE FROM outputs WHERE (client, job_id, idx) IN (
        SELECT client, job_id, idx FROM outputs WHERE keep_until < ?
        ORDER BY keep_until LIMIT [rows]) RETURNING sha256"""
SWEEP_UPLOADS = """
    DELETE FROM uploads WHERE (client, upload) IN (
        SELECT client, upload FROM uploads WHERE keep_until < ?
        ORDER BY keep_until LIMIT [rows]) RETURNING sha256"""
SWEEP_RESULTS = """
    UPDATE jobs SET result = NULL, plan = NULL WHERE seq IN (
        SELECT seq FROM jobs WHERE result IS NOT NULL AND finished_at < ?
        ORDER BY finished_at LIMIT [rows])"""
# Not while its set continues: what became of it belongs to the set's result. Nor while an output is
# kept: it is fetched by the job's id, which no other job may have meanwhile.
SWEEP_JOBS = """
    DELETE FROM jobs WHERE seq IN (
        SELECT seq FROM jobs WHERE finished_at < ?
        AND NOT EXISTS (SELECT 1 FROM outputs o
            WHERE o.client = jobs.client AND o.job_id = jobs.job_id)
        AND (set_id IS NULL OR NOT EXISTS (SELECT 1 FROM sets WHERE sets.client = jobs.client
            AND sets.set_id = jobs.set_id AND sets.finished_at IS NULL))
        ORDER BY finished_at LIMIT [rows])"""
SWEEP_SET_RESULTS = """
    UPDATE sets SET result = NULL WHERE (client, set_id) IN (
        SELECT client, set_id FROM sets WHERE result IS NOT NULL AND finished_at < ?
        ORDER BY finished_at LIMIT [rows])"""
# Not while what it has collected is kept: it is fetched by the set's id.
SWEEP_SETS = """
    DELETE FROM sets WHERE (client, set_id) IN (
        SELECT client, set_id FROM sets WHERE finished_at < ?
        AND NOT EXISTS (SELECT 1 FROM outputs o
            WHERE o.client = sets.client AND o.job_id = 'set/' || sets.set_id)
        ORDER BY finished_at LIMIT [rows])"""
# The name after which to look, how many to look at: names, and whether anything refers to them.
BLOBS_IN_USE = _sql("SELECT sha256, [used] FROM blobs WHERE sha256 > ? ORDER BY sha256 LIMIT ?")
DROP_UNUSED_BLOB = _sql("DELETE FROM blobs WHERE sha256 = ? AND NOT ([used])")

# Several bridges: whose a job is.

# Nothing where another bridge has it, or it has ended. The plan too, if the last parameter is 1.
CLAIM = """
    UPDATE jobs SET owner = ?
    WHERE client = ? AND job_id = ? AND finished_at IS NULL AND (owner IS NULL OR owner = ?)
    RETURNING attempt, prompt_id, CASE WHEN ? THEN plan END"""
CLAIM_TO_CANCEL = "UPDATE jobs SET owner = ? WHERE client = ? AND job_id = ?"
ASK_TO_CANCEL = "UPDATE jobs SET cancelling = 1 WHERE client = ? AND job_id = ?"
UNOWNED = _sql("""
    SELECT client, job_id FROM jobs
    WHERE finished_at IS NULL AND owner IS NULL AND state IN ([any_states])""")
TO_CANCEL = """
    SELECT client, job_id FROM jobs WHERE finished_at IS NULL AND owner = ? AND cancelling = 1"""

# Several bridges: who they are (PostgreSQL).

# The life is put in as text: it is a part of what begins each transaction. Where there is no such
# member, the division fails, and with it the transaction.
GUARD = "SELECT 1 / COUNT(*) FROM members WHERE life = '[life]'"
MEMBER_OF_NAME = _sql("SELECT life, expires, expires < [now] FROM members WHERE name = ?")
# What has ended and was published stays the dead one's.
INHERIT_JOBS = """
    UPDATE jobs SET owner = ? WHERE owner = ? AND (finished_at IS NULL OR published <> 1)"""
INHERIT_SETS = "UPDATE sets SET owner = ? WHERE owner = ? AND published <> 1"
DROP_MEMBER = "DELETE FROM members WHERE life = ?"
INSERT_MEMBER = _sql("INSERT INTO members VALUES (?, ?, [now] + ?)")
DATABASE_TIME = _sql("SELECT [now]")
LENGTHEN_LEASES = "UPDATE members SET expires = expires + ?"
# Twice the most that a lease runs, in seconds.
SHORTEN_LEASES = _sql("UPDATE members SET expires = [now] + ? WHERE expires > [now] + ?")
RENEW_LEASE = _sql("UPDATE members SET expires = [now] + ? WHERE life = ?")
DELETE_EXPIRED_MEMBERS = _sql("DELETE FROM members WHERE [dead] AND life <> ?")
# Several sessions of one bridge may hold it: the old one, when a network was cut, ends late.
HOLD_PRESENCE = _sql("SELECT pg_advisory_lock_shared([presence]) FROM (SELECT ?::text) AS _ (life)")
# This bridge, and whether it observes all others, or the one that has the intake alone.
OBSERVE_OTHERS = _sql("""
    SELECT life, expires, NOT pg_try_advisory_xact_lock([presence]) FROM members
    WHERE life <> ? AND (?::bool OR life = (SELECT life FROM intake))""")
DELETE_DEAD_MEMBER = _sql("""
    DELETE FROM members WHERE [up_for_long] AND life = ? AND expires = ?
    AND pg_try_advisory_xact_lock([presence])""")
OTHER_MEMBERS = _sql("SELECT name FROM members WHERE life <> ? AND expires > [now]")
MEMBERS = "SELECT name, life FROM members"
HOW_MANY_MEMBERS = _sql("SELECT COUNT(*) FROM members WHERE expires > [now]")
HAS_INTAKE = "SELECT 1 FROM intake WHERE life = ?"
INTAKE_IS_HELD = _sql("""
    SELECT 1 FROM intake JOIN members ON members.life = intake.life WHERE NOT ([dead])""")
# This bridge, the time of grace, the most that a lease runs, the time of grace, this bridge.
SEE_GROUP = _sql("""
    WITH own AS (SELECT COUNT(*) > 0 AS intake FROM intake WHERE life = ?)
    SELECT [now]::float, own.intake,
        NOT EXISTS (SELECT 1 FROM intake JOIN members ON members.life = intake.life
            WHERE NOT ([dead])),
        EXISTS (SELECT 1 FROM members WHERE expires > [now] + ?),
        own.intake AND (EXISTS (SELECT 1 FROM members WHERE [dead] AND life <> ?)
            OR EXISTS (SELECT 1 FROM jobs WHERE [orphaned]))
    FROM own""")
TAKE_INTAKE = """
    INSERT INTO intake VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET life = excluded.life"""
RELEASE_INTAKE = "DELETE FROM intake WHERE life = ?"
ORPHANS = _sql("SELECT [record] FROM jobs WHERE [orphaned]")
REQUEUE_ORPHAN = """
    UPDATE jobs SET owner = NULL, state = ?, prompt_id = ?, instance = NULL, n = ?
    WHERE client = ? AND job_id = ?"""

# What the ComfyUIs of several bridges have (PostgreSQL).

OFFER = _sql("""
    INSERT INTO offers (comfyui, member, digest, offer, seen) VALUES (?, ?, ?, ?, [now])
    ON CONFLICT (comfyui) DO UPDATE SET member = excluded.member, digest = excluded.digest,
        offer = excluded.offer, seen = excluded.seen""")
OFFERS = "SELECT comfyui, digest FROM offers ORDER BY comfyui"
OFFERED = "SELECT offer FROM offers WHERE comfyui = ? AND digest = ?"
OFFERS_OF = "SELECT comfyui FROM offers WHERE member = ?"
DROP_OFFER = "DELETE FROM offers WHERE comfyui = ?"
SEE_OFFERS = _sql("UPDATE offers SET seen = [now] WHERE member IN (SELECT name FROM members)")
DROP_OLD_OFFERS = _sql("DELETE FROM offers WHERE seen < [now] - ?")

# What adapters keep.

KEPT = "SELECT name, value FROM kept WHERE kind = ?"
KEPT_NAMES = "SELECT name FROM kept WHERE kind = ? ORDER BY name"
KEPT_VALUE = "SELECT value FROM kept WHERE kind = ? AND name = ?"
KEEP = """
    INSERT INTO kept (kind, name, value) VALUES (?, ?, ?)
    ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value"""
KEEP_IF_NEW = """
    INSERT INTO kept (kind, name, value) VALUES (?, ?, ?) ON CONFLICT (kind, name) DO NOTHING"""
DROP_KEPT = "DELETE FROM kept WHERE kind = ? AND name = ?"
