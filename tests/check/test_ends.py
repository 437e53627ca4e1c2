"""What `ptunnel check` finds out about ends in one direction: `ptunnel.check.ends`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from ptunnel.check.ends import END_WAIT, EndTrial
from ptunnel.check.steps import Greeting
from tests.support.fakes import Transport


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Transport):
    ended = 0

    def loseWriteConnection(self) -> None:
        self.ended += 1


class EndTrialTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.trial = EndTrial(self.clock, 30)

    def probe(self, transport: Any = None) -> Any:
        """@return: the transport of a Greeting."""
        transport = transport or HalfCloseable()
        transport.protocol = Greeting()
        transport.protocol.makeConnection(transport)
        return transport

    def lose(self, transport: Any) -> None:
        transport.protocol.connectionLost(Failure(ConnectionDone()))

    def assertAdvises(self, *words: str) -> None:
        advice = self.successResultOf(self.trial.advice)
        for word in words:
            self.assertIn(word, advice)
        if not words:
            self.assertEqual(advice, "")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aGreetingThatIsLostIsTheProxysDoing(self) -> None:
        transport = self.probe()
        self.trial.again(succeed(transport.protocol))
        self.assertEqual(transport.ended, 1)
        self.lose(transport)
        self.assertAdvises("this proxy ends both directions at the first end", "hold-end = yes")

    def test_aGreetingThatComesSaysNothing(self) -> None:
        transport = self.probe()
        self.trial.again(succeed(transport.protocol))
        transport.receive(b"220 hello\r\n")
        self.assertAdvises()
        self.assertEqual(transport.aborted, 1)

    def test_anEndBehindOursMayBeTheTargetsToo(self) -> None:
        transport = self.probe()
        self.trial.on(transport.protocol)
        self.lose(transport)
        self.assertAdvises("the target did so, or a proxy", "hold-end = yes")

    def test_anAnswerBeforeAnEndOrTheOtherDirectionThatStaysSaysNothing(self) -> None:
        transport = self.probe()
        self.trial.on(transport.protocol)
        transport.receive(b"answer")
        self.lose(transport)
        self.assertAdvises()
        self.setUp()
        transport = self.probe()
        self.trial.on(transport.protocol)
        self.clock.advance(END_WAIT)
        self.assertAdvises()
        self.assertEqual(transport.aborted, 1)

    def test_aConnectionThatFailsOrHangsSaysNothing(self) -> None:
        connecting: Deferred[Any] = Deferred()
        self.trial.again(connecting)
        connecting.errback(ConnectionRefusedError())
        self.assertAdvises()
        self.setUp()
        cancelled: list[Any] = []
        self.trial.again(Deferred(cancelled.append))
        self.clock.advance(END_WAIT)
        self.assertAdvises()
        self.assertEqual(len(cancelled), 1)

    def test_itTakesNoLongerThanThereIs(self) -> None:
        self.trial = EndTrial(self.clock, 0.5)
        self.trial.again(Deferred())
        self.clock.advance(0.5)
        self.successResultOf(self.trial.advice)

    def test_whatCannotEndInOneDirectionIsNotEnded(self) -> None:
        transport = self.probe(Transport())
        self.trial.on(transport.protocol)
        self.assertAdvises()
        self.assertEqual(transport.aborted, 1)
