"""Workers as their parent sees them: `workers.supervisor`. What they do is in tests/integration."""

from __future__ import annotations

import dataclasses
import errno
import os
import pickle
import signal
import socket
import sys
from dataclasses import replace
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import DIRECT, Settings, TcpListen, Tunnel, UnixListen
from ptunnel.errors import ConfigError
from ptunnel.log import Log
from ptunnel.ports.tunnel import TunnelService
from ptunnel.service.service import GRACE
from ptunnel.workers.child import MAX_LINE
from ptunnel.workers.orders import ABORT, DRAIN, LEAVE, READY, RELOAD, Orders, receiveSockets
from ptunnel.workers.supervisor import Supervisor
from tests.support.loopback import captureLog, lines

# What the supervisor's port is to its workers.
LISTENING = 99


class FakeProcess:
    """
    @ivar heard: what it was told behind its work.
    @ivar sockets: where it gets further ports.
    """

    sockets: socket.socket
    pid = 4711

    def __init__(self, protocol: Any, arguments: list[str]) -> None:
        self.protocol = protocol
        self.arguments = arguments
        self.heard: list[bytes] = []
        self.signals: list[str] = []
        self.gone = False

    def write(self, data: bytes) -> None:
        self.heard.append(data)

    def signalProcess(self, name: str) -> None:
        if self.gone:
            raise ProcessExitedAlready
        self.signals.append(name)

    def says(self, data: bytes, descriptor: int = 1) -> None:
        self.protocol.childDataReceived(descriptor, data)

    def ready(self) -> None:
        self.says(READY + b"\n")

    def ends(self, code: int | None = 1, killedBy: int | None = None) -> None:
        end = ProcessTerminated(code, killedBy) if code or killedBy else ProcessDone(0)
        self.gone = True
        self.protocol.processEnded(Failure(end))


class FakeReactor(MemoryReactorClock):
    """@ivar errors: what starting the next processes fails with."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.errors: list[OSError] = []
        self.stops = 0

    def spawnProcess(
        self, protocol: Any, path: str, arguments: Any, *more: Any, **named: Any
    ) -> Any:
        if self.errors:
            raise self.errors.pop()
        self.processes.append(FakeProcess(protocol, arguments))
        *_, sockets = named["childFDs"]
        self.processes[-1].sockets = socket.socket(fileno=os.dup(sockets))
        return self.processes[-1]

    def callWhenRunning(self, call: Any, *arguments: Any) -> None:
        call(*arguments)

    def stop(self) -> None:
        self.stops += 1


class SupervisorCase(SynchronousTestCase):
    limits: dict[str, Any] = {}

    def setUp(self) -> None:
        self.reactor: Any = FakeReactor()
        self.events = captureLog(self)
        self.emitted: list[str] = []
        tunnel = Tunnel(
            "a", TcpListen("127.0.0.1", 0), "192.0.2.9", 1, via=(DIRECT,), **self.limits
        )
        settings = Settings((tunnel,), {}, workers=2, logLevel="info", **self.limits)
        self.supervisor = Supervisor(self.reactor, settings, Log(), self.emitted.append)
        [service] = self.supervisor.tunnels
        self.patch(service, "stopAccepting", lambda: None)
        self.patch(service, "accepts", False)
        self.patch(service, "fileno", lambda: LISTENING)
        self.settings = settings
        self.addCleanup(self.close)

    def close(self) -> None:
        for process in self.reactor.processes:
            process.sockets.close()
            process.protocol._closeSockets()

    def start(self) -> list[FakeProcess]:
        self.supervisor.startService()
        processes: list[FakeProcess] = self.reactor.processes
        return processes

    def said(self) -> list[str]:
        return lines(self.events)


class ReadyTests(SupervisorCase):
    def test_thatItListensIsSaidOnceWhenTheFirstOneIsReady(self) -> None:
        one, two = self.start()
        self.assertEqual(self.said(), [])
        two.ready()
        one.ready()
        [line] = self.said()
        self.assertIn("a: listening on ", line)
        self.assertEqual(self.emitted, [])

    def assertStatus(self, carried: str) -> None:
        self.assertEqual(self.supervisor.status(), f"1 tunnel listening, {carried}")

    def test_theFiguresSayHowManyAreReady(self) -> None:
        one, two = self.start()
        self.assertEqual(
            self.supervisor.status(), "1 tunnel listening, 0 sessions in 0 of 2 workers"
        )
        one.ready()
        two.ready()
        self.assertEqual(
            self.supervisor.status(), "1 tunnel listening, 0 sessions in 2 of 2 workers"
        )
        two.ends()
        self.assertEqual(
            self.supervisor.status(), "1 tunnel listening, 0 sessions in 1 of 2 workers"
        )

    def test_whereNoneIsEverReadyOneLineSaysSoAndTheExitCodeIs1(self) -> None:
        one, two = self.start()
        one.says(b"Traceback:\n  File x\nImportError: no x\n", 2)
        one.ends()
        self.assertEqual((self.said(), self.reactor.stops), ([], 0))
        two.says(b"ImportError: no x", 2)  # it died within the line
        two.ends()
        self.assertEqual(
            self.said(),
            ["error: no worker can be started: worker 2 ended with 1 (ImportError: no x)"],
        )
        self.assertEqual((self.reactor.stops, self.supervisor.exitCode), (1, 1))
        self.assertEqual(self.emitted, [])
        self.successResultOf(self.supervisor.stopService())
        self.reactor.advance(100)
        self.assertEqual(len(self.reactor.processes), 2)

    def test_aLineWithoutEndIsNotKept(self) -> None:
        one, _ = self.start()
        one.ready()
        one.says(b"x" * (MAX_LINE + 1))
        one.says(b"y\n")
        self.assertEqual(self.emitted, ["x" * (MAX_LINE + 1), "y"])

    def test_whereTheSystemStartsNoneThatIsTheSame(self) -> None:
        self.reactor.errors = [OSError(errno.EAGAIN, "x"), OSError(errno.EMFILE, "x")]
        self.start()
        [line] = self.said()
        self.assertIn("no worker can be started: worker 2 cannot be started: ", line)
        self.assertEqual(self.supervisor.exitCode, 1)

    def test_oneThatDiesEarlyIsStartedAgainWhenAnotherIsReady(self) -> None:
        one, two = self.start()
        one.ends(None, signal.SIGKILL)
        two.ready()
        self.assertEqual(
            self.said()[1:], ["error: worker 1: died of signal 9; starting another in 1 s"]
        )
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 3)
        self.assertEqual(self.supervisor.exitCode, 0)

    def test_oneThatCannotBeStartedAgainIsTriedAgainLater(self) -> None:
        one, _ = self.start()
        one.ready()
        one.ends()
        self.reactor.errors = [OSError(errno.EAGAIN, "x")]
        self.reactor.advance(1)
        self.assertIn("worker 1: cannot be started: ", self.said()[-1])
        self.reactor.advance(2)
        self.assertEqual(len(self.reactor.processes), 3)

    def test_whatOneLogsIsPassedOnEvenWhereItComesInPieces(self) -> None:
        one, two = self.start()
        one.ready()
        one.says(b"a li")
        two.says(b"another\n")
        one.says(b"ne\n")
        self.assertEqual(self.emitted, ["another", "a line"])

    def test_whatOneWritesToStandardErrorIsAnErrorOfIt(self) -> None:
        one, _ = self.start()
        one.ready()
        one.says(b"a line of a library\n", 2)
        self.assertEqual(self.emitted, [])
        self.assertEqual(self.said()[-1], "error: worker 1: a line of a library")


class StopTests(SupervisorCase):
    def start(self) -> list[FakeProcess]:
        processes = super().start()
        for process in processes:
            process.ready()
            process.heard.clear()
        return processes

    def test_itTellsThemToDrainAndWaitsForThem(self) -> None:
        one, two = self.start()
        done = self.supervisor.stopService()
        self.assertEqual((one.heard, two.heard), ([DRAIN], [DRAIN]))
        one.ends(0)
        self.assertNoResult(done)
        two.ends(0)
        self.successResultOf(done)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_whereAnotherProcessHasThePortsTheyLeaveAtOnce(self) -> None:
        one, two = self.start()
        left: list[bool] = []
        self.supervisor.leave = lambda: left.append(True)
        self.supervisor.handedOver(77)
        self.assertEqual((one.heard, two.heard, left), ([LEAVE], [LEAVE], [True]))

    def test_abortReachesThemAll(self) -> None:
        one, two = self.start()
        self.supervisor.stopService()
        self.supervisor.abort()
        self.assertEqual((one.heard, two.heard), ([DRAIN, ABORT], [DRAIN, ABORT]))

    def test_oneThatDoesNotEndIsKilledBehindTheDrainTimeout(self) -> None:
        one, two = self.start()
        done = self.supervisor.stopService()
        one.ends(0)
        self.reactor.advance(30 + 2 * GRACE - 0.1)
        self.assertEqual(two.signals, [])
        self.reactor.advance(0.2)
        self.assertEqual((one.signals, two.signals), ([], ["KILL"]))
        self.assertEqual(self.said()[-1], "error: worker 2: it does not end, and is killed")
        two.ends(None, signal.SIGKILL)
        self.successResultOf(done)

    def test_oneLineForAllOfThemSaysWhatIsWaitedForAndWhatItCost(self) -> None:
        one, two = self.start()
        done = self.supervisor.stopService()
        self.events.clear()
        one.says(b"\0waiting 3\n")
        self.assertEqual(self.said(), [])
        two.says(b"\0waiting 4\n")
        self.assertEqual(self.said(), ["info: stopping: waiting for 7 sessions, for at most 30 s"])
        one.says(b"\0stopped 1 2\n")
        one.ends(0)
        two.says(b"\0stopped 4 0\n")
        two.ends(0)
        self.successResultOf(done)
        self.assertEqual(self.said()[1:], ["warn: stopped: 2 sessions were cut; 5 ended in time"])
        self.assertEqual(self.emitted, [])

    def test_oneThatHasEndedByThenIsNotWaitedForToSayIt(self) -> None:
        one, two = self.start()
        one.says(b"\0waiting 2\n")  # systemd stops all of its processes at once
        self.supervisor.stopService()
        two.ends(0)
        self.assertIn("stopping: waiting for 2 sessions", self.said()[-1])

    def test_whatAKilledOneHadStillToEndIsCut(self) -> None:
        one, two = self.start()
        done = self.supervisor.stopService()
        one.says(b"\0waiting 3\n")
        one.ends(None, signal.SIGKILL)
        two.says(b"\0waiting 0\n\0stopped 0 0\n")
        two.ends(0)
        self.successResultOf(done)
        self.assertEqual(self.said()[-1], "warn: stopped: 3 sessions were cut; 0 ended in time")

    def test_whereThereWereNoneNothingIsSaid(self) -> None:
        one, two = self.start()
        done = self.supervisor.stopService()
        self.events.clear()
        for process in one, two:
            process.says(b"\0waiting 0\n\0stopped 0 0\n")
            process.ends(0)
        self.successResultOf(done)
        self.assertEqual(self.said(), [])

    def test_oneThatSomebodyElseStopsHasALineOfItsOwn(self) -> None:
        one, _ = self.start()
        one.says(b"\0waiting 3\n\0stopped 1 2\n")
        one.ends(0)
        self.assertEqual(
            self.said()[1:],
            [
                "warn: worker 1: stopped: 2 sessions were cut; 1 ended in time",
                "error: worker 1: ended with 0; starting another in 1 s",
            ],
        )

    def test_andSoonAfterASecondSignal(self) -> None:
        one, two = self.start()
        self.supervisor.stopService()
        self.supervisor.abort()
        self.reactor.advance(2 * GRACE)
        self.assertEqual((one.signals, two.signals), (["KILL"], ["KILL"]))


class CommandTests(SupervisorCase):
    def test_anInterpreterGetsOurPathWithoutTheCurrentFolderAndItsWorkByAPipe(self) -> None:
        self.patch(sys, "path", ["", os.getcwd(), "/somewhere/lib"])
        process = self.start()[0]
        self.assertEqual(process.arguments[0], sys.executable)
        code, *path = process.arguments[process.arguments.index("-c") + 1 :]
        self.assertIn("ptunnel.workers.worker ", code)
        self.assertEqual(path, ["/somewhere/lib"])
        [work] = process.heard
        self.assertEqual(int.from_bytes(work[:8], "big"), len(work) - 8)


class ReloadTests(SupervisorCase):
    def setUp(self) -> None:
        super().setUp()
        self.one, self.two = self.start()
        self.one.ready()
        self.two.ready()
        self.events.clear()
        self.own, self.peer = socket.socketpair()
        self.addCleanup(self.own.close)
        self.addCleanup(self.peer.close)
        [self.tunnel] = self.settings.tunnels

    def reload(self, *tunnels: Tunnel) -> None:
        """Every port that is new is `own`."""

        def stopAccepting(service: TunnelService) -> None:
            self.stopped.append(service)

        self.stopped: list[TunnelService] = []
        self.patch(TunnelService, "stopAccepting", stopAccepting)
        self.patch(TunnelService, "fileno", lambda service: self.own.fileno())
        settings = dataclasses.replace(self.settings, tunnels=tunnels)
        self.supervisor.reload(settings)

    def orders(self, process: FakeProcess) -> list[tuple[bytes, Any]]:
        """What it was told behind its work."""
        return Orders().receive(b"".join(process.heard[1:]))

    def test_allGetTheSameSettingsAndTheNewPorts(self) -> None:
        fresh = dataclasses.replace(self.tunnel, name="b", maxConnections=5)
        self.reload(self.tunnel, fresh)
        self.assertEqual([service.tunnel.name for service in self.stopped], ["b"])
        for process in self.one, self.two:
            [(order, (settings, count))] = self.orders(process)
            self.assertEqual((order, count, settings.workers), (RELOAD, 1, 1))
            self.assertEqual([tunnel.name for tunnel in settings.tunnels], ["a", "b"])
            self.assertEqual(settings.tunnels[1].maxConnections, 3)
            [got] = receiveSockets(process.sockets, 1)
            self.addCleanup(os.close, got)
            self.assertTrue(os.path.samestat(os.fstat(got), os.fstat(self.own.fileno())))

    def test_oneThatIsStartedLaterBeginsWithThem(self) -> None:
        self.one.ends(None, signal.SIGKILL)
        self.reload(dataclasses.replace(self.tunnel, idleTimeout=7.0))
        self.assertEqual(self.orders(self.one), [])
        self.reactor.advance(1)
        work = pickle.loads(self.reactor.processes[2].heard[0][8:])
        self.assertEqual(work.settings.tunnels[0].idleTimeout, 7.0)

    def test_oneThatCannotBeGivenThemDrainsAndIsReplaced(self) -> None:
        self.one.sockets.close()
        self.reload(self.tunnel, dataclasses.replace(self.tunnel, name="b"))
        self.assertEqual(self.orders(self.one), [(DRAIN, None)])
        self.assertEqual([order for order, _ in self.orders(self.two)], [RELOAD])
        [line] = [line for line in self.said() if line.startswith("error")]
        self.assertIn("worker 1: cannot be given the new settings, and will be replaced", line)
        self.one.ends(0)
        self.reactor.advance(1)
        self.assertEqual(len(self.reactor.processes), 3)

    def test_portsThatWorkersCannotShareChangeNothing(self) -> None:
        unix = dataclasses.replace(self.tunnel, name="u", listen=UnixListen("/x"))
        error = self.assertRaises(ConfigError, self.reload, self.tunnel, unix)
        self.assertIn("workers can share a port", str(error))
        self.assertEqual(self.orders(self.one), [])


class ShareTests(SupervisorCase):
    limits = {"maxConnections": 5}

    def test_aWorkerGetsItsShareOfEachLimitRoundedUp(self) -> None:
        [work] = self.start()[0].heard
        settings = pickle.loads(work[8:]).settings
        self.assertEqual(settings.maxConnections, 3)
        self.assertEqual([tunnel.maxConnections for tunnel in settings.tunnels], [3])

    def test_theStatusAddressIsTheSupervisorsAlone(self) -> None:
        status = TcpListen("127.0.0.1", 8620)
        self.patch(self.supervisor, "_settings", replace(self.settings, status=status))
        self.assertIsNone(self.supervisor._forWorker().status)
