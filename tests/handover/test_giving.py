"""The process that serves: `ptunnel.handover.giving`."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import ListenError
from ptunnel.handover import giving as module
from ptunnel.handover.giving import PATIENCE, Giver
from ptunnel.handover.messages import Ask, Listening, Offer, Refused, Released, read, written
from ptunnel.log import Log
from ptunnel.ports.handed import Handed, HandedSocket
from tests.support.loopback import captureLog, lines


class Transport(StringTransport):
    """One end of a Unix socket. @ivar descriptors: those that were sent."""

    def __init__(self, socket: socket.socket) -> None:
        super().__init__()
        self.socket = socket
        self.descriptors: list[int] = []

    def sendFileDescriptor(self, descriptor: int) -> None:
        self.descriptors.append(descriptor)


class FakePort:
    def __init__(self, *descriptors: int) -> None:
        self.given = False
        self._descriptors = list(descriptors)

    def descriptors(self) -> list[int]:
        return self._descriptors

    def give(self) -> None:
        self.given = True


class GiverCase(SynchronousTestCase):
    """The service is the test's own."""

    stopping = False

    def setUp(self) -> None:
        self.events = captureLog(self)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/next"
        self.reactor: Any = MemoryReactorClock()
        self.ports = {"a": FakePort(101), "unix:/b": FakePort(102, 103), "onion:c": FakePort()}
        self.takers: list[int] = []
        self.giver = self.make()
        self.giver.listen()
        self.addCleanup(self.close)

    def make(self, handed: Handed | None = None) -> Giver:
        return Giver(self.reactor, self, self.path, Log(), handed or Handed())

    def close(self) -> None:
        if self.giver._port is not None:
            self.giver._port.connectionLost(Failure(ConnectionDone()))

    def offers(self) -> Any:
        return self.ports

    def handedOver(self, pid: int) -> None:
        self.takers.append(pid)

    def connect(self) -> Any:
        one, other = socket.socketpair(socket.AF_UNIX)
        for each in one, other:
            self.addCleanup(each.close)
        conversation = self.giver._port.factory.buildProtocol(None)
        conversation.makeConnection(Transport(one))
        return conversation

    def heard(self, conversation: Any) -> list[Any]:
        said = conversation.transport.value().splitlines()
        conversation.transport.clear()
        return list(map(read, said))


class OfferTests(GiverCase):
    def test_itOffersWhatCanBeHandedOverAndItsOwnSocket(self) -> None:
        asking = self.connect()
        asking.dataReceived(written(Ask(7, "2")))
        [offer] = self.heard(asking)
        own = f"unix:{self.path}"
        self.assertEqual(offer.ports, [("a", False), ("unix:/b", True), (own, True)])
        self.assertEqual(offer.pid, os.getpid())
        self.assertEqual(asking.transport.descriptors[:3], [101, 102, 103])
        self.assertEqual(len(asking.transport.descriptors), 5)
        self.assertEqual((self.takers, self.ports["a"].given), ([], False))

    def test_aLineMayComeInPieces(self) -> None:
        asking = self.connect()
        for byte in written(Ask(7, "2")):
            asking.dataReceived(bytes([byte]))
        self.assertEqual(len(self.heard(asking)), 1)

    def test_itStopsWhenTheOtherOneListensAndGivesWhatThatTakes(self) -> None:
        asking = self.connect()
        asking.dataReceived(written(Ask(7, "2")))
        self.heard(asking)
        asking.dataReceived(written(Listening(8, ["a", f"unix:{self.path}", "never offered"])))
        self.assertEqual(self.heard(asking), [Released()])
        self.assertEqual(self.takers, [8])
        self.assertEqual((self.ports["a"].given, self.ports["unix:/b"].given), (True, False))
        self.assertTrue(asking.transport.disconnecting)
        self.assertIsNone(self.giver._port.lock)
        self.assertEqual(
            lines(self.events), ["info: process 8 (ptunnel 2) has taken over 1 port; stopping"]
        )
        asking.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(len(lines(self.events)), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        # The test is the other process, and cleans up.
        for path in self.path, f"{self.path}.lock":
            os.unlink(path)

    def test_oneThatGoesBeforeChangesNothing(self) -> None:
        asking = self.connect()
        asking.dataReceived(written(Ask(7, "2")))
        asking.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((self.takers, self.giver.taker), ([], None))
        [line] = lines(self.events)
        self.assertIn("process 7, which was to take the ports over, has gone", line)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_aProbeThatSaysNothingIsNoLine(self) -> None:
        self.connect().connectionLost(Failure(ConnectionDone()))
        self.assertEqual(lines(self.events), [])


class RefusalTests(GiverCase):
    def assertRefuses(self, asking: Any, why: str) -> None:
        [refused] = self.heard(asking)
        self.assertIsInstance(refused, Refused)
        self.assertIn(why, refused.why)
        self.assertIn(f"no hand-over: {refused.why}", lines(self.events)[-1])
        self.assertTrue(asking.transport.disconnecting)
        self.assertEqual((self.takers, asking.transport.descriptors), ([], []))

    def test_anotherUser(self) -> None:
        self.patch(module, "stranger", lambda connection: 1000)
        self.assertRefuses(self.connect(), "user 1000 may not take the ports over")

    def test_aServiceThatStops(self) -> None:
        self.stopping = True
        asking = self.connect()
        asking.dataReceived(written(Ask(7, "2")))
        self.assertRefuses(asking, "it is stopping")

    def test_aSecondOneMeanwhile(self) -> None:
        first, second = self.connect(), self.connect()
        first.dataReceived(written(Ask(7, "2")))
        second.dataReceived(written(Ask(8, "2")))
        self.assertRefuses(second, "another process is taking the ports over")
        second.connectionLost(Failure(ConnectionDone()))
        self.assertIs(self.giver.taker, first)

    def test_whatIsNoMessageOrOneTooEarly(self) -> None:
        for said, why in (
            (b"GET / HTTP/1.1\n", "no message of a hand-over: GET"),
            (b'{"hand-over": 2, "pid": 1, "version": "9"}\n', "version 2"),
            (written(Listening(7, [])), "Listening is not expected here"),
            (b"x" * (1 << 21), "it says what has no end"),
        ):
            asking = self.connect()
            asking.dataReceived(said)
            self.assertRefuses(asking, why)

    def test_oneThatDoesNotGoOnMakesRoomForTheNext(self) -> None:
        asking = self.connect()
        asking.dataReceived(written(Ask(7, "2")))
        self.heard(asking)
        self.reactor.advance(PATIENCE)
        [refused] = self.heard(asking)
        self.assertEqual(refused, Refused(f"nothing came for {PATIENCE:g} s"))
        asking.dataReceived(written(Listening(7, ["a"])))
        self.assertEqual((self.takers, self.ports["a"].given), ([], False))
        again = self.connect()
        again.dataReceived(written(Ask(8, "2")))
        self.assertIsInstance(self.heard(again)[0], Offer)


class SocketTests(GiverCase):
    def test_onlyItsUserMayConnect(self) -> None:
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_oneThatIsInUseIsAnErrorThatNamesTheOption(self) -> None:
        error = self.assertRaises(ListenError, self.make().listen)
        self.assertIn(f"hand-over: cannot listen on unix:{self.path}: address already", str(error))
        self.assertIn("--take-over", str(error))

    def test_oneThatIsTakenOverAnswersWhenTheOtherProcessDoesNotAnyMore(self) -> None:
        skt = socket.socket(socket.AF_UNIX)
        skt.bind(f"{self.path}2")
        skt.listen()
        lock = os.open(f"{self.path}2.lock", os.O_RDWR | os.O_CREAT)
        handed = Handed({f"unix:{self.path}2": HandedSocket(skt.detach(), lock)})
        giver = Giver(self.reactor, self, f"{self.path}2", Log(), handed)
        giver.listen()
        port = giver._port
        self.assertNotIn(port, self.reactor.readers)
        handed.release()
        self.assertIn(port, self.reactor.readers)
        self.assertEqual(port.lock, lock)
        port.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(os.path.exists(f"{self.path}2"))
