"""A journal in PostgreSQL with many ended jobs, as a group leaves it after a month."""

from __future__ import annotations

import psycopg

REMEMBERED_S, RESULTS_S, OUTPUTS_S = 30 * 86_400.0, 7 * 86_400.0, 86_400.0
# A tenth of all is one client's.
CLIENTS, BUSY = 1000, "busy"
# The bytes of an output.
OUTPUT = 2048

_FILL = """
    CREATE TEMP TABLE made AS
        SELECT i, CASE WHEN i %% 10 = 0 THEN '{busy}' ELSE 'c' || i %% {clients} END AS client,
            md5(i::text) AS id, {now} - age AS ended, age < {results_s} AS has_result,
            age < {outputs_s} AS has_output
        FROM generate_series(1, {rows}) AS i,
            LATERAL (SELECT (1 - i::float / {rows}) * {remembered_s} AS age) AS ages;
    INSERT INTO jobs (client, job_id, workflow, workflow_version, fingerprint, delivery, packet,
            state, priority, attempt, prompt_id, accepted_at, needs, envelope, plan, n,
            finished_at, result, acked, published, owner)
        SELECT made.client, id, workflow, workflow_version, fingerprint,
            's:' || i %% 65535 || ':' || id, 's:' || i %% 65535, state, priority, attempt,
            prompt_id, ended - 5, needs, envelope, CASE WHEN has_result THEN plan END, 1000 + i,
            ended, CASE WHEN has_result THEN result END, 1, 1, owner
        FROM made, jobs WHERE jobs.job_id = %(job_id)s ORDER BY i;
    INSERT INTO sets (client, set_id, workflow, fingerprint, state, total, made, waits,
            accepted_at, envelope, n, finished_at, result, acked, published, owner)
        SELECT made.client, id, workflow, fingerprint, state, 1, 1, 0, ended - 5, envelope,
            2000 + {rows} + i, ended, CASE WHEN has_result THEN result END, 1, 1, owner
        FROM made, jobs WHERE jobs.job_id = %(job_id)s AND i %% {jobs_a_set} = 0;
    INSERT INTO clients (client, reserved) SELECT DISTINCT client, 2000 + 2 * {rows} FROM made
        ON CONFLICT (client) DO UPDATE SET reserved = excluded.reserved;
    INSERT INTO blobs SELECT id || id, {output}, convert_to(repeat(id, {output} / 32), 'UTF8')
        FROM made WHERE has_output;
    INSERT INTO outputs SELECT client, id, 0, 'image/png', id || id, ended + {outputs_s}
        FROM made WHERE has_output;
"""


def fill(
    address: str,
    job_id: str,
    rows: int,
    now: float,
    *,
    jobs_a_set: int = 50,
    outputs_s: float = OUTPUTS_S,
) -> None:
    """Write so many copies of an ended job, which have ended in the last 30 days.

    Results are those of a week, outputs those of a day, as the settings are by default.
    """
    values = {
        "busy": BUSY,
        "clients": CLIENTS,
        "jobs_a_set": jobs_a_set,
        "now": now,
        "output": OUTPUT,
        "outputs_s": outputs_s,
        "remembered_s": REMEMBERED_S,
        "results_s": RESULTS_S,
        "rows": rows,
    }
    with psycopg.connect(address, autocommit=True) as connection:
        # Not at the server: a script of several statements has no parameters there.
        psycopg.ClientCursor(connection).execute(
            _FILL.format(**values).encode(), {"job_id": job_id}
        )
        connection.execute("VACUUM ANALYZE")
        connection.execute("CHECKPOINT")
