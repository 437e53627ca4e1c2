"""Detects that a file has changed, without reading it."""

from __future__ import annotations

import os

Stamp = tuple[int, int, int]


def stampOf(path: str) -> Stamp | None:
    """Return a file's modification time (ns), size (bytes) and inode, which differ after a change.

    @return: None if the file is missing or cannot be looked at.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
