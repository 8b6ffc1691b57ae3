"""The MQTT door: requests from topics, answers and everything about jobs to topics.

`door` keeps the connection and takes requests in, `publisher` publishes what `encoder` makes of
events, `retained` keeps what the broker holds for those who come later.
"""
