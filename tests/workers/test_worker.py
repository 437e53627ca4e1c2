"""What a worker does upon its parent's orders: `ptunnel.workers.worker`."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from twisted.internet.main import CONNECTION_DONE
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.config import Settings
from ptunnel.errors import ListenError
from ptunnel.log import Log
from ptunnel.workers.orders import ABORT, DRAIN, LEAVE, question, reloadOrder, sendSockets
from ptunnel.workers.worker import Lifeline
from tests.support.loopback import captureLog, lines

SETTINGS = Settings((), {})


class LifelineTests(SynchronousTestCase):
    """The service and its end are the test's own."""

    stopping = False

    def setUp(self) -> None:
        self.events = captureLog(self)
        self.parent, worker = socket.socketpair()
        self.addCleanup(self.parent.close)
        self.addCleanup(worker.close)
        self.ended: list[str] = []
        self.reloads: list[tuple[Settings, int]] = []
        self.refusal: Exception | None = None
        this: Any = self
        self.answers: list[Any] = []
        self.lifeline = Lifeline(MemoryReactorClock(), this, this, Log(), worker, this)

    def drain(self) -> None:
        self.ended.append("drain")

    def abort(self) -> None:
        self.ended.append("abort")

    def answer(self, *question: Any) -> None:
        self.answers.append(question)

    def reload(self, settings: Settings, descriptors: Sequence[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        self.reloads.append((settings, len(descriptors)))
        if self.refusal:
            raise self.refusal

    def hear(self, *data: bytes) -> Any:
        chunks = list(data)
        self.patch(os, "read", lambda descriptor, size: chunks.pop(0) if chunks else b"")
        return [self.lifeline.doRead() for _ in data][-1]

    def test_itReloadsWithTheSocketsThatWereSent(self) -> None:
        sendSockets(self.parent, [0, 0])
        order = reloadOrder(SETTINGS, 2)
        self.hear(order[:9], order[9:])
        self.assertEqual((self.reloads, self.ended), ([(SETTINGS, 2)], []))

    def test_oneThatCannotReloadSaysSoAndDrains(self) -> None:
        for refusal in ListenError("no"), OSError(24, "Too many open files"), KeyError("bug"):
            self.setUp()
            self.refusal = refusal
            self.hear(reloadOrder(SETTINGS, 0))
            self.assertEqual(self.ended, ["drain"])
            [line] = lines(self.events)
            self.assertIn("cannot change to the new settings, and will be replaced: ", line)

    def test_oneThatStopsAnywayOnlyClosesWhatWasSent(self) -> None:
        self.stopping, self.refusal = True, ListenError("stopping")
        self.hear(reloadOrder(SETTINGS, 0))
        self.assertEqual((self.ended, lines(self.events)), ([], []))

    def test_itAnswersQuestions(self) -> None:
        order = question(7, "endHere", 3)
        self.hear(order[:5], order[5:])
        self.assertEqual(self.answers, [(7, "endHere", (3,))])

    def test_itDrainsAndAborts(self) -> None:
        self.hear(DRAIN)
        self.assertEqual(self.ended, ["drain"])
        self.hear(ABORT)
        self.assertEqual(self.ended, ["drain", "drain", "abort"])

    def test_itLeavesWithoutADelay(self) -> None:
        self.drainDelay = 5.0
        self.hear(LEAVE)
        self.assertEqual((self.ended, self.drainDelay), (["drain"], 0.0))

    def test_theEndOfTheParentIsSeen(self) -> None:
        self.assertIs(self.hear(b""), CONNECTION_DONE)
