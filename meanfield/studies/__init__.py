"""Many runs: sweeps of cells, network against kernel, deeper networks.

May import: all folders above it, and kernels.
"""
