#!/usr/bin/env python3
"""Write the examples of the present run format, runs of 12 steps, and of each in JSON what it holds: v<N>.h5, as most
are; v<N>-kinetic.h5, whose particles have velocities; v<N>-parts.h5, with its data and its trace in parts beside it;
v<N>-snapshots.h5, the same with snapshots.

To be run once, when a format is new; the files then stay as they are for good, since they stand for users' files.
"""

import json
import sys
from pathlib import Path

import h5py

sys.path.insert(0, str(Path(__file__).parents[1]))
from faults import SETTINGS, ensemble, problem

from meanfield import simulate
from meanfield.dynamics import KineticLangevin
from meanfield.storage import parts, run_file

HERE = Path(__file__).parent


def make(kind, dynamics=None, **settings):
    target = HERE / f"v{run_file.FORMAT_VERSION}{kind}.h5"
    if target.exists():
        sys.exit(f"{target} is there already, and must stay as it is")
    simulate(problem(n=6, d=3), ensemble(m=10, d=3), dynamics, steps=12, out=target, **SETTINGS, **settings)
    Path(f"{target}.prev").unlink()
    with h5py.File(target) as file:  # by another reader than the engine's
        arrays = {
            name: [float(v).hex() for v in file["ensemble"][name][...].ravel()]
            for name in file["ensemble"]
            if name.endswith(("u", "w"))
        }
        held = {
            "step": int(file["ensemble/step"][()]),
            "time": float(file["ensemble/time"][()]).hex(),
            **arrays,
            "trace": {name: [float(v).hex() for v in column[...]] for name, column in file["trace"].items()},
            "snapshots": {
                name: [float(v).hex() for v in array[...].ravel()] for name, array in file.get("snapshots", {}).items()
            },
        }
    target.with_suffix(".json").write_text(json.dumps(held, indent=1) + "\n")


make("")
make("-kinetic", KineticLangevin())
parts.LARGE = 400
make("-parts")
make("-snapshots", record={"snapshots": 4})
