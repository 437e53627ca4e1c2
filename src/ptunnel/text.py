"""Text from elsewhere made printable, so that it is one line of a log and moves no cursor."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    """The text with its control characters escaped, such as `\\n` or `\\x1b`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def flat(text: str) -> str:
    """The text as words with one space between them, its control characters spaces too."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def dotted(data: Iterable[int]) -> str:
    """Bytes that may be binary, as hexdump shows them: a dot for all but printable ASCII."""
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
