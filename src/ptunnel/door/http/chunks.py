"""The framing of a chunked body, checked before h11 reads it (RFC 9112 section 7.1).

h11 takes trailers whose lines end in LF or are folded, and control characters in the extensions.
"""

from __future__ import annotations

import re
from enum import Enum

from ptunnel.door.http.head import fieldOf
from ptunnel.door.http.pages import Objection

# Extensions are rare and short: some sign each chunk, in about 100 bytes.
MAX_LINE = 1024
# Trailers are a checksum or two.
MAX_TRAILERS = 8 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_FORBIDDEN = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
# They would change what a message is, or belong to this hop (RFC 9110 section 6.5.1).
_NO_TRAILERS = frozenset(
    [b"content-length", b"transfer-encoding", b"host", b"proxy-authorization", b"connection"]
)


class _At(Enum):
    """What comes next."""

    SIZE = "size"
    DATA = "data"
    END = "end"  # the CRLF behind a chunk's data
    TRAILERS = "trailers"
    OVER = "over"


_LIMITS = {_At.SIZE: MAX_LINE, _At.END: len(b"\r\n"), _At.TRAILERS: MAX_TRAILERS}


class ChunkGuard:
    """Looks at one body as it comes."""

    def __init__(self) -> None:
        self._at = _At.SIZE
        self._left = 0  # bytes of the chunk
        self._begun = b""  # of a line
        self._trailers = 0  # bytes of them

    def check(self, data: bytes) -> None:
        """Look at the next bytes. Those behind the body's end are not looked at.

        @raise Objection: if the framing is not exactly what the RFC has.
        """
        start, end = 0, len(data)
        while start < end and self._at is not _At.OVER:
            if self._at is _At.DATA:
                step = min(self._left, end - start)
                self._left -= step
                start += step
                if not self._left:
                    self._at = _At.END
                continue
            found = data.find(b"\n", start) + 1
            line = self._begun + data[start : found or end]
            if len(line) > _LIMITS[self._at]:
                raise Objection(400, "a chunk that is longer than its size, or a line too long")
            if not found:
                if self._at is _At.END and line != b"\r":
                    raise Objection(400, "a chunk that is longer than its size")
                self._begun = line
                return
            self._begun, start = b"", found
            self._take(line)

    def _take(self, line: bytes) -> None:
        if self._at is _At.TRAILERS:
            self._trailer(line)
        elif self._at is _At.END:
            if line != b"\r\n":
                raise Objection(400, "a chunk that is longer than its size")
            self._at = _At.SIZE
        else:
            match = _SIZE.fullmatch(line)
            if match is None:
                raise Objection(400, "a chunk whose size is none")
            self._left = int(match[1], 16)
            self._at = _At.DATA if self._left else _At.TRAILERS

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            raise Objection(431, f"trailers of more than {MAX_TRAILERS} bytes")
        if not line.endswith(b"\r\n") or _FORBIDDEN.search(line):
            raise Objection(400, "a control character, or a line without CR, among its trailers")
        if line == b"\r\n":
            self._at = _At.OVER
            return
        name, _ = fieldOf(line)
        if name.lower() in _NO_TRAILERS:
            raise Objection(400, "a trailer that may not be one")
