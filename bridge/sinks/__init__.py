"""Sinks: outputs delivered elsewhere before their result is published, and webhooks after it.

`bridge.contract.targets` reads where an output is to go. Here `schedule` decides what is tried
again and when, and `signature` signs: these are pure. `http` and `folder` bring bytes there,
`delivery` does it for all outputs of a job, and `webhooks` sends what the journal holds.
"""
