"""How a process computes: compiled code and its cache, threads and the BLAS's limit, MPI ranks, pools of processes.

One copy of each, shared by the engine and the kernels; nothing here knows what is computed.

May import: errors.
"""
