"""A leg of a splice whose bulk stays in the kernel, for plain TCP and Unix sockets on Linux.

Small messages go through the buffer that all connections share. A direction that fills that buffer
is bulk, and goes through splice(2) and a pipe, so that its bytes never enter Python. It has the
pipe only while it is bulk, so an idle connection holds neither buffer nor pipe.
"""

from __future__ import annotations

import contextlib
import socket
from typing import ClassVar

from twisted.internet.interfaces import ITransport

from ptunnel.relay.legs.leg import Joint
from ptunnel.relay.legs.pipes import BROKEN, PASSING, Pipe
from ptunnel.relay.legs.socketleg import SMALL, BufferLeg
from ptunnel.twisted_private import takeUnsent

# A read of fewer bytes ends the bulk state.
CALM = 16 * 1024


class KernelLeg(BufferLeg):
    """A plain socket. It takes a pipe while it is bulk, where the other one is plain too.

    @cvar spliceFails: whether splice(2) was found to be forbidden or missing, in this process.
    @ivar _bulky: a direction that fills the buffer may take a pipe.
    @ivar _pipe: carries the bytes of this source while it is bulk.
    """

    __slots__ = ("_bulky", "_pipe")

    spliceFails: ClassVar[bool] = False

    def __init__(self, splice: Joint, transport: ITransport) -> None:
        super().__init__(splice, transport, transport)
        self.secure = False
        self._previous = self.transport.protocol
        self._pipe: Pipe | None = None

    def _attach(self) -> None:
        self.transport.protocol = self
        # The other one may be TLS, whose bytes cannot be encrypted in a pipe.
        self._bulky = isinstance(self.other, KernelLeg) and not KernelLeg.spliceFails
        if self._bulky:
            self._into = SMALL
        unsent = takeUnsent(self._plain)
        if unsent:
            self.other._rest = unsent + self.other._rest

    def doRead(self) -> None:
        if self._pipe is None or self.other.wroteLast:
            self._readThroughBuffer()
        else:
            self._readThroughPipe(self._pipe)

    def _shutDown(self) -> None:
        self.writeEnded = True
        if not self.readEnded:
            with contextlib.suppress(OSError):
                self._plain.getHandle().shutdown(socket.SHUT_WR)
        elif not self.lost:
            self._close()

    # Bulk

    def _bufferFilled(self) -> None:
        if self._bulky:
            try:
                self._pipe = Pipe.take()
            except OSError:
                self._bulky = False  # no descriptors left: go on with buffers

    def rest(self) -> None:
        """Give the pipe back, unless flush will when the other leg has taken what it holds."""
        if self._pipe is not None and (not self._pipe.filled or self.other.lost):
            self._endBulk()

    def _endBulk(self) -> None:
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            pipe.giveBack()

    def _readThroughPipe(self, pipe: Pipe) -> None:
        try:
            count = pipe.fill(self._fd)
        except BlockingIOError:
            return
        except OSError as e:
            self._endBulk()
            if e.errno in BROKEN:
                self._reset()
            else:
                self._doWithout(e)
            return
        if count:
            self.received += count
            try:
                self._emptyPipe(pipe)
            except OSError:
                self.other._reset()
                return
            if self._held():
                self._wait()
                return
        if count < CALM:
            self._endBulk()  # also at the end of file, which the next read meets again

    def _emptyPipe(self, pipe: Pipe) -> None:
        try:
            pipe.empty(self.other._fd)
        except OSError as e:
            if e.errno in BROKEN:
                raise
            self._rest = pipe.read()
            self._endBulk()
            self._doWithout(e)

    def _doWithout(self, error: OSError) -> None:
        """Use buffers from now on, since splice(2) does not work here."""
        self._bulky = False
        if error.errno not in PASSING:
            KernelLeg.spliceFails = True

    def _sendHeld(self) -> None:
        if self._pipe is None or self._rest:
            super()._sendHeld()
        else:
            self._emptyPipe(self._pipe)

    def _held(self) -> int:
        return super()._held() + (0 if self._pipe is None else self._pipe.filled)
