"""Mutants of what the command line, the client and the first login promise a user."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

FIRST_USE: tuple[Mutant, ...] = (
    Mutant(
        name="request-outlives-its-sender",
        file="bridge/client/session.py",
        old="    if until is None:\n        return None\n",
        new="    if until is None or until:\n        return None\n",
        guarantee="a request that is given up is run by no bridge that comes back later",
        tests=("tests/cli/test_outputs.py",),
    ),
    Mutant(
        name="job-for-an-unusable-place",
        file="bridge/cli/run.py",
        old="    destination_of(wanted.output).check()\n",
        new="",
        guarantee="a job is not sent where what it gives cannot be written",
        tests=("tests/cli/test_outputs.py", "tests/cli/test_mistakes.py"),
    ),
    Mutant(
        name="password-for-another-host",
        file="bridge/cli/options.py",
        old='flags.host.strip("[]"), None, None, None',
        new='flags.host.strip("[]"), None, parts.username, parts.password',
        guarantee="a broker that --host names is not sent the password of another",
        tests=("tests/cli/test_options.py",),
    ),
    Mutant(
        name="first-login-again",
        file="bridge/adapters/web/first_login.py",
        old="            self._token = None\n            self._keyring",
        new="            self._keyring",
        guarantee="the link of the first login is good once",
        tests=("tests/adapters/web/test_first_login.py",),
    ),
    Mutant(
        name="first-login-from-anywhere",
        file="bridge/adapters/web/first_login.py",
        old=" or not _is_loopback(address):",
        new=":",
        guarantee="the link of the first login is good on the bridge's machine alone",
        tests=("tests/adapters/web/test_first_login.py",),
    ),
    Mutant(
        name="backup-for-everybodys-eyes",
        file="bridge/jobs/journal/backup.py",
        old="replacing(target, mode=PRIVATE)",
        new="replacing(target)",
        guarantee="a backup, which holds a secret, is for its owner's eyes",
        tests=("tests/jobs/test_backup.py",),
    ),
)
