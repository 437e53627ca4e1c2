"""Bytes and durations in a few characters, for people."""

from __future__ import annotations

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB")
_LARGEST = 1e24
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def size(count: float | None) -> str:
    """Return a number of bytes, in units of 1000: `512 B`, `3.4 MB`, `120 GB`; "" of None."""
    if count is None:
        return ""
    if count >= _LARGEST:
        return "very many"
    for unit in _UNITS:
        if unit == "B" and count < 1000:
            return f"{count:.0f} B"
        if count < 9.95:
            return f"{count:.1f} {unit}"
        if count < 999.5:
            return f"{count:.0f} {unit}"
        count /= 1000
    return "very many"


def rate(count: float | None) -> str:
    """Return a number of bytes a second; "" of None."""
    return "" if count is None else f"{size(count)}/s"


def span(seconds: float | None) -> str:
    """Return a duration, in its two largest units: `12 s`, `4 min 5 s`, `3 d 4 h`; "" of None."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def latency(seconds: float | None) -> str:
    """Return a short duration: `3 ms`, `2.5 s`; "" of None."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < _HOUR else span(seconds)
