#!/usr/bin/env python3
"""Write the example of the present run format: v<N>.h5, a run of 12 steps, and v<N>.json, what it holds.

To be run once, when a format is new; the files then stay as they are for good, since they stand for users' files.
"""

import json
import sys
from pathlib import Path

import h5py

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults import SETTINGS, ensemble, problem

from meanfield import simulate
from meanfield.storage import run_file

here = Path(__file__).parent
target = here / f"v{run_file.FORMAT_VERSION}.h5"
if target.exists():
    sys.exit(f"{target} is there already, and must stay as it is")
start = ensemble(m=10, d=3)
simulate(problem(n=6, d=3), start, steps=12, out=target, **SETTINGS)
for name in here.glob("*.prev"):
    name.unlink()
with h5py.File(target) as file:  # by another reader than the engine's
    held = {
        "step": int(file["ensemble/step"][()]),
        "time": float(file["ensemble/time"][()]).hex(),
        "u": [float(value).hex() for value in file["ensemble/u"][...].ravel()],
        "w": [float(value).hex() for value in file["ensemble/w"][...].ravel()],
        "trace": {name: [float(v).hex() for v in column[...]] for name, column in file["trace"].items()},
    }
target.with_suffix(".json").write_text(json.dumps(held, indent=1) + "\n")
