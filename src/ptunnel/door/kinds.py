"""Which protocol a client of a door speaks, by its first byte."""

from __future__ import annotations

from enum import Enum

from ptunnel.net.asked import Rejected


class Kind(Enum):
    """What a door speaks."""

    SOCKS = "socks"
    HTTP = "http"


_SOCKS = (4, 5)
# The first byte of a handshake record (RFC 8446 section 5.1).
TLS = 0x16


def kindOf(first: int) -> Kind:
    """Return the protocol that begins with this byte.

    @raise Rejected: if no door speaks it.
    """
    if first in _SOCKS:
        return Kind.SOCKS
    if chr(first).isascii() and chr(first).isalpha():
        return Kind.HTTP
    if first == TLS:
        raise Rejected("TLS: to a door the proxy's scheme is http:// or socks5h://")
    raise Rejected("neither HTTP nor SOCKS")
