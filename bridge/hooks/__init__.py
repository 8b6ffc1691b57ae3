"""One GPU for all: hooks around the bridge's use of it, and a lock that other programs ask for.

What is decided is pure: `machine.py` (one hook), `lock.py` (one GPU) and `coordinator.py` (all of
them together). `calls.py` and `presets.py` are what a hook does; `driver.py` executes what is
decided.
"""
