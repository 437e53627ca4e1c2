"""The body of an answer that refuses a CONNECT, read with its framing (RFC 9112 section 6).

Its beginning explains the refusal. After the end of a 407's body, the next request can go on the
same connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import h11

from ptunnel.auth.challenges import ChallengeError, parseChallenges
from ptunnel.auth.choice import titlesOf
from ptunnel.connect.refusals import Asked, refusalOf
from ptunnel.errors import ProxyRefused
from ptunnel.log.excerpts import oneLine, room

# The most bytes of a 407's body that are read to keep its connection; a new one is then cheaper.
MAX_DRAIN = 256 * 1024
# The same in chunks: each costs as much as many bytes. Real ones have some KiB.
MAX_CHUNKS = 4096
# The head was checked before.
_MAX_EVENT = 128 * 1024

# The header fields of a refusal that are needed, with lines that continue them.
_NEEDED = re.compile(
    rb"(?im)^(content-length|transfer-encoding|(?:proxy-)?connection|proxy-authenticate)"
    rb"[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)"
)
_FRAMING = frozenset([b"content-length", b"transfer-encoding"])


class RefusalBody:
    """The body of one answer.

    @ivar drains: True if it is read to its end, because the answer is a 407 that may be answered.
        Else its beginning is enough.
    @ivar challenges: the values of a 407's Proxy-Authenticate fields (RFC 9110 section 11.7.1).
    @ivar isReusable: True if the next request can go on the same connection, once `feed` has
        returned True.
    @ivar isMidway: True if the answer continues an exchange that was begun on the connection.
    """

    def __init__(
        self, asked: Asked, head: bytes, *, answerable: bool = False, midway: bool = False
    ) -> None:
        """
        @param head: the status line and header fields of the answer.
        @param answerable: True if a 407 may be answered.
        @param midway: True if the request carried the beginning of an exchange that only its
            connection can continue.
        @raise ProxyFailed: if the framing of a 407 that may be answered makes no sense.
        """
        self._asked = asked
        self._head = head
        version, status = head[:8], head[9:12]
        self.drains = answerable and status == b"407"
        self.challenges: tuple[bytes, ...] = ()
        self.isReusable = self.isMidway = False
        self._page = bytearray()
        self._room = room(asked.secrets)
        self._length = 0
        self._chunks = 0
        self._reader = reader = _readerFor(asked.authority)
        needed = _neededFields(head[head.index(b"\n") + 1 :], midway)
        try:
            reader.receive_data(b"%b %b\r\n%b\r\n" % (version, status, needed))
            response = reader.next_event()
        except h11.RemoteProtocolError:
            if self.drains:
                raise asked.failed("sent a 407 whose framing makes no sense") from None
            return  # the refusal stands; only the text of its body stays unknown
        assert isinstance(response, h11.Response)
        fields = response.headers
        if status == b"407":
            self.challenges = tuple(v for name, v in fields if name == b"proxy-authenticate")
        if self.drains:
            self.isMidway = midway and _goesOn(fields)
            self.isReusable = _isReusable(response.http_version, fields, self.isMidway)

    @property
    def offers(self) -> tuple[str, ...]:
        """The schemes of the challenges, as people write them, without what is secret."""
        secrets = self._asked.secrets
        return tuple(oneLine(title.encode(), secrets) for title in _titles(self.challenges))

    def failure(self) -> ProxyRefused:
        """The refusal, with what has come of the body."""
        isUnmet = not (self.drains or self._asked.authenticated)
        offers = self.offers if isUnmet else ()
        return refusalOf(self._asked, self._head, bytes(self._page), offers)

    def feed(self, data: bytes) -> bool:
        """Take the next bytes.

        @return: True once nothing more has to be read.
        """
        try:
            return self._read(data)
        except h11.RemoteProtocolError:
            self.isReusable = False
            return True

    def _read(self, data: bytes) -> bool:
        reader = self._reader
        if data:  # h11 takes none for the end
            reader.receive_data(data)
        while self._isWanted():
            event = reader.next_event()
            if event is h11.NEED_DATA:
                # Without a connection to keep, the end of the body is of no use.
                return self.drains and not self.isReusable
            if isinstance(event, h11.Data):
                self._length += len(event.data)
                self._chunks += event.chunk_end
                self._page += event.data[: self._room - len(self._page)]
            else:
                if reader.trailing_data[0]:  # the answer to a request that was not sent yet
                    self.isReusable = False
                return True
        self.isReusable = False
        return True

    def _isWanted(self) -> bool:
        if self._chunks > MAX_CHUNKS:
            return False
        if self.drains:
            return self.isMidway or self._length <= MAX_DRAIN
        return len(self._page) < self._room


def _neededFields(fields: bytes, midway: bool) -> bytes:
    """Return the header fields of the framing and the challenge, in a form that h11 can read. All
    others are left out, however odd they are.

    @param midway: as in L{RefusalBody}.
    """
    lines = [(match[1].lower(), b" ".join(match[2].split())) for match in _NEEDED.finditer(fields)]
    names = {name for name, _ in lines}
    if not _isUsable([(name, value) for name, value in lines if name in _FRAMING]):
        # The end of the body is unknown, so the next request needs another connection.
        lines = [line for line in lines if line[0] not in _FRAMING]
        lines.append((b"connection", b"close"))
    elif midway and not _FRAMING & names and _goesOn(lines):
        # The exchange must continue on this connection, so there is no body that could end it.
        lines.append((b"content-length", b"0"))
    return b"".join(name + b": " + value + b"\r\n" for name, value in lines)


def _isUsable(framing: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether these fields tell where a body ends (RFC 9112 section 6.3)."""
    kinds = {(name, value.lower()) for name, value in framing}
    if len(kinds) > 1:
        return False
    return all(
        value == b"chunked" if name == b"transfer-encoding" else value.isdigit()
        for name, value in kinds
    )


def _isReusable(version: bytes, fields: Iterable[tuple[bytes, bytes]], midway: bool) -> bool:
    """Return whether the connection of a challenge can carry the next request."""
    fields = list(fields)
    options = {
        option.strip().lower()
        for name, value in fields
        if name in (b"connection", b"proxy-connection")
        for option in value.split(b",")
    }
    # NTLM is bound to a connection, and old proxies speak it over HTTP/1.0 with keep-alive.
    persistent = midway or version >= b"1.1" or b"keep-alive" in options
    framed = any(name in _FRAMING for name, _ in fields)
    return persistent and framed and b"close" not in options


def _goesOn(fields: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a challenge continues an exchange, and does not begin one."""
    values = [value for name, value in fields if name == b"proxy-authenticate"]
    try:
        return any(c.token and c.scheme != "basic" for c in parseChallenges(values))
    except ChallengeError:
        return False


def _titles(values: Sequence[bytes]) -> tuple[str, ...]:
    if not values:
        return ()
    try:
        return titlesOf(parseChallenges(values))
    except ChallengeError:
        return ()


def _readerFor(target: str) -> h11.Connection:
    """Return a reader for the answer to a CONNECT request."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_EVENT)
    connection.send(h11.Request(method="CONNECT", target=target, headers=[("Host", target)]))
    connection.send(h11.EndOfMessage())
    return connection
