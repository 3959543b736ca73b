"""How much memory there is to be had."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def available_memory() -> int:
    """Bytes that this process can still take: what the machine has available, or its container allows.

    Returns
    -------
    int
        Where the system does not tell what is available, half of what there is.

    Examples
    --------
    >>> from meanfield.kernels.memory import available_memory
    >>> available_memory() > 2**20
    True
    """
    page = os.sysconf("SC_PAGE_SIZE")
    found = [os.sysconf("SC_PHYS_PAGES") * page // 2]
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
        found = [int(line.split()[1]) * 1024]
    for limit in _LIMITS:
        with suppress(OSError, ValueError):  # ValueError: "max"
            taken = int(Path("/proc/self/statm").read_text().split()[1]) * page
            found.append(max(int(Path(limit).read_text()) - taken, 0))
    return min(found)
