"""What computed a run: the version of its bits, the software, and the machine. What is not known is "unknown"."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from collections.abc import Callable

from .. import __version__
from ..errors import printable

__all__ = ["BITS", "FIRST_BITS", "MACHINE", "describe", "describe_versions"]

# The version of a run's bits, that is of what the same configuration and data give: to be raised with every change that
# moves a bit of a state or of a trace.
BITS = 8
FIRST_BITS = 1  # of every run file that does not name its own
PACKAGES = ("numpy", "numba", "llvmlite", "h5py")
MACHINE = ("processor", "processor_family", "processor_model", "libc", "blas", "numpy_simd")
_CPUINFO = "/proc/cpuinfo"


def describe_versions() -> dict[str, str | int]:
    """Versions of Python, meanfield, `PACKAGES` and the bits, and the processor's name: what stands under a table."""
    return dict(_versions())


def describe() -> dict[str, str | int]:
    """All that a run file records of what computed it: `describe_versions`, and the rest of `MACHINE`.

    The libraries behind it, SIMD extensions and BLAS, are those that this process uses now. Never raises.
    """
    return {**_versions(), **_machine()}


@functools.cache
def _versions() -> dict[str, str | int]:
    packages = {name: _known(functools.partial(importlib.metadata.version, name)) for name in PACKAGES}
    own = {"python": platform.python_version(), "meanfield": __version__}
    return {**own, **packages, "bits": BITS, "processor": _known(_processor)}


@functools.cache
def _machine() -> dict[str, str]:
    found = (_processor, _processor_family, _processor_model, _libc, _blas, _numpy_simd)
    return {name: _known(find) for name, find in zip(MACHINE, found, strict=True)}


def _known(find: Callable[[], str]) -> str:
    """What is found, as one line, or "unknown": a run must not fail for want of a note on it."""
    try:
        return printable(find()) or "unknown"
    except Exception:
        return "unknown"


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor, nothing elsewhere."""
    found: dict[str, str] = {}
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():
                    break
                name, _, value = line.partition(":")
                found[name.strip()] = value.strip()
    except OSError:
        pass
    return found


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _processor_family() -> str:
    """Such as "GenuineIntel 6", or on ARM "implementer 0x41"."""
    info = _cpuinfo()
    if "cpu family" in info:
        return f"{info['vendor_id']} {info['cpu family']}"
    return f"implementer {info['CPU implementer']}"


def _processor_model() -> str:
    """Its number within the family, such as "167", or on ARM "part 0xd0c"."""
    info = _cpuinfo()
    return info["model"] if "model" in info else f"part {info['CPU part']}"


def _libc() -> str:
    return " ".join(platform.libc_ver()).strip()


def _blas() -> str:
    """Such as "openblas 0.3.30, kernel SkylakeX"; NumPy's and SciPy's, sorted, where they are not the same.

    Sorted, because the order in which they were loaded differs between processes.
    """
    import scipy.linalg  # noqa: F401  # else its library would be seen or not by what was imported before
    from threadpoolctl import threadpool_info

    found = {
        f"{one['internal_api']} {one['version'] or 'unknown'}, kernel {one.get('architecture', 'unknown')}"
        for one in threadpool_info()
        if one["user_api"] == "blas"
    }
    return " and ".join(sorted(found))


def _numpy_simd() -> str:
    """The extensions that NumPy was built for, and of those that it chooses from at run time the ones in use.

    What NPY_DISABLE_CPU_FEATURES takes away is not in use.
    """
    import numpy as np

    simd = np.show_config(mode="dicts")["SIMD Extensions"]  # type: ignore[call-overload, index]
    return f"baseline {' '.join(simd.get('baseline', ['none']))}, found {' '.join(simd.get('found', ['none']))}"
