"""MQTT: requests from topics, answers and everything about jobs to topics.

In: `subscriber` keeps the connection that takes requests, `incoming` decides what becomes of each
message (pure), `last_values` caches topics that jobs may name as inputs.
Out: `encoder` makes packets of events by the table of channels (pure), `publisher` sends them,
`retained` and `retained_images` keep the sets of retained messages, `logtopic` publishes the log.
An `extension` is a feature that uses the same connection; `admin_commands` is one. In a cluster
`cluster_connection` is the one that stays. `reconnect` makes both again, `acl_probe` tries whether
the broker separates clients, `broker_address` reads the settings.
"""
