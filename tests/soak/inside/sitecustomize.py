"""On the path of the ptunnel of a soak, and so of its workers: a signal lets it write down what it
holds. Nothing of ptunnel knows of it, and nothing here changes what ptunnel does.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from collections import Counter
from typing import Any

ASK = signal.SIGRTMIN + 7


def _name(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', thing)}"


def _ours(kind: type) -> bool:
    module = getattr(kind, "__module__", None)
    return isinstance(module, str) and module.startswith(("ptunnel", "twisted", "OpenSSL"))


def _answer(*_: object) -> None:
    gc.collect()
    things = gc.get_objects()
    kinds = Counter(_name(type(thing)) for thing in things if _ours(type(thing)))
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    timers = Counter(_name(call.func) for call in reactor.getDelayedCalls()) if reactor else {}
    swept = sum(
        len(thing._members)
        for thing in things
        if _ours(type(thing)) and type(thing).__name__ == "Sweep"
    )
    path = f"{os.environ['PTUNNEL_SOAK']}.{os.getpid()}"
    with open(f"{path}.part", "w") as file:
        json.dump(
            {
                "timers": timers,
                "swept": swept,
                "kinds": kinds,
                "objects": len(things),
                "threads": threading.active_count(),
            },
            file,
        )
    os.replace(f"{path}.part", path)


signal.signal(ASK, _answer)
