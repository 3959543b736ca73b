"""Files that survive: replaced whole, locked, checksummed; HDF5, tables, and the layout of a run file.

Knows arrays and text; what they mean is left to simulation.

May import: errors, runtime.
"""
