"""The pipes through which the kernel moves bytes from socket to socket by splice(2). Linux only.

They are pooled while any is in use, because making and enlarging one costs more than a splice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import ClassVar

from ptunnel.net.descriptors import PROCESS

# A pipe is 64 KiB unless it is made larger. An unprivileged user's pipes share a budget; beyond it
# the kernel refuses, and the pipe keeps its size.
PIPE = 1024 * 1024
# The most free pipes that are kept for the next bulk direction.
POOL = 16

# Errors of splice(2) that are about the connection. All others are about splice(2) itself: the
# kernel cannot splice these two, or not now, or a sandbox forbids it.
BROKEN = frozenset(
    (
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.EPIPE,
        errno.EPROTO,
        errno.ETIMEDOUT,
    )
)
# Of the others, those that concern these two sockets only, or that pass.
PASSING = frozenset((errno.EINVAL, errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE))

_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux
_FLAGS = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


class Pipe:
    """A pipe between two sockets.

    @cvar free: pipes kept for the next bulk direction; empty while no direction is bulk.
    @cvar used: how many are in use.
    @ivar filled: how many bytes it holds.
    """

    __slots__ = ("_reading", "_writing", "filled")

    free: ClassVar[list[Pipe]] = []
    used: ClassVar[int] = 0

    def __init__(self) -> None:
        # The last quarter of the budget is reserved for sessions.
        if not PROCESS.has(2, share=0.75):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        PROCESS.used += 2
        self.filled = 0
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._writing, _SET_PIPE_SIZE, PIPE)

    @classmethod
    def take(cls) -> Pipe:
        """@raise OSError: when there are no descriptors left."""
        pipe = cls.free.pop() if cls.free else cls()
        Pipe.used += 1
        return pipe

    def giveBack(self) -> None:
        """Pool it, or close it if it holds bytes. Empty the pool if no pipe is in use."""
        Pipe.used -= 1
        if self.filled or len(self.free) >= POOL:
            self._close()
        else:
            self.free.append(self)
        while self.free and not Pipe.used:
            self.free.pop()._close()

    def fill(self, source: int) -> int:
        """@return: how many bytes came; 0 at the end of file."""
        count = os.splice(source, self._writing, PIPE, flags=_FLAGS)
        self.filled += count
        return count

    def empty(self, sink: int) -> None:
        """Send as many bytes as the sink accepts."""
        with contextlib.suppress(BlockingIOError):
            self.filled -= os.splice(self._reading, sink, self.filled, flags=_FLAGS)

    def read(self) -> bytes:
        """Remove all bytes and return them."""
        data = os.read(self._reading, self.filled)
        self.filled = 0
        return data

    def _close(self) -> None:
        PROCESS.used -= 2
        os.close(self._reading)
        os.close(self._writing)
