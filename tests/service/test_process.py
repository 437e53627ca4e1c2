"""What a process of ptunnel's own does: `ptunnel.service.process`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.internet.selectreactor import SelectReactor
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.log import Log
from ptunnel.service import process as module
from ptunnel.service.process import (
    LAST_RESORT,
    adopt,
    endBySignals,
    handleSignals,
    holdHangUp,
    withoutCurrentFolder,
)
from tests.support.loopback import captureLog, lines

SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
)


class FakeReactor:
    """@ivar calls: what it was asked for from within signal handlers."""

    def __init__(self) -> None:
        self.running = True
        self.calls: list[Callable[[], object]] = []
        self.ending: list[Callable[[], object]] = []
        self.started: list[Callable[[], object]] = []

    def callFromThread(self, call: Callable[..., object], *arguments: object) -> None:
        self.calls.append(lambda: call(*arguments))

    def callWhenRunning(self, call: Callable[[], object]) -> None:
        self.started.append(call)

    def addSystemEventTrigger(self, phase: str, event: str, call: Callable[[], object]) -> None:
        assert (phase, event) == ("after", "shutdown")
        self.ending.append(call)

    def stop(self) -> None:
        if not self.running:
            raise ReactorNotRunning
        self.running = False


class FakeService:
    stopTimeout: float | None = 30.0
    aborted = 0

    def abort(self) -> None:
        self.aborted += 1


class SignalsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        self.reactor, self.service = FakeReactor(), FakeService()
        self.handlers: dict[int, Any] = dict.fromkeys(SIGNALS, signal.SIG_DFL)
        self.handlers[signal.SIGINT] = signal.default_int_handler
        self.alarms: list[float] = []
        self.stoppedBy: list[int] = []
        self.early: list[int] = []
        self.reloads: list[bool] = []
        self.foreground = self.terminal = False
        self.patch(module, "isForeground", lambda: self.foreground)
        self.patch(module, "hasTerminal", lambda: self.terminal)
        self.patch(signal, "signal", self.handlers.__setitem__)
        self.patch(signal, "getsignal", self.handlers.__getitem__)
        self.patch(signal, "setitimer", lambda which, seconds: self.alarms.append(seconds))

    def handle(self, *, isWorker: bool = False) -> None:
        remember = self.stoppedBy.append
        reload = None if isWorker else lambda: self.reloads.append(self.reactor.running)
        handleSignals(
            self.reactor,
            self.service,
            Log(),
            reload=reload,
            early=self.early,
            remember=remember,
        )

    def send(self, *numbers: int) -> None:
        for number in numbers:
            self.handlers[number](number, None)
        calls, self.reactor.calls = self.reactor.calls, []
        for call in calls:
            call()


class SignalsTests(SignalsCase):
    def test_theFirstOneStopsAndTheSecondOneAborts(self) -> None:
        for numbers in ((15, 15), (2, 2), (15, 2)):
            self.setUp()
            self.handle()
            self.send(numbers[0])
            self.assertEqual((self.reactor.running, self.service.aborted), (False, 0))
            self.send(numbers[1])
            self.assertEqual(self.service.aborted, 1)
            self.assertEqual(self.stoppedBy, [numbers[0]])

    def test_twoAtOnceStopOnce(self) -> None:
        self.handle()
        self.send(15, 2)
        self.assertEqual((self.reactor.running, self.service.aborted), (False, 1))

    def test_aHangUpReloads(self) -> None:
        self.handle()
        self.send(1)
        self.send(1)
        self.assertEqual((self.reloads, self.service.aborted), ([True, True], 0))
        self.assertEqual((lines(self.events), self.stoppedBy, self.alarms), ([], [], []))

    def test_SIGUSR2StartsTheNextProcessWhereThereIsAHandOver(self) -> None:
        started: list[int] = []
        reload = self.reloads.append
        handleSignals(
            self.reactor,
            self.service,
            Log(),
            reload=lambda: reload(True),
            succeed=lambda: started.append(1),
        )
        self.send(signal.SIGUSR2)
        self.assertEqual((started, self.reactor.running, self.reloads), ([1], True, []))
        self.send(15)
        self.send(signal.SIGUSR2)
        self.assertEqual(started, [1])

    def test_severalHangUpsAtOnceReloadOnce(self) -> None:
        self.handle()
        self.send(1, 1, 1)
        self.assertEqual(self.reloads, [True])

    def test_aHangUpWhileItStopsReloadsNothingAndSaysSo(self) -> None:
        self.handle()
        self.send(15)
        self.send(1)
        self.assertEqual((self.reloads, self.service.aborted), ([], 0))
        self.assertEqual(lines(self.events), ["info: SIGHUP: not reloaded: stopping"])

    def test_aStopRightBehindAHangUpReloadsNothing(self) -> None:
        self.handle()
        self.send(1, 15)
        self.assertEqual((self.reloads, self.reactor.running), ([], False))

    def test_aHangUpAtTheStartReloadsWhenTheReactorRuns(self) -> None:
        held = holdHangUp()
        self.handlers[signal.SIGHUP](1, None)
        self.handlers[signal.SIGHUP](1, None)
        self.early = held
        self.handle()
        self.send()
        self.assertEqual(self.reloads, [])
        for call in self.reactor.started:
            call()
        self.send()
        self.assertEqual(self.reloads, [True])

    def test_aHangUpThatIsIgnoredIsNotHeld(self) -> None:
        self.handlers[signal.SIGHUP] = signal.SIG_IGN
        holdHangUp()
        self.assertEqual(self.handlers[signal.SIGHUP], signal.SIG_IGN)

    def test_aHangUpReloadsAsLongAsTheTerminalIsThere(self) -> None:
        self.foreground = self.terminal = True
        self.handle()
        self.send(1)
        self.assertEqual(self.reloads, [True])

    def test_oneThatBeganInTheBackgroundReloadsWithoutItsTerminal(self) -> None:
        self.handle()
        self.send(1)
        self.assertEqual(self.reloads, [True])

    def test_aTerminalThatGoesStopsItAndNeverAborts(self) -> None:
        self.foreground = True
        self.handle()
        self.send(1)
        self.assertEqual(self.reloads, [])
        self.assertFalse(self.reactor.running)
        [line] = lines(self.events)
        self.assertIn("SIGHUP: the terminal has gone: stopping", line)
        self.send(15, 1)  # systemd may send both
        self.assertEqual(self.service.aborted, 0)
        self.send(15)
        self.assertEqual(self.service.aborted, 1)

    def test_whatWasIgnoredStaysIgnored(self) -> None:
        for number in signal.SIGINT, signal.SIGHUP, signal.SIGUSR1:
            self.handlers[number] = signal.SIG_IGN
        self.handle()
        for number in signal.SIGINT, signal.SIGHUP, signal.SIGUSR1:
            self.assertEqual(self.handlers[number], signal.SIG_IGN)

    def test_signalsForUsersDoNothingUnlessSomebodyHandlesThem(self) -> None:
        own = object()
        self.handlers[signal.SIGUSR2] = own
        self.handle()
        self.send(signal.SIGUSR1)
        self.assertEqual((self.reactor.running, lines(self.events)), (True, []))
        self.assertIs(self.handlers[signal.SIGUSR2], own)

    def test_aWorkerDrainsAtSIGTERMAndLeavesTheRestToItsParent(self) -> None:
        self.handle(isWorker=True)
        self.send(signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
        self.assertTrue(self.reactor.running)
        self.send(15, 15, 15)
        self.assertEqual((self.reactor.running, self.service.aborted), (False, 0))

    def test_theyAreHandledAgainWhenTheReactorHasPutItsOwnInPlace(self) -> None:
        self.handle()
        self.handlers[signal.SIGTERM] = None
        for call in self.reactor.started:
            call()
        self.send(15)
        self.assertFalse(self.reactor.running)

    def test_aReactorThatHasBeenStoppedOtherwiseIsNoError(self) -> None:
        self.handle()
        self.reactor.stop()
        self.send(15)

    def test_afterTheLoopNoneOfThemChangesTheExitCode(self) -> None:
        self.handle()
        for call in self.reactor.ending:
            call()
        for number in SIGNALS[:-1]:
            self.assertEqual(self.handlers[number], signal.SIG_IGN)

    def test_aStopThatDoesNotComeToItsEndIsEndedBehindTheDrainTimeout(self) -> None:
        left: list[int] = []
        self.patch(module, "leave", left.append)
        self.handle()
        self.send(15)
        self.assertEqual(self.alarms, [30.0 + LAST_RESORT])
        self.send(15)
        self.assertEqual(self.alarms[1:], [LAST_RESORT])
        self.send(signal.SIGALRM)
        self.assertEqual(left, [1])

    def test_withoutASignalItIsTheSame(self) -> None:
        ending = handleSignals(self.reactor, self.service, Log())
        ending.drain()
        ending.drain()
        self.send()
        self.assertEqual((self.reactor.running, self.alarms), (False, [30.0 + LAST_RESORT]))
        ending.abort()
        self.send()
        self.assertEqual((self.service.aborted, self.alarms[1:]), (1, [LAST_RESORT]))

    def test_withoutADrainTimeoutOnlyTheSecondOneLimitsTheStop(self) -> None:
        self.service.stopTimeout = None
        self.handle()
        self.send(15)
        self.assertEqual(self.alarms, [])
        self.send(15)
        self.assertEqual(self.alarms, [LAST_RESORT])


class CommandSignalsTests(SignalsCase):
    """Those of a command that runs once."""

    def setUp(self) -> None:
        super().setUp()
        self.ended = self.restored = 0
        self.left: list[int] = []

        def leave(code: int) -> None:
            self.left.append(code)
            raise SystemExit(code)

        self.patch(module, "leave", leave)

    def end(self) -> None:
        self.ended += 1

    def restore(self) -> None:
        self.restored += 1

    def test_eachEndsItOnceWithTheExitCodeOfAShell(self) -> None:
        for number, code in (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129):
            self.setUp()
            codes = endBySignals(self.reactor, self.end, self.restore)
            self.assertEqual(codes, [])
            self.send(number)
            self.assertEqual((self.ended, codes, self.left), (1, [code], []))

    def test_aSecondOneOrALongTimeLeavesTheProcessAndPutsThingsRight(self) -> None:
        for second in signal.SIGTERM, signal.SIGALRM:
            self.setUp()
            codes = endBySignals(self.reactor, self.end, self.restore)
            self.send(signal.SIGINT)
            self.assertEqual(self.alarms, [LAST_RESORT])
            self.assertRaises(SystemExit, self.send, second)
            self.assertEqual((codes, self.left, self.restored), ([130], [130], 1))

    def test_whatWasIgnoredStaysIgnoredWhateverTheReactorDoes(self) -> None:
        for number in signal.SIGINT, signal.SIGHUP, signal.SIGTERM:
            self.handlers[number] = signal.SIG_IGN
        endBySignals(self.reactor, self.end)
        self.handlers[signal.SIGTERM] = "the reactor's"
        for call in self.reactor.started:
            call()
        for number in signal.SIGINT, signal.SIGHUP, signal.SIGTERM:
            self.assertEqual(self.handlers[number], signal.SIG_IGN)

    def test_afterTheLoopNoneOfThemChangesTheExitCode(self) -> None:
        endBySignals(self.reactor, self.end)
        for call in self.reactor.ending:
            call()
        for number in signal.SIGINT, signal.SIGHUP, signal.SIGTERM:
            self.assertEqual(self.handlers[number], signal.SIG_IGN)


class PathTests(SynchronousTestCase):
    """Where the modules of an interpreter that is started come from."""

    def setUp(self) -> None:
        self.folder = os.path.realpath(self.mktemp())
        os.mkdir(self.folder)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def test_itIsTheSameWithoutTheCurrentFolderHoweverThatIsWritten(self) -> None:
        os.symlink(self.folder, "link")
        path = ["", ".", self.folder, f"{self.folder}/link", "/usr/lib/python3.zip", "lib"]
        self.assertEqual(
            withoutCurrentFolder(path, "/site-packages/ptunnel"),
            ["/usr/lib/python3.zip", f"{self.folder}/lib"],
        )

    def test_theFolderInWhichWeLieStays(self) -> None:
        path = [self.folder, "/usr/lib"]
        self.assertEqual(withoutCurrentFolder(path, f"{self.folder}/ptunnel"), path)

    def test_aProgramInOneFileIsKept(self) -> None:
        path = ["ptunnel.pyz", "/usr/lib"]
        self.assertEqual(
            withoutCurrentFolder(path, f"{self.folder}/ptunnel.pyz/ptunnel"),
            [f"{self.folder}/ptunnel.pyz", "/usr/lib"],
        )

    def test_whereTheCurrentFolderIsGoneOnlyWholePathsCount(self) -> None:
        os.rmdir(self.folder)
        path = ["", "lib", "/usr/lib"]
        self.assertEqual(withoutCurrentFolder(path, "/site-packages/ptunnel"), ["/usr/lib"])


class ReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = SelectReactor()
        self.addCleanup(self.reactor.removeAll)

    def test_itsClockIsNotTheMachines(self) -> None:
        adopt(self.reactor)
        self.patch(time, "time", lambda: 0.0)
        call = self.reactor.callLater(5.0, lambda: None)
        self.addCleanup(call.cancel)
        self.assertTrue(0 <= call.getTime() - time.monotonic() <= 5)

    def test_whatIsScheduledAlreadyKeepsItsTime(self) -> None:
        call = self.reactor.callLater(5.0, lambda: None)
        self.addCleanup(call.cancel)
        adopt(self.reactor)
        self.assertIsNot(self.reactor.seconds, time.monotonic)

    def test_anotherProgramsReactorIsAsItWas(self) -> None:
        adopt(object())

    def test_itsThreadsAreNotWaitedFor(self) -> None:
        adopt(self.reactor)
        thread = self.reactor.getThreadPool().threadFactory(target=lambda: None)
        self.assertTrue(thread.daemon)
        self.assertNotIn(
            self.reactor._stopThreadPool,
            [call for call, _, _ in self.reactor._eventTriggers["shutdown"].during],
        )


class StartedAsAModuleTests(SynchronousTestCase):
    """`python -m ptunnel`, while Python looks for the package: what `_folder` does then."""

    def setUp(self) -> None:
        from ptunnel import _folder

        self.leave = _folder.leave
        self.patch(sys, "argv", ["-m"])
        self.patch(sys, "orig_argv", [sys.executable, "-m", "ptunnel"])
        self.patch(sys, "path", [os.getcwd(), "/usr/lib"])

    def test_theCurrentFolderLeavesThePath(self) -> None:
        self.leave()
        self.assertEqual(sys.path, ["/usr/lib"])

    def test_aFolderThatHasBeenRemovedIsNoError(self) -> None:
        def removed() -> str:
            raise FileNotFoundError

        self.patch(os, "getcwd", removed)
        self.leave()

    def test_anotherProgramsPathStays(self) -> None:
        for words in ["prog.py"], ["-m"]:
            self.patch(sys, "argv", words)
            self.patch(sys, "orig_argv", [sys.executable, "-m", "other"])
            self.leave()
            self.assertEqual(sys.path, [os.getcwd(), "/usr/lib"])
