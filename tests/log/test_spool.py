"""Streams that make no writer wait: `ptunnel.log.spool`."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import sys
import threading
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from ptunnel.log import spool as module
from ptunnel.log.spool import LIMIT, UNREAD, Spool, finishAll, unblock

LINE = "x" * 99 + "\n"


def describe(count: int, why: str) -> str:
    return f"{count} lost {why}"


class Sink:
    """What a descriptor leads to.

    @ivar got: what was written.
    @ivar errors: what the next writes fail with; None: one that succeeds.
    @ivar most: bytes that it takes at once.
    """

    def __init__(self) -> None:
        self.got = b""
        self.errors: list[OSError | None] = []
        self.most = 1 << 20
        self.reads = threading.Event()  # whether anybody reads it
        self.reads.set()
        self.reached = threading.Event()  # whether a write waits, or has been done

    def write(self, descriptor: int, data: bytes) -> int:
        self.reached.set()
        self.reads.wait()
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.got += data[: self.most]
        return min(len(data), self.most)

    def lines(self) -> list[str]:
        return self.got.decode().splitlines()


class SpoolCase(SynchronousTestCase):
    def setUp(self) -> None:
        """A busy machine may not come to the thread for longer than the end of a process waits."""
        for limit in "STUCK", "SLOW":
            self.patch(module, limit, 60.0)


class SpoolTests(SpoolCase):
    def setUp(self) -> None:
        super().setUp()
        self.sink = Sink()
        self.addCleanup(self.sink.reads.set)
        self.spool = Spool(-1, describe, write=self.sink.write)

    def stick(self) -> None:
        """Let nobody read any more; one write is under way."""
        self.sink.reads.clear()
        self.sink.reached.clear()
        self.spool.write("first\n")
        self.sink.reached.wait()

    def test_linesComeOutAsTheyAreAndInTheirOrder(self) -> None:
        for number in range(1000):
            print(number, file=self.spool)
        self.spool.finish()
        self.assertEqual(self.sink.lines(), [str(number) for number in range(1000)])

    def test_aLineThatIsNotWholeWaitsForItsEnd(self) -> None:
        self.spool.write("one\ntw")
        self.spool._partial, partial = "", self.spool._partial
        self.spool.finish()
        self.assertEqual(self.sink.got, b"one\n")
        self.spool.write(partial + "o")
        self.spool.finish()  # the end of the process is one too
        self.assertEqual(self.sink.got, b"one\ntwo\n")

    def test_aReaderThatIsStuckHoldsNobodyUpAndIsToldWhatItMissed(self) -> None:
        self.stick()
        written = 2 * LIMIT // len(LINE)
        for _ in range(written):
            self.spool.write(LINE)
        self.sink.reads.set()
        self.spool.finish()
        _, *kept, lost = self.sink.lines()
        self.assertEqual(set(kept), {LINE.strip()})
        self.assertEqual(len(kept), LIMIT // len(LINE))
        self.assertEqual(lost, f"{written - len(kept)} lost {UNREAD}")

    def test_whatIsWrittenAfterwardsComesBehindTheLineAboutTheLost(self) -> None:
        self.stick()
        for _ in range(LIMIT // len(LINE) + 3):
            self.spool.write(LINE)
        self.sink.reads.set()
        self.spool.finish()
        self.spool.write("later\n")
        self.spool.finish()
        self.assertEqual(self.sink.lines()[-2:], [f"3 lost {UNREAD}", "later"])

    def test_theEndOfTheProcessDoesNotWaitForAReaderThatIsStuck(self) -> None:
        self.patch(module, "STUCK", 0.01)
        self.stick()
        self.spool.finish()
        self.assertEqual(self.sink.got, b"")

    def test_aMachineThatStandsStillIsNoReaderThatIsStuck(self) -> None:
        really, waits = self.spool._changed.wait_for, []

        def waitFor(goesOn: Callable[[], bool], seconds: float) -> bool:
            waits.append(seconds)
            if len(waits) == 1:  # the time is over, and the thread has not run
                return False
            self.sink.reads.set()
            return really(goesOn, seconds)

        self.patch(module, "SLOW", 0.0)
        self.patch(self.spool._changed, "wait_for", waitFor)
        self.stick()
        self.spool.finish()
        self.assertEqual(self.sink.got, b"first\n")

    def test_aSlowReaderIsNotWaitedForForEver(self) -> None:
        self.patch(module, "SLOW", 0.0)
        self.patch(self.spool._changed, "wait_for", lambda goesOn, seconds: True)  # it takes some
        self.stick()
        self.spool.finish()
        self.assertEqual(self.sink.got, b"")

    def test_aDiskThatWasFullIsWrittenToAgain(self) -> None:
        full = OSError(errno.ENOSPC, "No space left on device")
        self.sink.errors = [full, full]
        for text in "one\n", "two\n", "three\n":
            self.spool.write(text)
            self.spool.finish()
        self.assertEqual(self.sink.lines(), ["2 lost (no space left on device)", "three"])

    def test_aLineOfWhichOnlyHalfWasWrittenIsEndedBeforeTheNext(self) -> None:
        self.sink.most = 3
        self.sink.errors = [None, OSError(errno.EIO, "Input/output error")]
        self.spool.write("halves\n")
        self.spool.finish()
        self.spool.write("whole\n")
        self.spool.finish()
        self.assertEqual(self.sink.lines(), ["hal", "1 lost (input/output error)", "whole"])

    def test_whatIsTakenInPartsIsWhole(self) -> None:
        self.sink.most = 7
        self.spool.write(LINE * 20)
        self.spool.finish()
        self.assertEqual(self.sink.got.decode(), LINE * 20)

    def test_whereTheSystemHasNoThreadLinesAreLostAndThatIsSaid(self) -> None:
        def none(thread: object) -> None:
            raise RuntimeError("can't start new thread")

        patched = self.patch(threading.Thread, "start", none)
        self.spool.write("one\ntwo\n")
        patched.restore()
        self.spool.write("three\n")
        self.spool.finish()
        self.assertEqual(self.sink.lines(), [f"2 lost {UNREAD}", "three"])

    def test_whatAnEncodingLacksIsEscaped(self) -> None:
        for encoding, text in ("ascii", rb"\xe9\udcff"), ("utf-8", b"\xc3\xa9\\udcff"):
            sink = Sink()
            spool = Spool(-1, describe, encoding, sink.write)
            spool.write("\xe9\udcff\n")
            spool.finish()
            self.assertEqual(sink.got, text + b"\n")

    def test_itIsAStreamToWriteToAndNotToRead(self) -> None:
        self.assertTrue(self.spool.writable())
        self.assertFalse(self.spool.readable())
        self.assertEqual(self.spool.encoding, "utf-8")


class DescriptorTests(SynchronousTestCase):
    """What the kernel does."""

    def setUp(self) -> None:
        self.reader, self.writer = os.pipe()
        self.addCleanup(os.close, self.reader)
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def test_aFullPipeIsWaitedForWhetherItBlocksOrNotAndKeepsItsFlags(self) -> None:
        for blocking in True, False:
            os.set_blocking(self.writer, blocking)
            spool = Spool(self.writer, describe)
            spool.write(LINE * 400)
            got = b""
            while len(got) < 400 * len(LINE):
                got += os.read(self.reader, 65536)
            spool.finish()
            self.assertEqual(got.decode(), LINE * 400)
            self.assertEqual(os.get_blocking(self.writer), blocking)
        os.close(self.writer)

    def test_aReaderThatHasGoneIsNoError(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        spool = Spool(writer, describe)
        spool.write("lost\n")
        spool.finish()
        os.close(writer)


class StandardStreamTests(SpoolCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(module, "_spools", [])
        self.patch(module.atexit, "register", lambda call: None)

    def test_aSpoolTakesThePlaceOfTheStreamAndFinishesWithTheProcess(self) -> None:
        path = self.mktemp()
        with open(path, "w") as stream:
            self.patch(sys, "stderr", stream)
            self.assertIs(unblock("stderr", describe), sys.stderr)
            self.assertIsInstance(sys.stderr, Spool)
            self.assertIs(unblock("stderr", describe), sys.stderr)
            print("said", file=sys.stderr)
            finishAll()
            with open(path) as written:
                self.assertEqual(written.read(), "said\n")

    def test_aStreamWithoutADescriptorStays(self) -> None:
        stream = io.StringIO()
        self.patch(sys, "stderr", stream)
        self.assertIs(unblock("stderr", describe), stream)
        self.assertIs(sys.stderr, stream)

    def test_whatIsWrittenWhereTheStreamWasClosedGoesNowhere(self) -> None:
        self.patch(sys, "stdout", None)
        stream = unblock("stdout", describe)
        self.addCleanup(stream.close)
        self.assertGreater(stream.fileno(), 2)
        print("nowhere", file=stream, flush=True)
