"""What was said in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_NONE: Mapping[str, Any] = {}


class Said(NamedTuple):
    """A line of the log, of level notice or above.

    @ivar time: seconds since 1970.
    @ivar subject: its tunnel or proxy; "" for the service.
    @ivar fields: the same for machines, as in the JSON log (docs/logs.md).
    @ivar worker: the number of the worker that said it; None without workers.
    """

    time: float
    level: str
    subject: str
    text: str
    fields: Mapping[str, Any] = _NONE
    worker: int | None = None
