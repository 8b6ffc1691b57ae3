"""The journal's tables. Append a version; never change one that was released.

A bridge does not start on tables of a later version than its own. So a table that earlier bridges
need not know is none of a version: it is added beside them (`ADDED`), and bridges of both kinds
work on one journal, and may be restarted, until all are upgraded. So is an index.

Times are seconds by the journal's clock (`jobs.clock`). `seq` is the order of acceptance. A job's
row outlives its result (which is set to NULL when it expires), so that its id is remembered.
"""

from __future__ import annotations

VERSION_1 = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # The numbers up to `reserved` may have been used: a restart begins above.
    "CREATE TABLE clients (client TEXT PRIMARY KEY, reserved INTEGER NOT NULL)",
    """CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY,
        client TEXT NOT NULL,
        job_id TEXT NOT NULL,
        workflow TEXT NOT NULL,
        workflow_version TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        delivery TEXT,
        state TEXT NOT NULL,
        priority INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        prompt_id TEXT NOT NULL,
        instance TEXT,
        accepted_at REAL NOT NULL,
        start_before REAL,
        timeout_s REAL,
        keep_s REAL,
        envelope BLOB NOT NULL,
        plan BLOB,
        n INTEGER NOT NULL,
        finished_at REAL,
        result BLOB,
        acked INTEGER NOT NULL DEFAULT 0,
        published INTEGER NOT NULL DEFAULT 0,
        UNIQUE (client, job_id)
    )""",
    "CREATE INDEX jobs_by_number ON jobs (client, n)",
    "CREATE INDEX jobs_by_delivery ON jobs (delivery) WHERE delivery IS NOT NULL",
    "CREATE INDEX jobs_unfinished ON jobs (seq) WHERE finished_at IS NULL",
    "CREATE INDEX jobs_by_end ON jobs (finished_at) WHERE finished_at IS NOT NULL",
    # `data` is NULL where the bytes are a file of that name.
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL, data BLOB)",
    """CREATE TABLE outputs (
        client TEXT NOT NULL,
        job_id TEXT NOT NULL,
        idx INTEGER NOT NULL,
        content_type TEXT NOT NULL,
        sha256 TEXT NOT NULL REFERENCES blobs (sha256),
        keep_until REAL NOT NULL,
        PRIMARY KEY (client, job_id, idx)
    )""",
    "CREATE INDEX outputs_by_end ON outputs (keep_until)",
    "CREATE INDEX outputs_by_blob ON outputs (sha256)",
    """CREATE TABLE media (
        client TEXT NOT NULL,
        job_id TEXT NOT NULL,
        sha256 TEXT NOT NULL REFERENCES blobs (sha256),
        PRIMARY KEY (client, job_id, sha256)
    )""",
    "CREATE INDEX media_by_blob ON media (sha256)",
    """CREATE TABLE uploads (
        client TEXT NOT NULL,
        upload TEXT NOT NULL,
        kind TEXT NOT NULL,
        content_type TEXT NOT NULL,
        extension TEXT NOT NULL,
        sha256 TEXT NOT NULL REFERENCES blobs (sha256),
        keep_until REAL NOT NULL,
        PRIMARY KEY (client, upload)
    )""",
    "CREATE INDEX uploads_by_blob ON uploads (sha256)",
)

VERSION_2 = (
    "ALTER TABLE jobs ADD COLUMN ordered INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE jobs ADD COLUMN replace_word TEXT",
    # What it needs of a ComfyUI, so that a restart need not read every plan.
    "ALTER TABLE jobs ADD COLUMN needs BLOB",
    # How long a run of a workflow takes, in seconds.
    "CREATE TABLE estimates (workflow TEXT PRIMARY KEY, run_s REAL NOT NULL)",
)

VERSION_3 = (
    # For several bridges: who has a job, or gave it its outcome. A member of the group is named by
    # its life, which is another after each start.
    "ALTER TABLE jobs ADD COLUMN owner TEXT",
    # Whether whoever has it is to stop it.
    "ALTER TABLE jobs ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE members (
        life TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        expires REAL NOT NULL
    )""",
    # One row: the life of the member that takes requests.
    "CREATE TABLE intake (one INTEGER PRIMARY KEY, life TEXT NOT NULL)",
)

VERSION_4 = (
    # The packet id that a request came by, in its session: the beginning of `delivery`.
    "ALTER TABLE jobs ADD COLUMN packet TEXT",
    "CREATE INDEX jobs_by_packet ON jobs (packet, seq) WHERE packet IS NOT NULL",
)

VERSION_5 = (
    # Of several bridges: who drew a client's latest number, and from which number on nobody else
    # drew one.
    "ALTER TABLE clients ADD COLUMN drawer TEXT",
    "ALTER TABLE clients ADD COLUMN run_from INTEGER",
    # The number in the result, where the job was given a higher one since (`publication`).
    "ALTER TABLE jobs ADD COLUMN first_n INTEGER",
    "CREATE INDEX jobs_by_first_number ON jobs (client, first_n) WHERE first_n IS NOT NULL",
    "CREATE INDEX jobs_passed_over ON jobs (client, n) WHERE published = 2",
)

VERSION_6 = (
    # A set of jobs. `spec` is what they are made of, until all have ended; `made` is how many were.
    # Some wait for their input where it `waits`.
    """CREATE TABLE sets (
        client TEXT NOT NULL,
        set_id TEXT NOT NULL,
        workflow TEXT NOT NULL,
        fingerprint BLOB NOT NULL,
        state TEXT NOT NULL,
        total INTEGER NOT NULL,
        made INTEGER NOT NULL,
        waits INTEGER NOT NULL,
        accepted_at REAL NOT NULL,
        envelope BLOB NOT NULL,
        spec BLOB,
        n INTEGER NOT NULL,
        finished_at REAL,
        result BLOB,
        acked INTEGER NOT NULL DEFAULT 0,
        published INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (client, set_id)
    )""",
    "CREATE INDEX sets_unfinished ON sets (client) WHERE finished_at IS NULL",
    "ALTER TABLE jobs ADD COLUMN set_id TEXT",
    "ALTER TABLE jobs ADD COLUMN set_index INTEGER",
    "CREATE INDEX jobs_of_set ON jobs (client, set_id, state) WHERE set_id IS NOT NULL",
)

VERSION_7 = (
    # What a job gave, until its sinks have it: then only they are tried after a restart.
    "ALTER TABLE jobs ADD COLUMN undelivered BLOB",
    # Results on their way to somebody's server: `name` is a job's id or a set's.
    """CREATE TABLE webhooks (
        id TEXT PRIMARY KEY,
        client TEXT NOT NULL,
        name TEXT NOT NULL,
        url TEXT NOT NULL,
        own INTEGER NOT NULL,
        body BLOB NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due REAL NOT NULL
    )""",
    "CREATE INDEX webhooks_by_time ON webhooks (client, due)",
)

VERSION_8 = (
    # As of jobs: which bridge gave a set its outcome, and the number in its result where the set
    # was given a higher one since.
    "ALTER TABLE sets ADD COLUMN owner TEXT",
    "ALTER TABLE sets ADD COLUMN first_n INTEGER",
)

SCHEMA = (
    VERSION_1,
    VERSION_2,
    VERSION_3,
    VERSION_4,
    VERSION_5,
    VERSION_6,
    VERSION_7,
    VERSION_8,
)

# In types that both databases know. Each statement may be run again and again.
ADDED = (
    # What adapters keep, by kind and name: what was set in Home Assistant, the last pictures.
    """CREATE TABLE IF NOT EXISTS kept (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value BYTEA NOT NULL,
        PRIMARY KEY (kind, name)
    )""",
    # Of several bridges: the nodes and choices of each one's ComfyUIs. `seen` is when its bridge
    # was last a member, by the database's clock.
    """CREATE TABLE IF NOT EXISTS offers (
        comfyui TEXT PRIMARY KEY,
        member TEXT NOT NULL,
        digest TEXT NOT NULL,
        offer BYTEA NOT NULL,
        seen DOUBLE PRECISION NOT NULL
    )""",
    # For the sweep, by which it finds what has had its time.
    "CREATE INDEX IF NOT EXISTS jobs_with_result ON jobs (finished_at) WHERE result IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS uploads_by_end ON uploads (keep_until)",
    "CREATE INDEX IF NOT EXISTS sets_by_end ON sets (finished_at)",
    "CREATE INDEX IF NOT EXISTS sets_with_result ON sets (finished_at) WHERE result IS NOT NULL",
    # What a client has yet to ack, and what the broker may not have, are few of many.
    (
        "CREATE INDEX IF NOT EXISTS jobs_unacked ON jobs (client, n) "
        "WHERE acked = 0 AND finished_at IS NOT NULL"
    ),
    (
        "CREATE INDEX IF NOT EXISTS jobs_unpublished ON jobs (client) "
        "WHERE result IS NOT NULL AND acked = 0 AND published <> 1"
    ),
    (
        "CREATE INDEX IF NOT EXISTS sets_unacked ON sets (client) "
        "WHERE acked = 0 AND finished_at IS NOT NULL"
    ),
    (
        "CREATE INDEX IF NOT EXISTS sets_unpublished ON sets (client) "
        "WHERE result IS NOT NULL AND acked = 0 AND published <> 1"
    ),
)
