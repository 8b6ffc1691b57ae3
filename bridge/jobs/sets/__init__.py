"""Sets: many jobs that one request asked for, made a few at a time, with one outcome.

`bridge.contract.expansion` reads what a set is made of. Here `plan` is how that is kept, and what
each job is; `progress` decides how far a set is, and how many of its jobs may wait at a time;
`messages` are its status and result. These are pure. `driver` makes the jobs, and ends the set.
"""
