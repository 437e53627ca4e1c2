"""Text streams that never block their writer: logs on standard output and standard error.

A thread writes, because no other way works for pipes, terminals, sockets and files, and leaves the
flags of the descriptor, which other processes share, unchanged.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TextIO, cast

# The most bytes that wait for a reader: some 2,500 lines. Later lines are dropped.
LIMIT = 256 * 1024
# Seconds to wait at the end of the process: for a reader that takes nothing, and for a slow one.
STUCK, SLOW = 0.25, 2.0

UNREAD = "because nobody read them"

Describe = Callable[[int, str], str]


class Spool(io.TextIOBase):
    """Writes whole lines to a descriptor, in order, from a thread of its own.

    Lines beyond L{LIMIT}, and those that cannot be written, are dropped and counted. A line with
    their number follows as soon as it can be written.

    @ivar writer: what the thread writes with.
    """

    def __init__(
        self,
        descriptor: int,
        describe: Describe,
        encoding: str = "utf-8",
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        """
        @param describe: makes the line about lost lines, from their number and the reason.
        @param write: as C{os.write}.
        """
        self._descriptor = descriptor
        self.writer = _Writer(descriptor, describe, encoding, write, self._advanced)
        self._encoding = encoding
        self._partial = ""
        # Re-entrant: a signal handler may write in the middle of a write.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[bytes | int] = deque()  # a number: that many lines were dropped here
        self._size = 0
        self._thread: threading.Thread | None = None
        self._busy = False
        self._progress = 0

    # As a text stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:  # for others that get the standard stream; io's default is False
        return True

    def write(self, text: str) -> int:
        """Add text; whole lines are passed to the thread. Never blocks and never fails."""
        with self._changed:
            lines, end, self._partial = (self._partial + text).rpartition("\n")
            if end:
                self._add((lines + end).encode(self._encoding, "backslashreplace"))
        return len(text)

    def finish(self) -> None:
        """Wait until all is written, while the reader reads, for at most L{SLOW} seconds."""
        end = time.monotonic() + SLOW
        with self._changed:
            if self._partial:
                self.write("\n")
            idle = 0
            while not self._done():
                if self._changed.wait_for(partial(self._goesOn, self._progress), STUCK / 2):
                    idle = 0
                    if time.monotonic() >= end:
                        return
                else:
                    # The machine may have stood still before the thread could run, but not twice.
                    idle += 1
                    if idle == 2:
                        return

    def _done(self) -> bool:
        return not (self._waiting or self._busy)

    def _goesOn(self, progress: int) -> bool:
        return self._done() or self._progress != progress

    def _add(self, data: bytes) -> None:
        if self._size + len(data) > LIMIT or not self._started():
            lines = data.count(b"\n")
            last = self._waiting[-1] if self._waiting else None
            if isinstance(last, int):
                self._waiting[-1] = last + lines
            else:
                self._waiting.append(lines)
        else:
            self._waiting.append(data)
            self._size += len(data)
        self._changed.notify_all()

    def _started(self) -> bool:
        """Start the thread unless it runs. @return: False where no thread can be started."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        """In the thread: write whatever waits, for ever."""
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._waiting:
                    self._changed.wait()
                items, self._waiting = self._waiting, deque()
                self._size = 0
                self._busy = True
            self.writer.writeAll(items)

    def _advanced(self) -> None:
        """In the thread: note that the reader has taken some bytes."""
        with self._changed:
            self._progress += 1
            self._changed.notify_all()


class _Writer:
    """Writes lines to a descriptor, and counts those that are lost. All in the thread of a Spool.

    @ivar describe: makes the line about lost lines, from their number and the reason.
    """

    def __init__(
        self,
        descriptor: int,
        describe: Describe,
        encoding: str,
        write: Callable[[int, bytes], int],
        advanced: Callable[[], None],
    ) -> None:
        """@param advanced: called after each write."""
        self.describe = describe
        self._descriptor = descriptor
        self._encoding = encoding
        self._write = write
        self._advanced = advanced
        self._lost = 0
        self._why = UNREAD
        self._cut = False

    def writeAll(self, items: Iterable[bytes | int]) -> None:
        """@param items: lines, and numbers of lines that were dropped between them."""
        fine, lines = True, []
        for item in items:
            if isinstance(item, bytes):
                lines.append(item)
                continue
            if lines:
                fine, lines = self._put(b"".join(lines)), []
            self._lost += item
        if lines:
            fine = self._put(b"".join(lines))
        if self._lost and fine:
            self._put(b"")

    def _put(self, data: bytes) -> bool:
        """Write lines, after the one about lines lost before them."""
        start = b"\n" if self._cut else b""
        if self._lost:
            line = self.describe(self._lost, self._why) + "\n"
            start += line.encode(self._encoding, "backslashreplace")
        whole, sent = start + data, 0
        try:
            while sent < len(whole):
                sent += self._some(whole[sent : sent + 65536])
                self._advanced()
        except OSError as e:  # a full disk may have room again later
            if sent:
                self._cut = whole[sent - 1 : sent] != b"\n"
            if sent >= len(start):
                self._lost = 0
            self._lost += data[max(sent - len(start), 0) :].count(b"\n")
            self._why = f"({(e.strerror or str(e)).lower()})"
            return False
        self._lost, self._why, self._cut = 0, UNREAD, False
        return True

    def _some(self, data: bytes) -> int:
        while True:
            try:
                return self._write(self._descriptor, data)
            except BlockingIOError:  # made non-blocking by another process
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()


_spools: list[Spool] = []


def unblock(name: str, describe: Describe) -> TextIO:
    """Replace a standard stream by a Spool, for the rest of the process.

    @param name: "stdout" or "stderr".
    @return: the Spool, or the stream itself where it has no descriptor.
    """
    stream = getattr(sys, name)
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        if stream is None:  # it was closed at the start, and a socket may have its number by now
            stream = open(os.devnull, "w")  # noqa: SIM115
            setattr(sys, name, stream)
        return cast(TextIO, stream)
    if isinstance(stream, Spool):
        stream.writer.describe = describe
        return cast(TextIO, stream)
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    spool = Spool(descriptor, describe, stream.encoding)
    if not _spools:
        atexit.register(finishAll)
    _spools.append(spool)
    setattr(sys, name, spool)
    return cast(TextIO, spool)


def finishAll() -> None:
    """Write out the standard streams, without waiting for a reader that is stuck."""
    for spool in _spools:
        spool.finish()
