"""How a process computes: compiled code and its cache, threads, the ranks of an MPI job, pools of processes.

May import: errors.
"""
