"""The life of an attempt: `ptunnel.net.attempt`, with the least that can be said on it."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.net.attempt import Attempt, Phase, Speaker
from tests.support.fakes import Builder, Endpoint, RaisingEndpoint, Recorder, StrictClock, Transport


class Hello(Speaker):
    """Hands over at the first byte, which is nobody's."""

    def dataReceived(self, data: bytes) -> None:
        if self.attempt is not None and not self.attempt.over:
            self.handOver(data[1:])


class Greeted(Attempt):
    """@ivar phases: those that it was in."""

    def __init__(self, endpoint: Any, inner: Any, clock: StrictClock) -> None:
        super().__init__(inner, HostnameAddress(b"a.example", 1))
        self.endpoint = endpoint
        self.clock = clock
        self.phases = [self.phase]

    def enter(self, phase: Phase, pending: Deferred[Any] | None = None) -> None:
        super().enter(phase, pending)
        self.phases.append(phase)

    def begin(self) -> None:
        self.dial(self.endpoint)

    def speaker(self, address: IAddress | None) -> Speaker:
        return Hello(self, address)

    def connected(self) -> None:
        self.limit(10.0, self.clock)

    def expired(self) -> None:
        self.fail(TimeoutError("silent"))


class AttemptTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = StrictClock()
        self.endpoint = Endpoint()
        self.inner = Builder()
        self.attempt = Greeted(self.endpoint, self.inner, self.clock)

    def tearDown(self) -> None:
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def failed(self, connecting: Deferred[Any], kind: type[Exception]) -> None:
        """It has failed, for good."""
        self.failureResultOf(connecting, kind)
        self.assertIs(self.attempt.phases[-1], Phase.FAILED)
        self.attempt.fail(ValueError("once more"))
        self.attempt.succeed(Recorder())
        self.assertIs(self.attempt.phases[-1], Phase.FAILED)

    def test_itDialsTalksAndHandsOverWithTheLeftoverBytes(self) -> None:
        connecting = self.attempt.start()
        transport = self.endpoint.accept()
        transport.receive(b"!data")
        protocol = self.successResultOf(connecting)
        self.assertEqual(protocol.events, [("made", None), ("data", b"data")])
        self.assertIs(transport.protocol, protocol)
        self.assertEqual(
            self.attempt.phases, [Phase.NEW, Phase.DIALLING, Phase.TALKING, Phase.CONNECTED]
        )
        self.assertIsNone(self.attempt.connection)

    def test_itSaysWhereItIs(self) -> None:
        self.assertIn("a.example", repr(self.attempt))
        self.assertTrue(repr(self.attempt).endswith(": new>"), repr(self.attempt))
        connecting = self.attempt.start()
        self.assertTrue(repr(self.attempt).endswith(": dialling>"))
        transport = self.endpoint.accept()
        self.assertTrue(repr(self.attempt).endswith(": talking>"))
        transport.receive(b"!")
        self.assertTrue(repr(self.attempt).endswith(": connected>"))
        self.successResultOf(connecting)

    def test_whoeverTakesTheTransportOverGetsTheLeftoverBytes(self) -> None:
        other = Recorder()
        connecting = self.attempt.start()
        transport = self.endpoint.accept()
        connecting.addCallback(lambda _: setattr(transport, "protocol", other))
        transport.receive(b"!data")
        self.assertEqual(other.received, b"data")

    def test_cancellingWhileItDialsCancelsThat(self) -> None:
        connecting = self.attempt.start()
        connecting.cancel()
        self.failed(connecting, ConnectingCancelledError)
        self.assertEqual(self.endpoint.cancels, 1)

    def test_cancellingWhileItTalksAbortsTheConnection(self) -> None:
        connecting = self.attempt.start()
        transport = self.endpoint.accept()
        connecting.cancel()
        self.failed(connecting, ConnectingCancelledError)
        self.assertEqual((transport.aborted, self.endpoint.cancels), (1, 0))

    def test_aConnectionThatComesAllTheSameIsAborted(self) -> None:
        self.endpoint.onCancel = None
        connecting = self.attempt.start()
        early: Any = self.endpoint.factories[0].buildProtocol(None)
        connecting.cancel()
        self.failed(connecting, ConnectingCancelledError)
        transport = Transport()
        early.makeConnection(transport)
        self.assertEqual(transport.aborted, 1)
        self.assertIsNone(self.attempt.buildProtocol(None))

    def test_timeIsOverOnce(self) -> None:
        connecting = self.attempt.start()
        self.clock.advance(100)
        transport = self.endpoint.accept()
        self.clock.advance(9)
        self.assertNoResult(connecting)
        self.clock.advance(1)
        self.failed(connecting, TimeoutError)
        self.assertEqual(transport.aborted, 1)

    def test_whatTheFactoryRaisesAndNoProtocolFailIt(self) -> None:
        def refuse() -> Recorder:
            raise KeyError("no")

        for build, kind in ((lambda: None, NoProtocol), (refuse, KeyError)):
            self.setUp()
            self.inner.build = build
            connecting = self.attempt.start()
            transport = self.endpoint.accept()
            transport.receive(b"!")
            self.failed(connecting, kind)
            self.assertEqual(transport.aborted, 1)

    def test_anEndpointThatRaisesFailsIt(self) -> None:
        self.attempt = Greeted(RaisingEndpoint(ValueError("odd")), self.inner, self.clock)
        self.failed(self.attempt.start(), ValueError)
