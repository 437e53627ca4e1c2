"""PostgreSQL: asks a server for TLS, and answers a client's questions about TLS.

Protocol 3.0, as its manual's chapters on message flow and on message formats have it.
"""

from __future__ import annotations

import struct

from ptunnel import causes
from ptunnel.starttls.upgrade import MAX_LINE, Ready, Upgrade, UpgradeRefused

SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104
CANCEL_REQUEST = 80877102
# The server's own MAX_STARTUP_PACKET_LENGTH.
MAX_STARTUP = 10_000

_HEAD = struct.Struct("!II")  # the length of the whole packet, and its type
# NegotiateProtocolVersion may come before the first message about authentication.
_NEGOTIATE, _AUTHENTICATION = b"v", b"R"
_SASL = (10).to_bytes(4, "big")


class Prelude:
    """The exchange between client and server under TLS, before they are joined.

    libpq asks for GSSAPI or TLS unless it is told not to, and goes on in plain when the answer is
    no. That no is said here; the server would say yes. And libpq gives up when a server offers
    SCRAM-SHA-256-PLUS, which is bound to TLS, on a connection without: so it is not offered.

    @ivar answered: whether the server replies to the first message; not to a CancelRequest.
    """

    answered = True

    def __init__(self) -> None:
        self._pending = b""
        self._answer = bytearray()
        self._passed = 0  # messages of the answer that do not concern authentication
        self._asked: set[int] = set()

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        """Take bytes from the client.

        @return: what the client is sent, maybe b""; and what the server is sent, after which its
            L{answer} is awaited, or None where more of the client is needed.
        @raise UpgradeRefused: for what is no client of PostgreSQL, and for one that begins TLS.
        """
        self._pending += data
        answer = b""
        while self._pending:
            if self._pending.startswith(b"\x16"):
                raise UpgradeRefused("begins TLS by itself; it must not (sslnegotiation=direct)")
            if self._pending[0]:
                raise UpgradeRefused("does not speak PostgreSQL")
            if len(self._pending) < _HEAD.size:
                break
            length, code = _HEAD.unpack_from(self._pending)
            isRequest = code in (SSL_REQUEST, GSSENC_REQUEST)
            if not _HEAD.size <= length <= (_HEAD.size if isRequest else MAX_STARTUP):
                raise UpgradeRefused("does not speak PostgreSQL")
            if not isRequest:  # a StartupMessage, a CancelRequest, or one for the server to judge
                self.answered = code != CANCEL_REQUEST
                return answer, self._pending
            if code in self._asked:
                raise UpgradeRefused("asks for encryption again and again")
            self._asked.add(code)
            self._pending = self._pending[_HEAD.size :]
            answer += b"N"
        return answer, None

    def answer(self, data: bytes) -> bytes | None:
        """Take bytes from the server under TLS; the client is not read meanwhile.

        @return: what the client is sent, after which both are joined; None where more is needed.
        """
        self._answer += data
        while len(self._answer) >= self._passed + 5:
            at = self._passed
            kind = self._answer[at : at + 1]
            end = at + 1 + int.from_bytes(self._answer[at + 1 : at + 5], "big")
            if (
                kind not in (_NEGOTIATE, _AUTHENTICATION)
                or not at + 5 <= end <= MAX_LINE
                or at > MAX_LINE
            ):
                return bytes(self._answer)
            if len(self._answer) < end:
                return None
            if kind == _AUTHENTICATION:
                self._answer[at:end] = _withoutBinding(bytes(self._answer[at:end]))
                return bytes(self._answer)
            self._passed = end
        return None

    def ended(self) -> UpgradeRefused:
        """Return the error for a connection that the client closes now."""
        return UpgradeRefused("closed the connection before it began a session")


class Postgres(Upgrade):
    """SSLRequest, and an answer of one byte."""

    name = "postgres"
    title = "PostgreSQL"
    request = "SSLRequest"
    opening = b"SNE"
    prelude = Prelude

    def begin(self) -> bytes:
        return _HEAD.pack(_HEAD.size, SSL_REQUEST)

    def _end(self) -> int:
        if not self._pending.startswith(b"E"):
            return min(1, len(self._pending))
        if len(self._pending) < 5:
            return 0
        length = self._errorLength(self._pending)
        if not length:
            return self._until(b"\0", "an error", start=1)
        return 1 + length if len(self._pending) > length else 0

    def _take(self, message: bytes) -> Ready:
        if message == b"S":
            return Ready()
        if message == b"N":
            raise UpgradeRefused(
                "refuses SSLRequest: it has no TLS (ssl = off), or not for this machine",
                causes.NO_STARTTLS,
            )
        if not self._errorLength(message):
            raise self._refused(message[1:])
        fields = message[5:].split(b"\0")
        raise self._refused(next((field[1:] for field in fields if field[:1] == b"M"), b""))

    @staticmethod
    def _errorLength(message: bytes | bytearray) -> int:
        """Return the length field of a 3.0 ErrorResponse; 0 for a 2.0 error, which has none.

        A server that cannot start a process still sends a 2.0 error: text up to a zero byte.
        """
        length = int.from_bytes(message[1:5], "big")
        return length if 4 <= length < MAX_LINE else 0


def _withoutBinding(message: bytes) -> bytes:
    """AuthenticationSASL without the mechanisms that are bound to a channel; others unchanged."""
    if message[5:9] != _SASL:
        return message
    mechanisms = message[9:].split(b"\0")
    body = _SASL + b"\0".join(name for name in mechanisms if not name.endswith(b"-PLUS"))
    return _AUTHENTICATION + (4 + len(body)).to_bytes(4, "big") + body
