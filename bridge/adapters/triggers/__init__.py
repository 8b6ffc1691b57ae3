"""Triggers: jobs that are started by messages of devices which cannot choose our topics.

`rules` compiles the operator's tables and decides which message starts which job; pure. `adapter`
takes the messages and submits the jobs.
"""
