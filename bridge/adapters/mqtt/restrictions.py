"""The MQTT 5 features that a broker lacks, by its CONNACK, and the consequences. Pure.

Each restriction has a stable word, which `bridge/info` publishes, and a sentence for people.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.mqtt import Connack, Version

# Below this many bytes not every message of the bridge fits, however much is left out.
SMALL_PACKET = 4096
# With fewer messages on the way at once than this, a burst of results takes long.
SMALL_WINDOW = 8


def restrictions(
    connack: Connack, version: Version, *, session_s: float, packet_limit: int | None
) -> Mapping[str, str]:
    """Return the restrictions of a connection: a sentence by word.

    `session_s` is for how many seconds the broker was asked to keep the session; `packet_limit`
    is what holds for packets, in bytes.
    """
    found = {}
    if version != "5":
        found["mqtt"] = "it speaks MQTT 3.1.1 only: no message expires, and no group of bridges"
    if not connack.retain_available:
        found["retain"] = (
            "it retains nothing: who comes later asks for the state and the workflows by the verb "
            "`workflows`, and displays are empty until the next picture"
        )
    if connack.maximum_qos < 1:
        found["qos"] = (
            "it has QoS 0 only: a request or a result may get lost on the way, and requests that "
            "are sent while the bridge is away do"
        )
    if not connack.wildcards_available:
        found["wildcards"] = (
            "it takes no subscriptions with wildcards, and a bridge cannot work without: requests "
            "of all clients are one such subscription"
        )
    if packet_limit is not None and packet_limit < SMALL_PACKET:
        found["packet"] = (
            f"its packets have {packet_limit} bytes at most: what is longer is cut, or fetched in "
            "many parts"
        )
    if connack.receive_maximum < SMALL_WINDOW:
        found["window"] = (
            f"it takes {connack.receive_maximum} messages at a time: a burst of results leaves "
            "slowly"
        )
    kept = connack.session_expiry
    if kept is not None and kept < session_s:
        found["session"] = (
            f"it keeps the session for {kept} s, not {session_s:.0f} s: requests that are sent "
            "while the bridge is away for longer are lost"
        )
    return found
