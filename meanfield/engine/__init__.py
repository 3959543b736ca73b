"""The compiled passes over particles, their noise, and the arithmetic with the same bits on every machine.

Arrays in, arrays out; nothing here knows of a problem or a run.

May import: errors, runtime.
"""
