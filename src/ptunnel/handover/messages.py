"""What two processes say to each other when one takes the ports over: lines of JSON.

They may be of different versions of ptunnel. The new process asks, `{"hand-over": 1, ...}`; the old
one offers its ports, and sends a descriptor for each, and one for each lock, in that order; the new
one says which it listens with; the old one releases them, and the connection ends. Instead of any
answer there may be an error. A key that is not known is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptunnel._version import __version__
from ptunnel.errors import ListenError
from ptunnel.text import printable

# The version of all this.
VERSION = 1
# A longer line is no message of ours. A port takes some hundred bytes at most.
MAX_LINE = 1 << 20


class NoHandOver(ListenError):
    """Why no port is taken over: a mistake or a shortage here or there."""


@dataclass(frozen=True, slots=True)
class Ask:
    """The question of the new process."""

    pid: int
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Offer:
    """The ports of the old process.

    @ivar ports: the key of each, and whether a lock comes with it.
    """

    pid: int
    version: str
    ports: Sequence[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class Listening:
    """That the new process accepts clients.

    @ivar keys: those of the ports that it has taken.
    """

    pid: int
    keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Released:
    """That the old process accepts clients no more."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why there is no hand-over."""

    why: str


Message = Ask | Offer | Listening | Released | Refused


def written(message: Message) -> bytes:
    """Return a message as a line."""
    values: dict[str, Any]
    if isinstance(message, Ask):
        values = {"hand-over": VERSION, "pid": message.pid, "version": message.version}
    elif isinstance(message, Offer):
        ports = [{"key": key, "lock": hasLock} for key, hasLock in message.ports]
        values = {"pid": message.pid, "version": message.version, "ports": ports}
    elif isinstance(message, Listening):
        values = {"pid": message.pid, "listening": list(message.keys)}
    elif isinstance(message, Released):
        values = {"released": True}
    else:
        values = {"error": message.why}
    return json.dumps(values).encode() + b"\n"


def read(line: bytes) -> Message:
    """@raise NoHandOver: for what is no message, or one of another version."""
    try:
        values = json.loads(line)
        return _message(values)
    except (ValueError, TypeError, KeyError, RecursionError):
        said = printable(line[:80].decode("utf-8", "replace"))
        raise NoHandOver(f"it says what is no message of a hand-over: {said}") from None


def _message(values: dict[str, Any]) -> Message:
    if "error" in values:
        return Refused(printable(_text(values["error"])))
    if "hand-over" in values:
        if values["hand-over"] != VERSION:
            what = f"version {values['hand-over']!r} of the hand-over is asked for"
            raise NoHandOver(f"{printable(what)}, and this is {VERSION}")
        return Ask(_number(values["pid"]), printable(_text(values["version"])))
    if "ports" in values:
        ports = [(_text(port["key"]), _boolean(port["lock"])) for port in values["ports"]]
        return Offer(_number(values["pid"]), printable(_text(values["version"])), ports)
    if "listening" in values:
        return Listening(_number(values["pid"]), list(map(_text, values["listening"])))
    if values["released"] is not True:
        raise ValueError
    return Released()


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value
