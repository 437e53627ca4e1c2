"""`ptunnel demo`: `ptunnel.cli.commands.demo`, `ptunnel.demo.tour` and `ptunnel.demo.peers`."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.cli.commands.demo import follow, main
from ptunnel.demo import tour as module
from ptunnel.demo.littleproxy import LittleProxy
from ptunnel.demo.peers import BLOCK, Echo, epilogue, noise
from ptunnel.demo.tour import Tour
from ptunnel.errors import Unreachable
from ptunnel.log import Log
from tests.support.loopback import takenPort

# A little more than the kernel's buffers hold, and not a multiple of anything.
SIZE = 8_000_003
TITLES = ["a page", "256 MiB", "half-close", "wrong password", "forbidden port"]
# Seconds for a process that has hung, which is no part of what is tested.
PATIENCE = 150
# Ctrl-C is ignored in what a shell has started in the background, as it may have this.
KEEP = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from ptunnel.cli.commands.demo import main
sys.exit(main(["--keep"], size={SIZE}))
"""


def captureOutput(case: Any) -> io.StringIO:
    output = io.StringIO()
    case.patch(sys, "stdout", output)
    return output


class ProcessTests(SynchronousTestCase):
    def test_itTakesEveryStepWithinEightyColumnsAndEndsWith0(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "ptunnel", "demo"],
            capture_output=True,
            encoding="ascii",
            check=False,
            timeout=PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        lines = done.stdout.splitlines()
        self.assertIn("loopback only", lines[0])
        self.assertEqual([x[8:24].strip() for x in lines if x.startswith("ok  ")], TITLES)
        self.assertNotIn("FAILED", done.stdout)
        self.assertTrue(all(len(x) <= 80 for x in lines), done.stdout)

    def test_keepLeavesItRunningUntilCtrlC(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", KEEP],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self.addCleanup(process.kill)
            assert process.stdout is not None and process.stderr is not None
            shown = ""
            while "Ctrl-C stops" not in shown:
                line = process.stdout.readline()
                self.assertTrue(line, shown)
                shown += line
            found = re.search(r"^nc ([\d.]+) (\d+)$", shown, re.MULTILINE)
            assert found is not None, shown
            with socket.create_connection((found[1], int(found[2])), PATIENCE) as client:
                client.sendall(b"by hand")
                client.shutdown(socket.SHUT_WR)
                with client.makefile("rb") as answer:
                    self.assertTrue(answer.read().startswith(b"by handThat was 7 bytes"))
            # As a terminal's Ctrl-C does; nothing but sessions by hand has been logged by then.
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=PATIENCE)
            self.assertEqual((process.returncode, errors), (0, ""))
            self.assertRegex(rest, r"\A\s*\S+ info +echo: .* 7 bytes out, .*\n\Z")


class OptionTests(SynchronousTestCase):
    def assertExits(self, code: int, *words: str) -> None:
        error = self.assertRaises(SystemExit, main, words)
        self.assertEqual(error.code, code)

    def test_aMistakeIs2AndOneLine(self) -> None:
        for words, part in ((["loop"], "'loop'"), (["--keep=1"], "--keep"), (["-x"], "-x")):
            errors = io.StringIO()
            self.patch(sys, "stderr", errors)
            self.assertExits(2, *words)
            self.assertRegex(errors.getvalue(), r"\Aptunnel: [^\n]*\n\Z")
            self.assertIn(part, errors.getvalue())

    def test_helpNamesTheCommandAndItsOptions(self) -> None:
        for word in "-h", "--help":
            output = captureOutput(self)
            self.assertExits(0, word)
            self.assertTrue(output.getvalue().startswith("Usage: ptunnel demo"))
            self.assertIn("--keep", output.getvalue())


class FollowTests(SynchronousTestCase):
    """The order of events, without a reactor."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.output = captureOutput(self)
        self.waiting: Deferred[str] = Deferred()

    async def works(self) -> str:
        return "all is well"

    async def fails(self) -> str:
        raise Unreachable("cannot reach it", hint="is it there?")

    async def waits(self) -> str:
        return await self.waiting

    def follow(self, *steps: Any) -> Deferred[bool]:
        coroutine: Coroutine[Any, Any, bool] = follow(
            [(step.__name__, step) for step in steps], self.clock, limit=120
        )
        return Deferred.fromCoroutine(coroutine)

    def assertShown(self, *lines: str) -> None:
        self.assertEqual(
            [" ".join(x.split()) for x in self.output.getvalue().splitlines()], [*lines]
        )

    def test_stepsThatGoAsTheyShould(self) -> None:
        self.assertTrue(self.successResultOf(self.follow(self.works, self.works)))
        self.assertShown("ok works all is well", "ok works all is well")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aStepThatFailsSaysWhyAndTheOthersAreTaken(self) -> None:
        self.assertFalse(self.successResultOf(self.follow(self.fails, self.works)))
        self.assertShown("FAILED fails cannot reach it (is it there?)", "ok works all is well")

    def test_aStepThatHangsIsNamedAndIsTheLast(self) -> None:
        done = self.follow(self.works, self.waits, self.works)
        self.clock.advance(119)
        self.assertNoResult(done)
        self.clock.advance(1)
        self.assertFalse(self.successResultOf(done))
        shown = self.output.getvalue().splitlines()
        self.assertEqual(len([x for x in shown if x[:1].strip()]), 2)
        self.assertTrue(shown[1].startswith("FAILED  waits           hung: "))
        self.assertIn("120 s", " ".join(shown))

    def test_theTimeIsForAllStepsTogether(self) -> None:
        first: Deferred[str] = self.waiting
        done = self.follow(self.waits, self.waits)
        self.clock.advance(100)
        self.waiting = Deferred()
        first.callback("late")
        self.clock.advance(20)
        self.assertFalse(self.successResultOf(done))

    def test_cancellingItEndsItWhateverTheStepMakesOfThat(self) -> None:
        self.waiting = Deferred(lambda d: d.errback(Unreachable("cancelled")))
        done = self.follow(self.waits, self.works)
        done.cancel()
        self.failureResultOf(done, CancelledError)
        self.assertShown()


class TalkTests(SynchronousTestCase):
    def test_noiseHasItsSizeAndNoTwoBlocksAreTheSame(self) -> None:
        for size in 0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 1:
            blocks = list(noise(size))
            self.assertEqual(sum(map(len, blocks)), size)
            self.assertEqual(len(set(blocks)), len(blocks))

    def test_theEchoIsNotReadFromWhileItIsNotReadByItsClient(self) -> None:
        transport = StringTransport()
        Echo().makeConnection(transport)
        self.assertIs(transport.producer, transport)
        self.assertTrue(transport.streaming)


class BadEcho(Echo):
    """Changes the first byte of what it sends back."""

    def dataReceived(self, data: bytes) -> None:
        self._count += len(data)
        self._digest.update(data)
        cast(Any, self.transport).write(bytes([data[0] ^ 1]) + data[1:])


class TourTests(TestCase):
    """Over loopback: what it is for is what a kernel does."""

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.output = captureOutput(self)
        self.tour = Tour(self.reactor, SIZE, Log("none"))
        self.addCleanup(self.tour.stop)

    def take(self) -> Deferred[dict[str, str]]:
        """Take all steps; gives the mark of each title."""

        async def take() -> dict[str, str]:
            self.tour.start()
            passed = await follow(self.tour.steps(), self.reactor)
            marks = re.findall(r"^(\w+) +(\S+( \S+)?)", self.output.getvalue(), re.MULTILINE)
            self.assertEqual(passed, {mark for mark, *_ in marks} == {"ok"})
            return {title: mark for mark, title, _ in marks}

        return Deferred.fromCoroutine(take())

    async def goes(self) -> None:
        marks = await self.take()
        self.assertEqual(list(marks.values()), ["ok"] * len(TITLES), self.output.getvalue())
        self.assertEqual(
            (self.tour.proxy.connects, self.tour.proxy.refusals), (3, {407: 5, 403: 2})
        )

    def test_everyStepGoesAsItShould(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.goes())

    async def fails(self, why: str, *titles: str) -> None:
        marks = await self.take()
        self.assertEqual([x for x in marks if marks[x] == "FAILED"], list(titles))
        self.assertEqual(self.output.getvalue().count(why), len(titles), self.output.getvalue())

    def test_bytesThatAreDamagedOnTheirWayBackAreFound(self) -> Deferred[None]:
        self.patch(module, "Echo", BadEcho)
        why = "what came back is not what was sent"
        return Deferred.fromCoroutine(self.fails(why, "7 MiB", "half-close"))

    def test_aServerThatGotSomethingElseIsFound(self) -> Deferred[None]:
        self.patch(module, "epilogue", lambda count, digest: epilogue(count + 1, digest))
        why = "the server got something else"
        return Deferred.fromCoroutine(self.fails(why, "7 MiB", "half-close"))

    def test_aConnectionThatIsCutAtTheFirstEndOfFileIsFound(self) -> Deferred[None]:
        self.patch(Echo, "readConnectionLost", lambda echo: echo.transport.loseConnection())
        why = "nothing came that the server"
        return Deferred.fromCoroutine(self.fails(why, "7 MiB", "half-close"))

    def test_aProxyThatAllowsAPortIsFound(self) -> Deferred[None]:
        self.patch(LittleProxy, "objection", lambda proxy, request: None)
        self.patch(module, "SMTP", takenPort(self))
        why = "the proxy did not refuse"
        return Deferred.fromCoroutine(self.fails(why, "wrong password", "forbidden port"))
