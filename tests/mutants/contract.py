"""Mutants of the contract: topics and links."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

CONTRACT: tuple[Mutant, ...] = (
    # The contract: topics and links.
    Mutant(
        name="foreign-reply-topic",
        file="bridge/contract/topics.py",
        old="return topic.startswith(prefix) and bool(rest)",
        new="return bool(rest)",
        guarantee="no Response Topic leads out of the client's own replies",
        tests=("tests/contract/test_topics.py",),
    ),
    Mutant(
        name="reply-topic-with-wildcard",
        file="bridge/contract/topics.py",
        old='and not set(rest) & set("+#$\\0")',
        new="",
        guarantee="a Response Topic has no wildcards",
        tests=("tests/contract/test_topics.py",),
    ),
    Mutant(
        name="ids-of-any-length",
        file="bridge/contract/topics.py",
        old='ID = re.compile(r"[A-Za-z0-9_-]{1,64}")',
        new='ID = re.compile(r"[A-Za-z0-9_-]+")',
        guarantee="ids have at most 64 characters",
        tests=("tests/contract/test_topics.py",),
    ),
    Mutant(
        name="id-with-a-dot",
        file="bridge/contract/topics.py",
        old='ID = re.compile(r"[A-Za-z0-9_-]{1,64}")',
        new='ID = re.compile(r"[.A-Za-z0-9_-]{1,64}")',
        guarantee="an id is no path: it has no dots",
        tests=("tests/contract/test_topics.py",),
    ),
    Mutant(
        name="trigger-on-own-topics",
        file="bridge/contract/topics.py",
        old='return topic_filter.split("/", maxsplit=1)[0] in ("+", "#", self.base)',
        new='return topic_filter.split("/", maxsplit=1)[0] == self.base',
        guarantee="the bridge does not set itself off by its own topics",
        tests=("tests/contract/test_topics.py", "tests/adapters/triggers/test_rules.py"),
    ),
    Mutant(
        name="wildcard-matches-sys",
        file="bridge/contract/topics.py",
        old='if topic.startswith("$") and wanted[0] in ("+", "#"):',
        new='if topic.startswith("$") and wanted[0] == "+":',
        guarantee="a client's wildcard does not reach the broker's own topics",
        tests=("tests/contract/test_topics.py",),
    ),
    Mutant(
        name="unsigned-link",
        file="bridge/contract/links.py",
        old="if len(token) > _LONGEST or not hmac.compare_digest(given, _signature(key, content)):",
        new="if len(token) > _LONGEST or not given:",
        guarantee="a link that was not signed with the bridge's key gives nothing",
        tests=("tests/contract/test_links.py",),
    ),
    Mutant(
        name="eternal-link",
        file="bridge/contract/links.py",
        old="if link.expires <= now:",
        new="if link.expires <= 0:",
        guarantee="links expire",
        tests=("tests/contract/test_links.py",),
    ),
    Mutant(
        name="clients-read-requests",
        file="bridge/contract/access.py",
        old='Grant("write", topics.request(USER, "#")),',
        new='Grant("readwrite", topics.request(USER, "#")),',
        guarantee="nobody but the bridge reads requests",
        tests=("tests/contract/test_access.py",),
    ),
)
