"""A run: its configuration, its trace, and the loop that steps, records and checkpoints.

May import: all folders above it.
"""
