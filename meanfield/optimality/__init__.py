"""How far from the global minimum: certificates, and references that are found without particles.

May import: what is minimized and the engine; no dynamics, no run.
"""
