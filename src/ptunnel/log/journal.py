"""Whether a stream leads to systemd's journal, and the prefixes by which that reads levels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# Of syslog(3), by the names of levels here and in twisted.logger.
_PRIORITIES = {
    "critical": 2,
    "error": 3,
    "warning": 4,
    "notice": 5,
    "info": 6,
    "debug": 7,
}


_LEVELS = {str(number): level for level, number in _PRIORITIES.items()}


def isJournal(stream: Any, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is the one that systemd has connected to the journal.

    Programs inherit JOURNAL_STREAM (systemd.exec(5)) where their output has been led elsewhere, so
    its device and inode are compared.
    """
    device, colon, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    if not colon:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):  # closed, or not a file
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def forJournal(level: str, text: str) -> str:
    """Return a text with its level in front of each line; the journal takes each as an entry.

    @param level: "critical", "error", "warning", "notice", "info" or "debug".
    """
    prefix = f"<{_PRIORITIES[level]}>"
    return "\n".join(prefix + line for line in text.split("\n"))


def fromJournal(line: str) -> tuple[str, str]:
    """Return the level and the text of a line that L{forJournal} has made; "info" without one."""
    found = re.match(r"<([2-7])>", line)
    return (_LEVELS[found[1]], line[found.end() :]) if found else ("info", line)
