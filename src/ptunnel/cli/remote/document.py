"""A JSON document of whoever has answered, read without trust: each value has its type, or none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ptunnel.errors import PtunnelError
from ptunnel.text import printable

# Characters of a text. A line of the log may have some hundred.
_LONGEST = 2000
# Whole numbers from here on have their power of ten only.
_MANY = 1e15


def dumped(document: Any) -> str:
    """Return a document as JSON text, in ASCII.

    @raise PtunnelError: if it cannot be written.
    """
    try:
        return json.dumps(document, indent=2)
    except RecursionError:
        raise PtunnelError("the answer cannot be printed: it is nested too deeply") from None


def _whole(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value < _MANY else f"{value:.0e}"


class Node:
    """An object of the document. What is not there, or of another type, is empty or None."""

    def __init__(self, value: Any) -> None:
        self._value: Mapping[str, Any] = value if isinstance(value, dict) else {}

    def text(self, key: str) -> str:
        """Return a text with its control characters escaped."""
        value = self._value.get(key)
        return printable(value[:_LONGEST]) if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        """Return a finite number that is not negative."""
        value = self._value.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            value = float(value)
        except OverflowError:
            return None
        return value if math.isfinite(value) and value >= 0 else None

    def count(self, key: str) -> str:
        """Return a whole number as text; "" if it is none."""
        return _whole(self.number(key))

    def total(self, key: str) -> str:
        """Return the sum of the numbers in an object, as text."""
        inner = self.node(key)
        return _whole(sum(inner.number(name) or 0 for name in inner._value))

    def flag(self, key: str) -> bool | None:
        value = self._value.get(key)
        return value if isinstance(value, bool) else None

    def node(self, key: str) -> Node:
        return Node(self._value.get(key))

    def nodes(self, key: str) -> list[Node]:
        value = self._value.get(key)
        return [Node(each) for each in value] if isinstance(value, list) else []

    def texts(self, key: str) -> list[str]:
        value = self._value.get(key)
        items = value if isinstance(value, list) else []
        return [printable(each[:_LONGEST]) for each in items if isinstance(each, str)]
