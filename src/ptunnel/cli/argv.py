"""Hides passwords from the process list, which every user of the machine can read.

Linux shows the arguments from the memory of the process, so they are overwritten there. On other
systems, and before this runs, they can be seen.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

# Positions in /proc/PID/stat after the name (proc_pid_stat(5): fields 48 and 49).
_ARG_START, _ARG_END = 45, 46


def hideArguments(secrets: Iterable[str]) -> None:
    """Overwrite these texts wherever they occur in the arguments of this process."""
    secrets = [secret for secret in secrets if secret]
    if not secrets:
        return
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        if 0 < start < end:
            _overwrite(start, end - start, secrets)


def _overwrite(start: int, size: int, secrets: Iterable[str]) -> None:
    import ctypes  # slow to import, and rarely needed

    area = (ctypes.c_char * size).from_address(start)
    for secret in map(os.fsencode, secrets):
        position = area.raw.find(secret)
        while position >= 0:
            ctypes.memset(start + position, ord("*"), len(secret))
            position = area.raw.find(secret, position + len(secret))
