"""Where inputs and labels come from: generators, scikit-learn's sets, users' files.

May import: errors, arrays, runtime, engine, losses.
"""
