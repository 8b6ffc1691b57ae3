"""The name of a broker's product, by its `$SYS` topics or its address. Pure."""

from __future__ import annotations

from collections.abc import Mapping

# What brokers publish of themselves: mosquitto; EMQX and NanoMQ; VerneMQ.
SYSTEM_FILTERS = ("$SYS/broker/version", "$SYS/brokers/+/version", "$SYS/+/uptime")

# Clouds publish nothing of themselves, and are known by their names.
_CLOUDS = (
    (".amazonaws.com", "AWS IoT Core"),
    (".eventgrid.azure.net", "Azure Event Grid"),
    (".azure-devices.net", "Azure IoT Hub"),
    (".emqxsl.com", "EMQX Serverless"),
    (".emqx.cloud", "EMQX Cloud"),
    (".hivemq.cloud", "HiveMQ Cloud"),
    (".cloudamqp.com", "RabbitMQ at CloudAMQP"),
    (".cedalo.cloud", "Pro Mosquitto at Cedalo"),
)


def name_of(host: str, system: Mapping[str, bytes]) -> str | None:
    """Return a broker's name, with its version if it is known; None: it cannot be known.

    `system` are the messages at `SYSTEM_FILTERS`, by topic.
    """
    for topic, payload in system.items():
        text = payload.decode(errors="replace").strip()[:80]
        match topic.split("/"):
            case ["$SYS", "broker", "version"]:
                # "mosquitto version 2.0.11"; others give a bare number.
                return text.replace(" version ", " ") or None
            case ["$SYS", "brokers", node, "version"]:
                maker = "NanoMQ" if "nanomq" in node.lower() else "EMQX"
                return f"{maker} {text}"
            case ["$SYS", node, "uptime"] if "vernemq" in node.lower():
                return "VerneMQ"
    return next((name for end, name in _CLOUDS if host.lower().endswith(end)), None)
