"""Mutants of sinks: nothing inward, nothing lost, nobody slowed, everything reported."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

SINKS: tuple[Mutant, ...] = (
    Mutant(
        name="sinks-inward",
        file="bridge/sinks/http.py",
        old="guarded_session(checked_host(at, reach), reach) as session,",
        new="aiohttp.ClientSession() as session,",
        guarantee="no output is delivered to a host inside that the operator has not named",
        tests=("tests/sinks/test_http.py",),
    ),
    Mutant(
        name="sinks-redirected",
        file="bridge/sinks/http.py",
        old="allow_redirects=False,",
        new="allow_redirects=True,",
        guarantee="no redirect of a sink is followed",
        tests=("tests/sinks/test_http.py",),
    ),
    Mutant(
        name="sinks-without-right",
        file="bridge/requests/sinks.py",
        old="if sink.own:",
        new="if True:",
        guarantee="a client delivers where its rights say",
        tests=("tests/requests/test_sinks.py",),
    ),
    Mutant(
        name="sinks-through-links",
        file="bridge/sinks/folder.py",
        old="if not path.parent.resolve().is_relative_to(folder.resolve()):",
        new="if False:",
        guarantee="no file is delivered outside of its folder",
        tests=("tests/sinks/test_folder.py",),
    ),
    Mutant(
        name="expired-urls-again",
        file="bridge/sinks/schedule.py",
        old="passes = status in _PASSING",
        new="passes = True",
        guarantee="a presigned URL that has expired is reported at once",
        tests=("tests/sinks/test_schedule.py",),
    ),
    Mutant(
        name="undelivered-forgotten",
        file="bridge/jobs/runner.py",
        old="if self._delivery.has_sinks(job) and await self._resumed(job, plan):",
        new="if False:",
        guarantee="a bridge that dies while it delivers continues with the sinks, not with ComfyUI",
        tests=("tests/jobs/test_output_delivery.py",),
    ),
    Mutant(
        name="undelivered-swept",
        file="bridge/jobs/journal/writes.py",
        old="                db.execute(queries.KEEP_MEDIA, (*key, output.sha256))\n",
        new="",
        guarantee="what is to be delivered is not swept before it is",
        tests=("tests/jobs/test_output_delivery.py",),
    ),
    Mutant(
        name="webhooks-unwritten",
        file="bridge/sinks/webhooks.py",
        old="        await webhooks.postpone(hook, self._journal.clock.now() + pause_s)",
        new="        await webhooks.remove(hook.id)",
        guarantee="a webhook that is refused is sent again",
        tests=("tests/sinks/test_webhooks.py",),
    ),
    Mutant(
        name="webhooks-of-one-secret",
        file="bridge/sinks/signature.py",
        old='b"comfy2mqtt webhook\\0" + client.encode()',
        new='b"comfy2mqtt webhook\\0"',
        guarantee="who receives one client's webhooks cannot sign another's",
        tests=("tests/sinks/test_signature.py",),
    ),
    Mutant(
        name="sinks-not-shared",
        file="bridge/sinks/delivery.py",
        old="slots = self._slots.setdefault(client, asyncio.Semaphore(AT_ONCE))",
        new='slots = self._slots.setdefault("", asyncio.Semaphore(AT_ONCE))',
        guarantee="a client's server that hangs blocks no other client's deliveries",
        tests=("tests/sinks/test_delivery.py",),
    ),
    Mutant(
        name="a-database-away-costs-a-delivery",
        file="bridge/jobs/output_delivery.py",
        old="data = await until_on_disk(lambda: self._journal.blob(sha256))",
        new="data = await self._journal.blob(sha256)",
        guarantee="a database that restarts costs no delivery",
        tests=("tests/jobs/test_output_delivery.py",),
    ),
)
