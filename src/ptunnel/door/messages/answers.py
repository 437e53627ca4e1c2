"""The answer to a request that was sent on: read strictly, and framed anew for the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import h11

from ptunnel.door.messages.fields import (
    Fields,
    endToEnd,
    keepsOpen,
    upgradeOf,
    valuesOf,
    viaOf,
)
from ptunnel.door.messages.framing import Framing

# Real heads have one or two KiB; those with a Negotiate ticket or many cookies up to 30.
MAX_HEAD = 64 * 1024
# A long operation reports its progress by 102, every 20 s as a rule.
MAX_INFORMATIONAL = 100

Event = h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage


class BadAnswer(Exception):
    """What came is not an answer. The text says what the other side did, to follow its name."""


class AnswerReader:
    """Reads the answer to one request.

    @ivar head: of the final answer; None until it has come.
    @ivar begun: a byte has come.
    @ivar isOver: its end has come; what follows on the connection is not part of it.
    @ivar hasSwitched: it was 101; what follows speaks another protocol.
    """

    head: h11.Response | None = None
    begun = isOver = hasSwitched = False
    _informational = 0

    def __init__(self, request: h11.Request) -> None:
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._isHead = request.method == b"HEAD"
        sent = self._connection.send(request)
        assert sent is not None
        self.request: bytes = sent
        if not _announcesBody(request):
            self._connection.send(h11.EndOfMessage())

    @property
    def rest(self) -> bytes:
        """What has come behind the end, or behind 101."""
        return bytes(self._connection.trailing_data[0])

    @property
    def hasBody(self) -> bool:
        """Whether a body belongs to the final answer (RFC 9112 section 6.3)."""
        assert self.head is not None
        return not (self._isHead or self.head.status_code in (204, 304))

    @property
    def length(self) -> int | None:
        """The length that the final answer announces; None: none."""
        assert self.head is not None
        lengths = valuesOf(self.head.headers.raw_items(), b"content-length")
        return int(lengths[0]) if lengths else None

    @property
    def isUnframed(self) -> bool:
        """Whether only the end of the connection ends the answer."""
        head = self.head
        assert head is not None
        if not self.hasBody or self.length is not None:
            return False
        return not valuesOf(head.headers.raw_items(), b"transfer-encoding")

    @property
    def keepsOpen(self) -> bool:
        """Whether the connection may carry another request behind this answer."""
        head = self.head
        if not self.isOver or head is None or self.rest or self.isUnframed:
            return False
        return keepsOpen(head.http_version, head.headers.raw_items())

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take what has come; b"" is the end of the connection. Give what it contains.

        @raise BadAnswer: if it is not an answer, or is cut short.
        """
        self.begun = self.begun or bool(data)
        if self.isOver or self.hasSwitched:
            self._connection.receive_data(data)  # for `rest`
            return
        try:
            self._connection.receive_data(data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
                if isinstance(event, h11.ConnectionClosed):
                    raise BadAnswer(_hungUp(self.begun))
                yield self._checked(cast(Event, event))
                if self.isOver or self.hasSwitched:
                    return
        except h11.RemoteProtocolError as e:
            raise BadAnswer(self._wrong(data, e)) from None

    def _wrong(self, data: bytes, error: h11.RemoteProtocolError) -> str:
        if not data:
            return _hungUp(self.begun)
        if self.head is not None:
            return "sent a body whose framing is broken"
        if error.error_status_hint == 431:
            return f"sent a head of more than {MAX_HEAD} bytes"
        return "sent an answer that is not valid HTTP"

    def _checked(self, event: Event) -> Event:
        if isinstance(event, (h11.InformationalResponse, h11.Response)) and (
            not event.http_version.startswith(b"1.")
        ):
            raise BadAnswer("sent an answer that is not valid HTTP")
        if isinstance(event, h11.InformationalResponse):
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise BadAnswer("sent 1xx answers without end")
            self.hasSwitched = event.status_code == 101
        elif isinstance(event, h11.Response):
            _checkFraming(event)
            self.head = event
        elif isinstance(event, h11.EndOfMessage):
            self.isOver = True
        return event


def _announcesBody(request: h11.Request) -> bool:
    fields = request.headers.raw_items()
    return bool(valuesOf(fields, b"transfer-encoding")) or any(
        int(value) for value in valuesOf(fields, b"content-length")
    )


def _checkFraming(head: h11.Response) -> None:
    """h11 has refused several different lengths, and codings other than chunked.

    @raise BadAnswer: if another reader may see another end than h11.
    """
    fields = head.headers.raw_items()
    if not valuesOf(fields, b"transfer-encoding"):
        return
    if valuesOf(fields, b"content-length"):
        raise BadAnswer("sent both Content-Length and Transfer-Encoding")
    if head.http_version < b"1.1":
        raise BadAnswer("sent Transfer-Encoding in HTTP/1.0")


def _hungUp(begun: bool) -> str:
    if begun:
        return "closed the connection in the middle of its answer"
    return "closed the connection without an answer"


def framingFor(reader: AnswerReader, version: bytes) -> Framing:
    """Return the framing of a final answer for a client that speaks this version."""
    if not reader.hasBody:
        return Framing.NONE
    if reader.length is not None:
        return Framing.LENGTH
    return Framing.CHUNKED if version >= b"1.1" else Framing.CLOSE


def headFor(head: h11.Response, framing: Framing, closes: bool, pseudonym: str) -> bytes:
    """Return the head of a final answer as the client gets it.

    @param closes: whether the connection to the client ends behind it.
    """
    fields = _passedOn(head, pseudonym, without=[] if head.status_code != 204 else _LENGTH)
    if framing is Framing.CHUNKED:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if closes:
        fields.append((b"Connection", b"close"))
    return encoded(head.status_code, head.reason, fields)


_LENGTH = [b"content-length"]


def informationalFor(head: h11.InformationalResponse, pseudonym: str) -> bytes:
    """Return a 1xx answer as the client gets it."""
    fields = _passedOn(head, pseudonym, without=_LENGTH)
    if head.status_code == 101:
        protocol = upgradeOf(head.headers.raw_items()) or _looseUpgrade(head)
        if protocol is not None:
            fields.append((b"Upgrade", protocol))
        fields.append((b"Connection", b"Upgrade"))
    return encoded(head.status_code, head.reason, fields)


def _looseUpgrade(head: h11.InformationalResponse) -> bytes | None:
    """Return the protocol of a 101 that does not name Upgrade in Connection."""
    return b", ".join(valuesOf(head.headers.raw_items(), b"upgrade")) or None


def _passedOn(
    head: h11.InformationalResponse | h11.Response, pseudonym: str, without: list[bytes]
) -> list[tuple[bytes, bytes]]:
    fields = endToEnd(head.headers.raw_items(), without)
    fields.append(viaOf(head.http_version, pseudonym))
    return fields


def encoded(status: int, reason: bytes, fields: Fields) -> bytes:
    """Return the head of an answer."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason), *(b"%b: %b" % each for each in fields)]
    return b"\r\n".join([*lines, b"", b""])
