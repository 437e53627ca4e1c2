"""What a client asks of us before it is carried: who it is, and where to."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from ptunnel import causes
from ptunnel.causes import Cause

# What a name may consist of; it becomes a part of a request to a proxy.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
# The last label of what resolvers may read as an address, such as 127.1 or 0x7f000001.
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")


class Rejected(ValueError):
    """The client is not to be served. The text says why, and quotes nothing secret.

    @ivar answer: what it is to be sent before the connection is closed; may be b"".
    @ivar cause: one of L{ptunnel.causes}.
    """

    def __init__(
        self, why: str, answer: bytes = b"", cause: Cause = causes.CLIENT_PROTOCOL
    ) -> None:
        super().__init__(why)
        self.answer = answer
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Login:
    """The client has said who it is.

    @ivar password: not in the repr.
    """

    username: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Login({self.username!r}, ***)"


@dataclass(frozen=True, slots=True)
class Request:
    """The client asks for a target.

    @ivar host: an address without brackets, or a name that was not looked up; it fits into a
        request.
    """

    host: str
    port: int


@lru_cache(256)
def nameOf(data: bytes) -> str | None:
    """Return a name, or an address that was sent as one; None if it is neither."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return None
    if ":" not in text and not _NUMBER.fullmatch(text.removesuffix(".").rpartition(".")[2]):
        return text if _NAME.fullmatch(text) else None
    try:
        # A zone means nothing to others.
        return str(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        return None
