"""Triggers: jobs that messages of other devices start, which cannot choose our topics.

`rules` reads the operator's tables and says what a message means; pure. `door` takes the messages
and hands in the jobs.
"""
