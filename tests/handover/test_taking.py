"""The new process: `ptunnel.handover.taking`."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.handover import taking as module
from ptunnel.handover.messages import (
    Ask,
    Listening,
    NoHandOver,
    Offer,
    Refused,
    Released,
    read,
    written,
)
from ptunnel.handover.taking import PATIENCE, Taken, takeOver
from ptunnel.log import Log
from tests.support.loopback import captureLog, lines


class Reactor(Clock):
    """@ivar protocol: of the connection that was adopted."""

    protocol: Any

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> None:
        assert family == socket.AF_UNIX
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(StringTransport())


class TakingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = captureLog(self)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/next"
        self.heard: list[Any] = []
        self.clock = Reactor()

    def serve(self, answer: Callable[[socket.socket], object]) -> None:
        """Be the old process for one connection."""
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self.path)
        listening.listen()

        def run() -> None:
            with listening, listening.accept()[0] as connection:
                self.heard.append(read(connection.makefile("rb").readline()))
                answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

    def offering(self, *ports: tuple[str, bool]) -> list[int]:
        """Offer pipes as these ports. @return: the descriptors here of what is offered."""
        pipes = [os.pipe() for _, hasLock in ports for _ in range(1 + hasLock)]

        def answer(connection: socket.socket) -> None:
            line = written(Offer(7, "0.9", ports))
            for number, (reader, _) in enumerate(pipes):  # as Twisted sends them
                socket.send_fds(connection, [line[number : number + 1]], [reader])
                os.close(reader)
            connection.sendall(line[len(pipes) :])

        self.serve(answer)
        self.addCleanup(lambda: [os.close(writer) for _, writer in pipes])
        return [writer for _, writer in pipes]

    def assertOpen(self, *writers: int) -> None:
        for writer in writers:
            os.write(writer, b"x")  # SIGPIPE is ignored by Python

    def assertClosed(self, *writers: int) -> None:
        for writer in writers:
            self.assertRaises(BrokenPipeError, os.write, writer, b"x")


class TakeOverTests(TakingCase):
    def take(self, *ports: tuple[str, bool]) -> Taken:
        self.writers = self.offering(*ports)
        taken = takeOver(self.path, Log())
        self.addCleanup(taken.abandon)
        return taken

    def test_itGetsTheDescriptorsOfEachPortAndItsLock(self) -> None:
        taken = self.take(("a", False), ("unix:/b", True), ("c", False))
        self.assertIsInstance(self.heard[0], Ask)
        self.assertEqual(self.heard[0].pid, os.getpid())
        one, two = taken.handed.take("a"), taken.handed.take("unix:/b")
        assert one is not None and two is not None and two.lock is not None
        self.assertIsNone(one.lock)
        self.assertFalse(os.get_inheritable(one.descriptor))
        self.assertIsNone(taken.handed.take("a"))
        taken.handed.closeRest()
        self.assertClosed(self.writers[3])
        self.assertOpen(*self.writers[:3])
        for descriptor in one.descriptor, two.descriptor, two.lock:
            os.close(descriptor)
        self.assertClosed(*self.writers)

    def test_hundredsOfPortsComeToo(self) -> None:
        ports = [(f"port {number}", number % 2 == 0) for number in range(200)]
        taken = self.take(*ports)
        taken.handed.closeRest()
        self.assertClosed(*self.writers)

    def test_whereNobodyIsNothingIsTaken(self) -> None:
        for stale in False, True:
            if stale:
                with socket.socket(socket.AF_UNIX) as dead:
                    dead.bind(self.path)
            taken = takeOver(self.path, Log())
            over: list[bool] = []
            taken.finish(self.clock, partial(over.append, True), self.fail)
            self.assertEqual(over, [True])
            self.assertIn("nobody hands over there; all ports are bound", lines(self.events)[-1])


class RefusedTests(TakingCase):
    def assertRefused(self, why: str, answer: Callable[[socket.socket], object]) -> None:
        self.serve(answer)
        error = self.assertRaises(NoHandOver, takeOver, self.path, Log())
        self.assertEqual(str(error), f"--take-over: unix:{self.path}: {why}; nothing was started")

    def test_theOtherOneSaysWhy(self) -> None:
        refused = Refused("it is stopping")
        self.assertRefused("it is stopping", lambda old: old.sendall(written(refused)))

    def test_theOtherOneBreaksOff(self) -> None:
        self.assertRefused("the process there has broken off", lambda old: None)

    def test_theOtherOneSaysSomethingElse(self) -> None:
        said = "it says what is no message of a hand-over: HTTP/1.1 400"
        self.assertRefused(said, lambda old: old.sendall(b"HTTP/1.1 400\n"))

    def test_theOtherOneOffersNothing(self) -> None:
        self.assertRefused(
            "it does not offer its ports", lambda old: old.sendall(written(Released()))
        )

    def test_theOtherOneIsSilent(self) -> None:
        self.patch(module, "PATIENCE", 0.01)
        self.assertRefused(
            "the process there has not answered within 0.01 s", lambda old: old.recv(1)
        )

    def test_theOtherOneIsSomebodyElse(self) -> None:
        self.patch(module, "stranger", lambda connection: 1000)
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(self.path)
        listening.listen()
        error = self.assertRaises(NoHandOver, takeOver, self.path, Log())
        self.assertIn("user 1000 is there, who is neither this one nor root", str(error))

    def test_descriptorsThatCameAreClosed(self) -> None:
        [writer] = self.offering(("a", False))
        self.patch(module, "read", lambda line: Refused("no"))
        self.assertRaises(NoHandOver, takeOver, self.path, Log())
        self.assertClosed(writer)

    def test_aPathThatMayNotBeUsed(self) -> None:
        with open(self.path, "w"):
            pass
        os.unlink(self.path)
        error = self.assertRaises(NoHandOver, takeOver, f"{self.path}/x" * 40, Log())
        self.assertIn("too long", str(error))


class FinishTests(TakingCase):
    def setUp(self) -> None:
        super().setUp()
        self.writers = self.offering(("a", False), ("gone", False), (f"unix:{self.path}", False))
        self.taken = takeOver(self.path, Log())
        self.over: list[str] = []
        self.released: list[str] = []
        for key in "a", f"unix:{self.path}":
            socket_: Any = self.taken.handed.take(key)
            socket_.released = lambda key=key: self.released.append(key)
            self.addCleanup(os.close, socket_.descriptor)
        self.taken.finish(
            self.clock, lambda: self.over.append("then"), lambda: self.over.append("fail")
        )
        self.protocol = self.clock.protocol

    def hear(self, *messages: Any) -> None:
        for message in messages:
            self.protocol.dataReceived(written(message))

    def lose(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def test_itSaysWhatItListensWithAndClosesTheRest(self) -> None:
        keys = ["a", f"unix:{self.path}"]
        said = read(self.protocol.transport.value())
        self.assertEqual(said, Listening(os.getpid(), keys))
        self.assertClosed(self.writers[1])
        self.assertEqual((self.over, self.released), ([], []))
        self.hear(Released())
        self.lose()
        self.assertEqual((self.over, self.released), (["then"], keys))
        self.assertEqual(
            lines(self.events), ["info: took over 1 port from process 7 (ptunnel 0.9)"]
        )
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_oneThatDiesHasReleasedThemToo(self) -> None:
        self.lose()
        self.assertEqual((self.over, len(self.released)), (["then"], 2))
        self.assertIn("process 7 (ptunnel 0.9) has gone", lines(self.events)[-1])

    def test_oneThatDoesNotAnswerIsNotWaitedFor(self) -> None:
        self.clock.advance(PATIENCE)
        self.assertEqual((self.over, len(self.released)), (["then"], 2))
        self.assertIn("has not answered within 10 s; see whether", lines(self.events)[-1])

    def test_whereTheOtherOneGoesOnThisOneStops(self) -> None:
        self.hear(Refused("nothing came for 60 s"))
        self.lose()
        self.assertEqual((self.over, self.released), (["fail"], []))
        self.assertIn("goes on serving, and this one stops: nothing came", lines(self.events)[-1])

    def test_aWordThatIsNoneIsToldAndNotWaitedFor(self) -> None:
        self.protocol.dataReceived(b"nonsense\n")
        self.assertEqual(self.over, ["then"])
        self.assertIn("no message of a hand-over", lines(self.events)[-1])
