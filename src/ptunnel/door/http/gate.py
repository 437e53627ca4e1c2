"""The gate of an HTTP door: what one request asks for, once its raw head has been looked at.

What h11 would let pass, although another reader may understand it in another way, is refused here,
before h11 sees it (RFC 9112 sections 6 and 11.2).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

import h11

from ptunnel.door.http.chunks import ChunkGuard
from ptunnel.door.http.head import MAX_HEAD, Head, HeadReader
from ptunnel.door.http.pages import Objection
from ptunnel.door.http.target import connectTarget, urlTarget
from ptunnel.net.asked import Login, Rejected, Request

# 19 digits are more than any file has, and fewer than overflow 64 bits.
_LENGTH = re.compile(rb"[0-9]{1,18}")
_BASIC = re.compile(rb"(?i:basic) +([A-Za-z0-9+/]+={0,2})")
_AUTHORIZATION = b"proxy-authorization"


@dataclass(frozen=True, slots=True)
class Connect:
    """A request for a tunnel.

    @ivar login: who the client says it is; None: it says nothing, or not by Basic.
    @ivar leftover: the bytes behind the request: the tunnel's first ones.
    """

    request: Request
    login: Login | None
    leftover: bytes


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Forward:
    """A request for an http:// URL, to be forwarded.

    @ivar login: as in L{Connect}.
    @ivar target: what to ask the origin for: path and query, or b"*".
    @ivar head: as h11 read it, without Proxy-Authorization.
    @ivar connection: has read the head, and holds what came behind it. Feed it by L{receive} only.
        Behind the message's end its `trailing_data` is for the next gate.
    """

    request: Request
    login: Login | None
    target: bytes
    head: h11.Request
    connection: h11.Connection
    _guard: ChunkGuard | None

    def receive(self, data: bytes) -> None:
        """Pass on what the client sends to the connection; b"" at its end.

        @raise Rejected: if it breaks the framing of its body. None of the bytes was passed on.
        """
        if self._guard is not None:
            try:
                self._guard.check(data)
            except Objection as e:
                raise Rejected(e.why, e.answer(isHead=self.isHead)) from None
        self.connection.receive_data(data)

    @property
    def isHead(self) -> bool:
        """Whether the answer has no body."""
        return self.head.method == b"HEAD"

    def __repr__(self) -> str:
        return f"<Forward {self.head.method!r} to {self.request}>"  # fields may be secrets


class Gate:
    """Reads one request's head. Of a connection that goes on, each request has its own gate.

    @ivar begun: whether a byte of the request has come.
    @ivar isHead: whether it is known to be HEAD, whose answers have no body.
    """

    def __init__(self) -> None:
        self._reader = HeadReader()

    @property
    def begun(self) -> bool:
        return self._reader.begun

    @property
    def isHead(self) -> bool:
        return self._reader.isHead

    def feed(self, data: bytes) -> Connect | Forward | None:
        """Take the client's next bytes; not to be called after it has returned a request.

        @return: None if more bytes are needed.
        @raise Rejected: if it is not to be served.
        """
        try:
            head = self._reader.feed(data)
            return None if head is None else self._asked(head)
        except Objection as e:
            raise Rejected(e.why, e.answer(isHead=self.isHead)) from None

    def _asked(self, head: Head) -> Connect | Forward:
        isChunked = _checkFraming(head)
        login = _loginOf(head)
        rest = self._reader.rest
        if head.method == b"CONNECT":
            # Some announce a body of no bytes.
            if isChunked or head.values(b"content-length") not in ([], [b"0"]):
                raise Objection(400, "CONNECT with a body")
            return Connect(connectTarget(head), login, rest)
        request, target = urlTarget(head)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        connection.receive_data(_rawOf(head))
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            event = h11.NEED_DATA
        if not isinstance(event, h11.Request):
            raise Objection(400, "a head that is not valid")
        guard = ChunkGuard() if isChunked else None
        forward = Forward(request, login, target, event, connection, guard)
        if rest:
            forward.receive(rest)
        return forward


def _checkFraming(head: Head) -> bool:
    """Check what says where the body ends. @return: whether it is chunked."""
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if codings and lengths:
        raise Objection(400, "Content-Length with Transfer-Encoding")
    if len(lengths) > 1:
        raise Objection(400, "several Content-Length fields")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise Objection(400, "a Content-Length that is none")
    if not codings:
        return False
    if head.version == b"1.0":
        raise Objection(400, "Transfer-Encoding in HTTP/1.0")
    if [each.lower() for each in codings] != [b"chunked"]:
        raise Objection(501, "a Transfer-Encoding other than chunked")
    return True


def _loginOf(head: Head) -> Login | None:
    """Return the credentials of Basic (RFC 7617)."""
    values = head.values(_AUTHORIZATION)
    if len(values) > 1:
        raise Objection(400, "several Proxy-Authorization fields")
    match = _BASIC.fullmatch(values[0]) if values else None
    if match is None:
        return None
    try:
        name, colon, word = base64.b64decode(match[1], validate=True).partition(b":")
    except ValueError:
        return None
    return Login(name, word) if colon else None


def _rawOf(head: Head) -> bytes:
    """Return it for h11, without what is for this proxy alone."""
    if not head.values(_AUTHORIZATION):
        return head.raw
    lines = [b"%b %b HTTP/%b" % (head.method, head.target, head.version)]
    lines += [b"%b: %b" % each for each in head.fields if each[0].lower() != _AUTHORIZATION]
    return b"\r\n".join(lines) + b"\r\n\r\n"
