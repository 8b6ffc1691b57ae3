from __future__ import annotations

import base64

from bridge.sinks import signature

KEY = bytes(range(32))


def test_a_signature_is_that_of_the_specification() -> None:
    """Its own example: the secret, the message and what they give."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    found = signature.signature(
        secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_receiver_checks_by_the_secret_that_it_was_given() -> None:
    secret = signature.secret_of(KEY, "alice")
    headers = signature.headers(KEY, "alice", "msg_1", 1700000000, b"{}")
    own = base64.b64decode(secret.removeprefix("whsec_"))
    assert headers["webhook-signature"] == signature.signature(own, "msg_1", 1700000000, b"{}")
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_1", "1700000000")


def test_each_client_has_a_secret_of_its_own() -> None:
    assert signature.secret_of(KEY, "alice") != signature.secret_of(KEY, "bob")
    assert signature.secret_of(KEY, "alice") != signature.secret_of(bytes(32), "alice")
