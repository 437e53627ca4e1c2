"""The body of a client's request: read, kept for a second sending, and framed anew."""

from __future__ import annotations

from typing import Protocol

import h11

from ptunnel.door.messages.fields import Fields, trailersOf
from ptunnel.door.messages.framing import Framing
from ptunnel.net.asked import Rejected

# A body of up to this many bytes can be sent again, behind a challenge or a connection that had
# ended. Forms and API calls have a few KiB.
MAX_KEPT = 64 * 1024


class Source(Protocol):
    """Where a client's request goes on behind its head."""

    @property
    def connection(self) -> h11.Connection: ...
    def receive(self, data: bytes) -> None:
        """Take bytes of the client. @raise Rejected: if they break the framing."""


class Upload:
    """One body.

    @ivar isOver: its end has come.
    @ivar waiting: the bytes of the body that were read and not taken yet.
    @ivar canRepeat: whether all that was taken is still kept.
    """

    isOver = False
    canRepeat = True

    def __init__(self, source: Source, framing: Framing) -> None:
        self._source = source
        self._framing = framing
        self._kept = bytearray()
        self._keeps = True
        self._trailers: Fields = ()
        self._isEndTaken = False
        self.waiting = bytearray()
        self._read()

    @property
    def isDone(self) -> bool:
        """Whether the end was taken too."""
        return self._isEndTaken

    @property
    def held(self) -> int:
        """How many bytes wait here: of the body, and of what follows."""
        return len(self.waiting) + len(self._source.connection.trailing_data[0])

    @property
    def rest(self) -> bytes:
        """What came behind the request: the next one's, or those of another protocol."""
        return bytes(self._source.connection.trailing_data[0])

    def feed(self, data: bytes) -> None:
        """Take what the client sent.

        @raise Rejected: if it breaks the framing.
        """
        self._source.receive(data)
        self._read()

    def take(self) -> bytes:
        """Return what can be sent now, in its framing; b"" where nothing can."""
        parts = []
        if self.waiting:
            data = bytes(self.waiting)
            self.waiting.clear()
            self._keep(data)
            parts.append(self._framing.encode(data))
        if self.isOver and not self._isEndTaken:
            self._isEndTaken = True
            parts.append(self._framing.finish(self._trailers))
        return b"".join(parts)

    def rewind(self) -> None:
        """Let `take` begin again; only where it `canRepeat`."""
        assert self.canRepeat
        self.waiting[:0] = self._kept
        self._kept.clear()
        self._isEndTaken = False

    def forget(self) -> None:
        """Keep nothing any more: nobody will ask for it again."""
        self._keeps = False
        self._kept.clear()
        self.canRepeat = False

    def _keep(self, data: bytes) -> None:
        if self._keeps and self.canRepeat and len(self._kept) + len(data) <= MAX_KEPT:
            self._kept += data
        else:
            self.canRepeat = False
            self._kept.clear()

    def _read(self) -> None:
        connection = self._source.connection
        try:
            while not self.isOver:
                event = connection.next_event()
                if isinstance(event, h11.Data):
                    self.waiting += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.isOver = True
                    self._trailers = trailersOf(event.headers.raw_items())
                else:
                    return  # NEED_DATA
        except h11.RemoteProtocolError:
            raise Rejected("a body whose framing is broken") from None
