"""A run: its configuration, its trace, and the loop that steps, records and checkpoints.

May import: all folders above it. A newcomer reads `loop`; `new_run` is where objects or a configuration become a run.
"""
