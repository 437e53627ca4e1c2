"""CONNECT as bytes in, bytes out (RFC 9110 section 9.3.6), without a reactor.

A 2xx answer means one thing, whatever its headers say, so its head is only checked line by line.
Every other answer is read by h11, with its framing, to say in words why there is no tunnel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.connect.framing import goesOn, isReusable, neededFields, offered, reader
from ptunnel.errors import (
    CredentialsRefused,
    ProxyFailed,
    ProxyRefused,
    ProxyTimeout,
    TunnelError,
)
from ptunnel.net.addresses import hostPort

if TYPE_CHECKING:
    import h11

    from ptunnel.connect.refusals import Asked

# Real answers have a head of some hundred bytes. curl allows 300 KiB and 5,000 headers, HAProxy
# 15 KiB; a proxy that needs more than this is broken or hostile.
MAX_HEAD = 64 * 1024
MAX_HEADERS = 200
# A challenge of Negotiate or NTLM has some KiB at most, a real line of any other kind less.
MAX_LINE = 16 * 1024
# 100 and 102 may come many times (RFC 9110 section 15.2), but nobody sends more than a few.
MAX_INFORMATIONAL = 10
# How much of a 407's body is read to keep its connection; beyond it a new one is cheaper.
MAX_DRAIN = 256 * 1024
# The same in chunks. Real ones have some KiB; each costs as much as many bytes.
MAX_CHUNKS = 4096

_STATUS_LINE = re.compile(rb"HTTP/1\.[0-9] [1-9][0-9][0-9](?: [^\0\r\n]*)?\r?\n")
# A partial status line is valid if the rest of this template completes it.
_STATUS_TEMPLATE = b"HTTP/1.1 200\n"
# What may come of a reason before the line's end has come.
_REASON_BEGUN = re.compile(rb"[^\0\r\n]*\r?")

_DATE = re.compile(rb"(?i)\ndate:([^\r\n]*)")
_AUTHENTICATION_INFO = re.compile(rb"(?i)\nproxy-authentication-info:([^\r\n]*)")


@dataclass(frozen=True, slots=True)
class Established:
    """The tunnel stands; `leftover` came behind the answer and is the tunnel's own first bytes."""

    leftover: bytes


@dataclass(frozen=True, slots=True)
class Challenged:
    """407, and somebody may be able to answer it.

    @ivar values: those of its Proxy-Authenticate fields (RFC 9110 section 11.7.1).
    @ivar reusable: whether the answer may go on the same connection.
    @ivar refusal: the failure that it is where nobody can.
    @ivar midway: whether it goes on with what was begun on this connection, which is to be kept
        unless it really ends.
    """

    values: tuple[bytes, ...]
    reusable: bool
    refusal: CredentialsRefused
    midway: bool = False


class Handshake:
    """The proxy's side of one CONNECT on one connection, from the first byte of its answer.

    @ivar refusal: the failure that a refused CONNECT will be, as soon as the status is known and
        while the body's beginning is still awaited; else None.
    @ivar challenged: the same for a 407 that may be answered.
    @ivar status: that of the final answer, as soon as its head has come; until then 0.
    """

    __slots__ = (
        "_answerable",
        "_authenticated",
        "_body",
        "_chunks",
        "_drained",
        "_fields",
        "_head",
        "_heard",
        "_hop",
        "_host",
        "_informational",
        "_line",
        "_midway",
        "_offers",
        "_port",
        "_reader",
        "_room",
        "_secrets",
        "_seen",
        "_start",
        "challenged",
        "refusal",
        "status",
    )

    def __init__(
        self,
        host: str,
        port: int,
        *,
        hop: str = "",
        authenticated: bool = False,
        answerable: bool = False,
        midway: bool = False,
        secrets: Sequence[bytes] = (),
        heard: Callable[[bytes], None] | None = None,
    ) -> None:
        """
        @param host: the target's, as in L{connectRequest}.
        @param hop: the proxy, as failures name it.
        @param authenticated: whether the request carried credentials.
        @param answerable: whether a 407 may be answered.
        @param midway: whether the request carried the beginning of an exchange that only this
            connection can go on with.
        @param secrets: what no failure may show, though the proxy says it.
        @param heard: called with the head of each answer, 1xx too, as soon as that is complete.
        """
        self._host = host
        self._port = port
        self._hop = hop
        self._authenticated = authenticated
        self._secrets = secrets
        self._answerable = answerable
        self._heard = heard
        self._midway = midway
        self._offers: tuple[str, ...] = ()
        self._head = bytearray()
        self._start = 0  # of the answer that is being read, behind the 1xx before it
        self._line = 0  # of the line that is being read
        self._seen = 0  # what is before was looked at, so that a drip costs no more than a stream
        self._fields = 0
        self._informational = 0
        self._reader: h11.Connection | None = None
        self._body = bytearray()
        self._room = 0
        self._drained = 0
        self._chunks = 0
        self.refusal: ProxyRefused | None = None
        self.challenged: Challenged | None = None
        self.status = 0

    @property
    def begun(self) -> bool:
        """Whether anything of an answer has come."""
        return bool(self._head)

    @property
    def authenticationInfo(self) -> bytes | None:
        """The value of Proxy-Authentication-Info in an answer of 2xx (RFC 7615 section 4)."""
        match = _AUTHENTICATION_INFO.search(self._head, self._start, self._line)
        return bytes(match[1].strip()) if match else None

    @property
    def date(self) -> datetime | None:
        """What the proxy's clock said at its final answer (RFC 9110 section 6.6.1)."""
        match = _DATE.search(self._head, self._start, self._line)
        if match is None or not self.status:
            return None
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(match[1].decode("ascii").strip())
        except Exception:  # it raises more than ValueError: OverflowError, TypeError
            return None
        return date if date.tzinfo else date.replace(tzinfo=timezone.utc)

    @property
    def offers(self) -> tuple[str, ...]:
        """The schemes of a challenge, as people write them."""
        return self._shown(self.challenged.values) if self.challenged is not None else ()

    def feed(self, data: bytes) -> Established | Challenged | None:
        """Take what the proxy sent.

        @return: None where more is needed.
        @raise ProxyRefused: for any final answer but 2xx, and 407 where that may be answered.
        @raise ProxyFailed: for what is no answer to CONNECT; at the first impossible byte.
        """
        if self._reader is not None:
            # h11 takes no data for the end.
            return self._readBody(data) if data else None
        self._head += data
        while end := self._head.find(b"\n", self._seen) + 1:
            self._checkSize(end)
            if self._line == self._start:
                if not _STATUS_LINE.fullmatch(self._head, self._line, end):
                    raise self._notHTTP()
            elif bytes(self._head[self._line : end]) in (b"\r\n", b"\n"):
                self._line = self._seen = end
                outcome = self._headEnded()
                if outcome is not None or self._reader is not None:
                    return outcome
                continue
            else:
                self._checkField(end)
            self._line = self._seen = end
        self._checkUnfinished()
        self._seen = len(self._head)
        return None

    def end(self) -> TunnelError:
        """Return the error for a connection closed now."""
        if self.refusal is not None:
            return self._complete()
        if not self.begun:
            return self._failed("closed the connection without an answer", causes.HUNG_UP)
        return self._failed("closed the connection in the middle of its answer")

    def expire(self, seconds: float) -> TunnelError:
        """What it means that the time was over here.

        @param seconds: the deadline that was set.
        """
        if self.refusal is not None:
            return self._complete()
        what = "finish its answer to" if self.begun else "answer"
        message = f"did not {what} CONNECT {self._asked.authority} within {seconds:g} s"
        return ProxyTimeout(f"{self._asked.who} {message}", hop=self._hop, cause=causes.SILENT)

    def _checkSize(self, end: int) -> None:
        if end > MAX_HEAD:
            raise self._failed(f"sent a head of more than {MAX_HEAD} bytes")
        if end - self._line > MAX_LINE:
            raise self._failed(f"sent a line of more than {MAX_LINE} bytes")

    def _checkField(self, end: int) -> None:
        self._checkNul(end)
        self._fields += 1
        if self._fields > MAX_HEADERS and self._statusBegun() != b"2":
            raise self._failed(f"sent more than {MAX_HEADERS} header lines")

    def _checkNul(self, end: int) -> None:
        if self._head.find(b"\0", self._seen, end) >= 0:
            raise self._failed("sent a NUL byte in the head of its answer")

    def _checkUnfinished(self) -> None:
        """Look at what is new of a line of which the end has not come yet."""
        end = len(self._head)
        self._checkSize(end)
        if self._line != self._start:
            self._checkNul(end)
        elif self._seen - self._line > len(_STATUS_TEMPLATE):
            if not _REASON_BEGUN.fullmatch(self._head, self._seen - 1):
                raise self._notHTTP()
        else:
            line = bytes(self._head[self._line :])
            rest = b"\n" if line.endswith(b"\r") else _STATUS_TEMPLATE[len(line) :] or b"\n"
            if not _STATUS_LINE.fullmatch(line + rest):
                raise self._notHTTP()

    def _statusBegun(self) -> bytes:
        """The first digit of the status that is being read."""
        return bytes(self._head[self._start + 9 : self._start + 10])

    def _headEnded(self) -> Established | Challenged | None:
        status = int(self._head[self._start + 9 : self._start + 12])
        if self._heard is not None:
            self._heard(bytes(self._head[self._start : self._line]))
        if status >= 200:
            self.status = status
        if 200 <= status < 300:
            return Established(bytes(self._head[self._line :]))
        if status < 200:
            self._informational += 1
            if status == 101 or self._informational > MAX_INFORMATIONAL:
                what = "switched protocols" if status == 101 else "sent 1xx answers without end"
                raise self._failed(f"{what} instead of answering")
            self._start = self._line
            return None
        from ptunnel.connect.refusals import refusalOf
        from ptunnel.log.excerpts import room

        head, rest = bytes(self._head[self._start : self._line]), bytes(self._head[self._line :])
        self.refusal = refusalOf(self._asked, head)
        self._room = room(self._secrets)
        self._reader = reader(self._asked.authority)
        version, fields = head[:8], head[head.index(b"\n") + 1 :]
        return self._readBody(
            b"%b %d\r\n%b\r\n" % (version, status, neededFields(fields, self._midway)) + rest
        )

    def _readBody(self, data: bytes) -> Challenged | None:
        import h11

        reader = self._reader
        assert reader is not None
        try:
            reader.receive_data(data)
            while self._wantsBody():
                event = reader.next_event()
                if event is h11.NEED_DATA:
                    if self.challenged is None or self.challenged.reusable:
                        return None
                    break
                if isinstance(event, h11.Data):
                    self._drained += len(event.data)
                    self._chunks += event.chunk_end
                    self._body += event.data[: self._room - len(self._body)]
                elif isinstance(event, h11.Response):
                    if event.status_code == 407:
                        self._challenge(event)
                else:
                    if reader.trailing_data[0]:  # the answer to a request that was not sent yet
                        self.loseConnection()
                    break
        except h11.RemoteProtocolError:
            isAsking = self._answerable and isinstance(self.refusal, CredentialsRefused)
            if isAsking and self.challenged is None:
                raise self._failed("sent a 407 whose framing makes no sense") from None
            # It is refused all the same; only what its body says stays unknown.
            self.loseConnection()
        if not self._drains():
            self.loseConnection()
        refusal = self._complete()
        if self.challenged is None:
            raise refusal
        return self.challenged

    def _wantsBody(self) -> bool:
        if self.challenged is None:
            return len(self._body) < self._room and self._chunks <= MAX_CHUNKS
        return self._drains()

    def _drains(self) -> bool:
        """Whether a 407's body is still worth being read."""
        midway = self.challenged is not None and self.challenged.midway
        return self._chunks <= MAX_CHUNKS and (midway or self._drained <= MAX_DRAIN)

    def _challenge(self, response: h11.Response) -> None:
        fields = response.headers
        values = tuple(value for name, value in fields if name == b"proxy-authenticate")
        refusal = self.refusal
        assert isinstance(refusal, CredentialsRefused)
        if not self._answerable:
            if not self._authenticated:
                self._offers = self._shown(values)
            return
        midway = self._midway and goesOn(fields)
        reusable = isReusable(response.http_version, fields, midway)
        self.challenged = Challenged(values, reusable, refusal, midway)

    def _shown(self, values: Sequence[bytes]) -> tuple[str, ...]:
        """The schemes that Proxy-Authenticate fields offer, without what is secret."""
        from ptunnel.log.excerpts import oneLine

        return tuple(oneLine(title.encode(), self._secrets) for title in offered(values))

    def loseConnection(self) -> None:
        """The connection cannot carry the answer to a challenge."""
        if self.challenged is not None:
            self.challenged = replace(self.challenged, reusable=False)

    def _complete(self) -> ProxyRefused:
        """The failure, with what has come of its body."""
        from ptunnel.connect.refusals import refusalOf

        head = bytes(self._head[self._start : self._line])
        refusal = self.refusal = refusalOf(self._asked, head, bytes(self._body), self._offers)
        if self.challenged is not None:
            assert isinstance(refusal, CredentialsRefused)
            self.challenged = replace(self.challenged, refusal=refusal)
        return refusal

    @property
    def _asked(self) -> Asked:
        from ptunnel.connect.refusals import Asked  # as h11

        where = hostPort(self._host, self._port)
        secrets = tuple(self._secrets)
        return Asked(self._host, self._port, where, self._hop, self._authenticated, secrets)

    def _failed(self, what: str, cause: Cause | None = None) -> ProxyFailed:
        message = f"{self._asked.who} {what}"
        if cause is None:  # its words say it all
            return ProxyFailed(message, hop=self._hop, cause=causes.BROKEN)
        return ProxyFailed(message, hop=self._hop, hint=cause.hint, cause=cause)

    def _notHTTP(self) -> ProxyFailed:
        start = bytes(self._head[self._start : self._start + 4])
        cause = causes.OTHER_SERVER
        if start.startswith((b"\x15\x03", b"\x16\x03")):
            cause = causes.SPEAKS_TLS
        elif start.startswith(b"SSH-"):
            cause = causes.SSH_SERVER
        return self._failed("does not answer as an HTTP proxy", cause)
