"""`python -m ptunnel` without the current folder on the module path, where Python puts it first: a
random.py there would run as whoever starts it. It takes effect when it is imported, so it comes
first.
"""

from __future__ import annotations

import os
import sys


def leave() -> None:
    """Take the current folder off the path, unless this package lies in it."""
    isModule = sys.argv[:1] == ["-m"] and "ptunnel" in sys.orig_argv  # it is being looked for
    isSafe = sys.flags.isolated or getattr(sys.flags, "safe_path", False)
    if not isModule or isSafe or not sys.path:
        return
    try:
        current = os.getcwd()
    except OSError:  # it has been removed
        return
    if sys.path[0] == current != os.path.dirname(os.path.dirname(__file__)):
        del sys.path[0]


leave()
