"""`ptunnel.service.notify`: what systemd hears, by a socket in its place."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import DIRECT, Settings, TcpListen, Tunnel
from ptunnel.service.notify import BEATS, INTERVAL, MARGIN, RETRY, Notifier
from ptunnel.service.service import PtunnelService
from tests.support.loopback import MemoryTCP, captureLog


class NotifyCase(SynchronousTestCase):
    """@ivar figures: the present state, in words."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.clock = Clock()
        self.path = f"{folder.name}/notify"
        self.systemd = self.listen(self.path)
        self.figures = "2 tunnels listening, 0 sessions"

    def listen(self, address: str) -> socket.socket:
        systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(systemd.close)
        systemd.bind(address)
        systemd.setblocking(False)
        return systemd

    def make(self, **environ: str) -> Notifier:
        self.environ = {"NOTIFY_SOCKET": self.path, **environ}
        self.notifier = Notifier(self.clock, self.environ)
        self.addCleanup(self.close)
        return self.notifier

    def close(self) -> None:
        if self.notifier._socket is not None:
            self.notifier._socket.close()

    def begin(self, **environ: str) -> None:
        self.make(**environ).ready(lambda: self.figures)
        self.heard()

    def heard(self) -> list[list[str]]:
        """The fields of each datagram since the last time."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.systemd.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return datagrams


class SuccessionTests(NotifyCase):
    def test_anotherProcessIsTheServiceAndThisOneSaysNothingMore(self) -> None:
        self.begin(WATCHDOG_USEC="3000000")
        self.notifier.succeededBy(77)
        self.assertEqual(self.heard(), [["MAINPID=77"]])
        self.notifier.stopping(5.0)
        self.clock.advance(100)
        self.assertEqual(self.heard(), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_theOtherProcessGetsTheVariablesThatThisOneHasUsedUp(self) -> None:
        self.begin(WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
        variables = {"NOTIFY_SOCKET": self.path, "WATCHDOG_USEC": "3000000"}
        self.assertEqual((self.environ, self.notifier.environment), ({}, variables))

    def test_withoutSystemdNothingIsSaid(self) -> None:
        notifier = Notifier(self.clock, {})
        notifier.succeededBy(77)
        self.assertEqual((notifier.environment, self.heard()), ({}, []))


class StateTests(NotifyCase):
    def test_theStartIsToldWithTheFigures(self) -> None:
        self.make().ready(lambda: self.figures)
        self.assertEqual(self.heard(), [["READY=1", "STATUS=2 tunnels listening, 0 sessions"]])

    def test_aReloadIsToldWithItsTimeAndItsEnd(self) -> None:
        self.begin()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.notifier.reloading()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        [[what, when, status]] = self.heard()
        self.assertEqual((what, status), ("RELOADING=1", "STATUS=reloading"))
        name, _, microseconds = when.partition("=")
        self.assertEqual(name, "MONOTONIC_USEC")
        self.assertTrue(before <= int(microseconds) <= after)
        self.notifier.ready(lambda: self.figures)
        self.assertEqual(self.heard(), [["READY=1", "STATUS=2 tunnels listening, 0 sessions"]])
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_aStopIsToldAndMayTakeAsLongAsTheSessions(self) -> None:
        self.begin()
        self.figures = "stopping, 3 sessions"
        self.notifier.stopping(300.0)
        extended = f"EXTEND_TIMEOUT_USEC={int(300 + MARGIN)}000000"
        self.assertEqual(self.heard(), [["STOPPING=1", "STATUS=stopping, 3 sessions", extended]])

    def test_whereSessionsMayGoOnForEverTheUnitSaysHowLongAStopTakes(self) -> None:
        self.begin()
        self.notifier.stopping(None)
        self.assertEqual(self.heard(), [["STOPPING=1"]])

    def test_newFiguresAreToldWhenTheyDiffer(self) -> None:
        self.begin()
        self.clock.advance(INTERVAL)
        self.assertEqual(self.heard(), [])
        self.figures = "2 tunnels listening, 1 session"
        self.clock.pump([INTERVAL] * 2)
        self.assertEqual(self.heard(), [["STATUS=2 tunnels listening, 1 session"]])

    def test_aStatusIsOneLine(self) -> None:
        self.make().ready(lambda: "a\nREADY=0")
        self.assertEqual(self.heard(), [["READY=1", "STATUS=a READY=0"]])


class WatchdogTests(NotifyCase):
    def test_itHearsFromUsInTime(self) -> None:
        self.begin(WATCHDOG_USEC="6000000", WATCHDOG_PID=str(os.getpid()))
        self.clock.pump([2.0] * BEATS)
        self.assertEqual(self.heard(), [["WATCHDOG=1"]] * BEATS)

    def test_itHearsOfNewFiguresInTheSameDatagram(self) -> None:
        self.begin(WATCHDOG_USEC="6000000")
        self.figures = "x"
        self.clock.advance(2.0)
        self.assertEqual(self.heard(), [["STATUS=x", "WATCHDOG=1"]])

    def test_itHearsFromUsDuringAStop(self) -> None:
        self.begin(WATCHDOG_USEC="6000000")
        self.notifier.stopping(300.0)
        self.heard()
        self.clock.advance(2.0)
        self.assertEqual(self.heard(), [["WATCHDOG=1"]])

    def test_whereThereIsNoneNobodyIsFed(self) -> None:
        for environ in (
            {},
            {"WATCHDOG_USEC": "0"},
            {"WATCHDOG_USEC": "soon"},
            {"WATCHDOG_USEC": ""},
            {"WATCHDOG_USEC": "6000000", "WATCHDOG_PID": "1"},
        ):
            self.begin(**environ)
            self.clock.advance(INTERVAL)
            self.assertEqual(self.heard(), [], environ)

    @given(st.text(), st.text())
    def test_noValueOfTheVariablesStopsTheService(self, microseconds: str, pid: str) -> None:
        Notifier(Clock(), {"WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}).ready(str)


class SocketTests(NotifyCase):
    def test_itMayBeAbstract(self) -> None:
        name = f"ptunnel-test-{os.getpid()}"
        self.systemd = self.listen(f"\0{name}")
        self.make(NOTIFY_SOCKET=f"@{name}").ready(str)
        self.assertEqual(self.heard(), [["READY=1"]])

    def test_whatIsStartedByUsDoesNotInheritIt(self) -> None:
        self.make(WATCHDOG_USEC="6000000", WATCHDOG_PID="7", HOME="/")
        self.assertEqual(self.environ, {"HOME": "/"})

    def test_withoutOneNothingIsDone(self) -> None:
        for path in "", "vsock:2:1", "notify":
            notifier = self.make(NOTIFY_SOCKET=path, WATCHDOG_USEC="6000000")
            notifier.ready(self.fail)
            notifier.reloading()
            notifier.stopping(1.0)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneThatNobodyListensOnStopsNothing(self) -> None:
        self.systemd.close()
        self.make(WATCHDOG_USEC="6000000")
        for path in self.path, self.path + "/none", "/" + 200 * "x", "@" + 200 * "x":
            self.notifier._address = path
            self.notifier.ready(str)
            self.notifier.reloading()
            self.clock.advance(2.0)
            self.notifier.stopping(1.0)
        self.assertEqual(self.notifier._unsent, self.notifier._unsent.__class__())

    def test_withoutADescriptorForItTheServiceStarts(self) -> None:
        def none(*arguments: Any) -> None:
            raise OSError(errno.EMFILE, "x")

        self.patch(socket, "socket", none)
        self.make().ready(str)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def fill(self) -> int:
        """Send until there is no more room. @return: how many datagrams there were."""
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(sender.close)
        sender.setblocking(False)
        count = 0
        while True:
            try:
                sender.sendto(b"x", self.path)
            except BlockingIOError:
                return count
            count += 1

    def test_whatDoesNotFitComesLaterAndInOrder(self) -> None:
        notifier = self.make(WATCHDOG_USEC="6000000")
        before = self.fill()
        self.figures = ""
        notifier.ready(lambda: self.figures)
        notifier.stopping(None)
        self.clock.advance(RETRY)
        self.clock.advance(RETRY)  # a beat is due, and has no part in the queue
        self.assertEqual(self.heard(), [["x"]] * before)
        self.clock.advance(RETRY)
        self.assertEqual(self.heard(), [["READY=1"], ["STOPPING=1"]])


class ServiceTests(NotifyCase):
    """That the service says when."""

    def test_itTellsItsStartAndItsStopWithItsTunnelsAndSessions(self) -> None:
        captureLog(self)
        reactor: Any = MemoryReactorClock()
        tunnels = [
            Tunnel(name, TcpListen("127.0.0.1", 0), "192.0.2.9", 993, via=(DIRECT,))
            for name in ("a", "b")
        ]
        service = PtunnelService(reactor, Settings(tuple(tunnels), {}))
        self.clock = reactor
        service.notifier = self.make()
        service.privilegedStartService()
        self.assertEqual(self.heard(), [])
        service.startService()
        self.assertEqual(self.heard(), [["READY=1", "STATUS=2 tunnels listening, 0 sessions"]])
        MemoryTCP(reactor.tcpServers[0][1].buildProtocol(None))
        reactor.advance(INTERVAL)
        self.assertEqual(self.heard(), [["STATUS=2 tunnels listening, 1 session"]])
        stopped = service.stopService()
        self.assertEqual(self.heard()[0][:2], ["STOPPING=1", "STATUS=stopping, 1 session"])
        service.abort()
        reactor.advance(INTERVAL)
        self.successResultOf(stopped)
