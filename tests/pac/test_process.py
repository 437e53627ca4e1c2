"""A PAC file in a real process, with what only that ends: `ptunnel.pac.process` and the sandbox."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.causes import PAC_SLOW
from ptunnel.errors import PacFailed
from ptunnel.pac.engine import Engine
from ptunnel.pac.process import AT_ONCE, MAX_LINE, PATIENCE, Process

NO_ENGINE = None if find_spec("quickjs") else "quickjs-ng is not installed"


class RealTests(TestCase):
    skip = NO_ENGINE
    timeout = 120

    def engine(self, body: str) -> Engine:
        from twisted.internet import reactor

        engine = Engine(reactor, "work", f"function FindProxyForURL(url, host) {{ {body} }}")
        self.addCleanup(engine.close)
        return engine

    async def test_itAnswersAndForgetsNothing(self) -> None:
        engine = self.engine(
            "return `PROXY ${host}:${FindProxyForURL.n = 1 + (FindProxyForURL.n | 0)}`"
        )
        await engine.load()
        self.assertEqual(await engine.evaluate("https://a/", "a"), "PROXY a:1")
        self.assertEqual(await engine.evaluate("https://b/", "b"), "PROXY b:2")

    async def test_whatTheEngineCannotInterruptEndsWithTheProcess(self) -> None:
        engine = self.engine(
            "if (host == 'bad') 'a'.repeat(1e6).indexOf('a'.repeat(5e5) + 'b'); return 'DIRECT'"
        )
        try:
            await engine.evaluate("https://bad/", "bad")
        except PacFailed as e:
            self.assertIs(e.cause, PAC_SLOW)
        else:
            self.fail("it came to an end")
        self.assertEqual(await engine.evaluate("https://good/", "good"), "DIRECT")

    async def test_namesAreResolved(self) -> None:
        engine = self.engine("return dnsResolve('localhost') + ' ' + isResolvable('no.invalid')")
        self.assertEqual(await engine.evaluate("https://a/", "a"), "127.0.0.1 false")

    async def test_withoutTheEngineItSaysSo(self) -> None:
        engine = self.engine("return 'DIRECT'")
        with mock.patch("ptunnel.pac.process.find_spec", lambda name: None):
            loading = engine.load()
        try:
            await loading
        except PacFailed as e:
            self.assertIn("No module named 'quickjs'", e.message)
        else:
            self.fail("it was loaded")


class Transport:
    """A process's, to look at."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.signals: list[str] = []

        self.pipes = {0: self}

    def fileno(self) -> int:
        raise OSError("it is not open")  # so it is written by `write`

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def loseConnection(self) -> None:
        self.signals.append("lost")

    def signalProcess(self, name: str) -> None:
        self.signals.append(name)


class End:
    def __init__(self, signal: int | None, code: int | None = None) -> None:
        self.signal, self.exitCode = signal, code


class ProcessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.answers: list[Any] = []
        self.ends: list[str] = []
        self.process = Process(self.clock, self.answers.append, self.ends.append)
        self.transport = self.process.transport = Transport()

    def die(self, signal: int | None = None, code: int | None = None) -> None:
        reason = mock.Mock(spec=Failure, value=End(signal, code))
        self.process.processEnded(reason)

    def test_anAnswerMayComeInParts(self) -> None:
        self.process.ask(["a"])
        self.assertEqual(self.transport.written, [b'["a"]\n'])
        self.process.outReceived(b'{"answer": ')
        self.assertTrue(self.process.isAsked)
        self.process.outReceived(b'"x"}\n')
        self.assertEqual(self.answers, [{"answer": "x"}])
        self.assertFalse(self.process.isAsked)
        self.clock.advance(PATIENCE)
        self.assertEqual((self.transport.signals, self.clock.getDelayedCalls()), ([], []))

    def test_whatFitsIsWrittenAtOnceAndMoreByTheReactor(self) -> None:
        mine, other = os.pipe()
        self.addCleanup(os.close, mine)
        self.addCleanup(os.close, other)
        self.patch(self.transport, "fileno", lambda: other)
        self.process.ask(["a"])
        self.assertEqual((os.read(mine, 100), self.transport.written), (b'["a"]\n', []))
        self.process.ask(["x" * AT_ONCE])
        self.assertEqual(len(self.transport.written), 1)

    def test_eachAnswerHasItsOwnTime(self) -> None:
        for _ in range(3):
            self.process.ask(["a"])
            self.clock.advance(PATIENCE - 1)
            self.assertEqual(self.transport.signals, [])
            self.process.outReceived(b"{}\n")
        self.process.ask(["a"])
        self.clock.advance(PATIENCE)
        self.clock.advance(1)
        self.assertEqual(self.transport.signals, ["KILL"])

    def test_whatIsNoAnswerEndsIt(self) -> None:
        for data in b"x\n", b"[1]\n", b"{}\n{}\n", b"[" * 100_000 + b"\n", b"x" * (MAX_LINE + 1):
            self.setUp()
            self.process.ask(["a"])
            self.process.outReceived(data)
            self.assertEqual((self.transport.signals, self.answers), (["KILL"], []), data[:9])

    def test_anAnswerThatNobodyAskedForEndsIt(self) -> None:
        self.process.outReceived(b"{}\n")
        self.assertEqual((self.transport.signals, self.answers), (["KILL"], []))

    def test_silenceEndsIt(self) -> None:
        self.process.ask(["a"])
        self.clock.advance(PATIENCE)
        self.assertEqual(self.transport.signals, ["KILL"])
        self.die(signal=9)
        self.assertEqual(self.ends, ["needs more than 15 s"])

    def test_anEndOfItsOwnIsExplained(self) -> None:
        self.process.ask(["a"])
        self.process.errReceived(b"Traceback:\n  x\nMemoryError: \x1b\n")
        self.die(code=1)
        self.assertEqual(
            self.ends, ["cannot be run: its process ended with exit code 1: MemoryError:"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_whoHasEndedItHearsNoMore(self) -> None:
        self.process.ask(["a"])
        self.process.end()
        self.assertEqual(self.transport.signals, ["KILL", "lost"])
        self.process.outReceived(b"{}\n")
        self.die(signal=9)
        self.assertEqual((self.answers, self.ends), ([], []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
