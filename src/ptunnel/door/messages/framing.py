"""The framing of a body that is sent on (RFC 9112 section 6)."""

from __future__ import annotations

from enum import Enum

from ptunnel.door.messages.fields import Fields


class Framing(Enum):
    """How the receiver of a body knows where it ends."""

    NONE = "none"  # there is no body
    LENGTH = "length"  # Content-Length
    CHUNKED = "chunked"
    CLOSE = "close"  # the end of the connection: for clients that know nothing better

    def encode(self, data: bytes) -> bytes:
        """Return a part of the body as it is sent. @param data: not empty."""
        if self is Framing.CHUNKED:
            return b"%x\r\n%b\r\n" % (len(data), data)
        return data

    def finish(self, trailers: Fields = ()) -> bytes:
        """Return what ends the body. @param trailers: sent in chunks only."""
        if self is not Framing.CHUNKED:
            return b""
        lines = [b"%b: %b\r\n" % each for each in trailers]
        return b"".join([b"0\r\n", *lines, b"\r\n"])
