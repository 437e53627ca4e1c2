"""The heads of a proxy's answers to CONNECT: those of 1xx, and then that of the final answer.

They are read line by line as they come. What the header fields say does not matter here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timezone

from ptunnel import causes
from ptunnel.causes import Cause

# Real answers have a head of some hundred bytes. curl allows 300 KiB and 5,000 headers, HAProxy
# 15 KiB; a proxy that needs more than this is broken or hostile.
MAX_HEAD = 64 * 1024
MAX_HEADERS = 200
# A challenge of Negotiate or NTLM has some KiB at most, a real line of any other kind less.
MAX_LINE = 16 * 1024
# 100 and 102 may come many times (RFC 9110 section 15.2), but nobody sends more than a few.
MAX_INFORMATIONAL = 10

_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: [^\0\r\n]*)?\r?\n")
# A partial status line is valid if the rest of this template completes it.
_STATUS_TEMPLATE = b"HTTP/1.1 200\n"
# A reason phrase whose line has no end yet.
_REASON_BEGUN = re.compile(rb"[^\0\r\n]*\r?")

_DATE = re.compile(rb"(?i)\ndate:([^\r\n]*)")
_AUTHENTICATION_INFO = re.compile(rb"(?i)\nproxy-authentication-info:([^\r\n]*)")


class BadHead(Exception):
    """The bytes are not the head of an answer to CONNECT.

    @ivar what: what the proxy did, in words that follow its name.
    @ivar cause: one of L{ptunnel.causes}.
    """

    def __init__(self, what: str, cause: Cause = causes.BROKEN) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause


class HeadReader:
    """Reads the heads of the answers on one connection, in time linear in their bytes.

    @ivar status: the status of the final answer once its head is complete; until then 0.
    """

    status = 0
    _start = 0  # of the newest head
    _line = 0  # of the line that is being read
    _seen = 0  # the bytes before it are checked, so a drip costs no more than a stream
    _fields = 0
    _informational = 0

    def __init__(self, heard: Callable[[bytes], None] | None = None) -> None:
        """@param heard: called with each head as soon as it is complete, those of 1xx too."""
        self._heard = heard
        self._received = bytearray()

    @property
    def begun(self) -> bool:
        """True once a byte has come."""
        return bool(self._received)

    @property
    def head(self) -> bytes:
        """The complete lines of the newest head."""
        return bytes(self._received[self._start : self._line])

    @property
    def rest(self) -> bytes:
        """The bytes after those lines."""
        return bytes(self._received[self._line :])

    @property
    def date(self) -> datetime | None:
        """The time of the proxy's clock in its final answer (RFC 9110 section 6.6.1)."""
        match = _DATE.search(self.head) if self.status else None
        if match is None:
            return None
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(match[1].decode("ascii").strip())
        except Exception:  # it raises more than ValueError: OverflowError, TypeError
            return None
        return date if date.tzinfo else date.replace(tzinfo=timezone.utc)

    @property
    def authenticationInfo(self) -> bytes | None:
        """The value of Proxy-Authentication-Info in the final answer (RFC 7615 section 4)."""
        match = _AUTHENTICATION_INFO.search(self.head)
        return match[1].strip() if match else None

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; not to be called after it has returned True.

        @return: True once the head of the final answer is complete.
        @raise BadHead: at the first impossible byte, or beyond a limit.
        """
        received = self._received
        received += data
        line, seen = self._line, self._seen
        while end := received.find(b"\n", seen) + 1:
            if end > MAX_HEAD or end - line > MAX_LINE:
                raise self._tooLong(end)
            if line == self._start:
                if not _STATUS_LINE.fullmatch(received, line, end):
                    raise self._notHTTP()
            elif end - line > 2 or received[line] not in b"\r\n":
                self._checkField(seen, end)
            else:
                self._line = end
                if self._headEnded():
                    return True
            line = seen = end
        self._line = line
        self._checkUnfinished(seen)
        self._seen = len(received)
        return False

    def _checkField(self, seen: int, end: int) -> None:
        self._checkNul(seen, end)
        self._fields += 1
        if self._fields > MAX_HEADERS and self._received[self._start + 9] != ord("2"):
            raise BadHead(f"sent more than {MAX_HEADERS} header lines")

    def _checkUnfinished(self, seen: int) -> None:
        """Check the new bytes of a line whose end has not come yet."""
        received, line = self._received, self._line
        end = len(received)
        if end > MAX_HEAD or end - line > MAX_LINE:
            raise self._tooLong(end)
        if line != self._start:
            self._checkNul(seen, end)
        elif seen - line > len(_STATUS_TEMPLATE):
            if not _REASON_BEGUN.fullmatch(received, seen - 1):
                raise self._notHTTP()
        else:
            begun = bytes(received[line:])
            rest = b"\n" if begun.endswith(b"\r") else _STATUS_TEMPLATE[len(begun) :] or b"\n"
            if not _STATUS_LINE.fullmatch(begun + rest):
                raise self._notHTTP()

    def _checkNul(self, seen: int, end: int) -> None:
        if self._received.find(b"\0", seen, end) >= 0:
            raise BadHead("sent a NUL byte in the head of its answer")

    def _headEnded(self) -> bool:
        """Note the status of a complete head, or skip it. @return: True for the final answer's."""
        start = self._start
        if self._heard is not None:
            self._heard(self.head)
        status = int(self._received[start + 9 : start + 12])
        if status >= 200:
            self.status = status
            return True
        self._informational += 1
        if status == 101 or self._informational > MAX_INFORMATIONAL:
            what = "switched protocols" if status == 101 else "sent 1xx answers without end"
            raise BadHead(f"{what} instead of answering")
        self._start = self._line
        return False

    def _tooLong(self, end: int) -> BadHead:
        part, limit = ("head", MAX_HEAD) if end > MAX_HEAD else ("line", MAX_LINE)
        return BadHead(f"sent a {part} of more than {limit} bytes")

    def _notHTTP(self) -> BadHead:
        begun = bytes(self._received[self._start : self._start + 4])
        cause = causes.OTHER_SERVER
        if begun.startswith((b"\x15\x03", b"\x16\x03")):
            cause = causes.SPEAKS_TLS
        elif begun.startswith(b"SSH-"):
            cause = causes.SSH_SERVER
        return BadHead("does not answer as an HTTP proxy", cause)
