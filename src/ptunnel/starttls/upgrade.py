"""The interface of an upgrade of a plaintext connection to TLS.

A protocol says where a message ends and what a message means. The limits, what may follow what,
and the words of most failures are here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ptunnel import causes
from ptunnel.causes import Cause
from ptunnel.text import flat

# RFCs allow 512 to 2,000 bytes in most lines; those of IMAP's capabilities come to some hundred.
MAX_LINE = 8 * 1024
# The most bytes before TLS. Real servers send less than 2 KiB, except for banners of FTP.
MAX_EXCHANGE = 64 * 1024
# Lines, or LDAP messages, or tags of XML.
MAX_LINES = 500
# How many characters of a server's message a log line has at most.
MAX_QUOTED = 200


class UpgradeRefused(ValueError):
    """No TLS is possible on this connection, and no byte of the client may be sent on it.

    Its text says what the peer did and lacks the subject: "refuses STARTTLS: 454 not now". Whoever
    knows the peer's name puts that before it.

    @ivar cause: what that means.
    """

    def __init__(self, what: str, cause: Cause = causes.TARGET_PROTOCOL) -> None:
        super().__init__(what)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Ready:
    """The server waits for the first byte of TLS."""


class Upgrade(ABC):
    """The plaintext part of one connection to a server, as bytes in, bytes out.

    @cvar name: the protocol as the configuration names it.
    @cvar title: the protocol as its users name it.
    @cvar request: what asks for TLS, as the protocol names it.
    @cvar opening: what the server's first byte may be.
    @cvar prelude: answers the client until its bytes are the server's; mostly nothing has to.
    @ivar greeting: once TLS stands, what the client is shown first; b"" where the client speaks
        first. It is ours: whatever the server said in clear, anyone on the way may have said.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    request: ClassVar[str] = "STARTTLS"
    opening: ClassVar[bytes]
    prelude: ClassVar[Callable[[], Any] | None] = None
    greeting: bytes = b""

    def __init__(self, host: str) -> None:
        """
        @param host: the server's name, for protocols that say it.
        """
        self.host = host
        self._pending = bytearray()
        self._searched = 0  # of it, for a mark that is not there
        self._taken = 0  # bytes of whole messages
        self._count = 0  # of those messages
        self._ready = False

    def begin(self) -> bytes:
        """Return the bytes to send first; b"" if the server speaks first."""
        return b""

    def feed(self, data: bytes) -> bytes | Ready | None:
        """Take bytes from the server.

        @return: what to send next; or that TLS begins now; or None where more is needed.
        @raise UpgradeRefused: for everything that does not lead to TLS, and for anything that comes
            behind the last plaintext answer: it would pass for something that was said under
            TLS (CVE-2011-0411, CVE-2021-23222).
        """
        self._pending += data
        if not self._taken and self._pending and self._pending[0] not in self.opening:
            raise self._foreign()
        outcome: bytes | Ready | None = None
        while not self._ready and (end := self._end()):
            self._checkSize(end)
            if self._count == MAX_LINES:
                raise UpgradeRefused(f"sends more than {MAX_LINES} lines before TLS")
            message = bytes(self._pending[:end])
            del self._pending[:end]
            self._searched = 0
            self._taken += end
            self._count += 1
            reaction = self._take(message)
            if reaction is not None and outcome is not None:
                raise UpgradeRefused("answers before it was asked")
            outcome = reaction or outcome
            self._ready = isinstance(reaction, Ready)
        if self._ready and self._pending:
            raise UpgradeRefused("sends more behind its last answer before TLS")
        self._checkSize(len(self._pending))
        return outcome

    def ended(self) -> UpgradeRefused:
        """Return the error for a connection that the server closes now."""
        if not self._taken and not self._pending:
            return UpgradeRefused(f"closed the connection without a word of {self.title}")
        return UpgradeRefused("closed the connection before TLS began")

    @abstractmethod
    def _end(self) -> int:
        """Return where the first message in `_pending` ends; 0 if more bytes are needed."""

    @abstractmethod
    def _take(self, message: bytes) -> bytes | Ready | None:
        """Take a message. @return: as L{feed}."""

    def _until(self, mark: bytes, what: str, start: int = 0) -> int:
        """Return where the first message ends, for protocols with an end mark; or 0."""
        end = self._pending.find(mark, max(start, self._searched), MAX_LINE) + 1
        self._searched = len(self._pending)
        if not end and len(self._pending) >= MAX_LINE:
            raise UpgradeRefused(f"sends {what} of more than {MAX_LINE} bytes")
        return end

    def _checkSize(self, size: int) -> None:
        if self._taken + size > MAX_EXCHANGE:
            raise UpgradeRefused(f"sends more than {MAX_EXCHANGE} bytes before TLS")

    def _foreign(self, said: bytes = b"") -> UpgradeRefused:
        return UpgradeRefused(f"does not speak {self.title}{_colon(quoted(said))}")

    def _refused(self, said: bytes) -> UpgradeRefused:
        return UpgradeRefused(f"refuses {self.request}{_colon(quoted(said))}", causes.NO_STARTTLS)

    def _notOffered(self) -> UpgradeRefused:
        return UpgradeRefused(f"does not offer {self.request}", causes.NO_STARTTLS)


def quoted(said: bytes) -> str:
    """Return a server's message as a part of one line: printable and shortened."""
    text = said[: 4 * MAX_QUOTED].decode("utf-8", "replace")
    return flat(text)[:MAX_QUOTED]


def _colon(text: str) -> str:
    return f": {text}" if text else ""
