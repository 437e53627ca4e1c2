"""What is said before client and target are joined: `ptunnel.session.introduce`."""

from __future__ import annotations

import gc
import weakref
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import causes
from ptunnel.errors import CertificateRefused, TargetFailed, TunnelError
from ptunnel.session.introduce import introduce
from ptunnel.starttls import Prelude as Postgres
from ptunnel.tls import TlsEndpoint
from tests.support import authority
from tests.support.fakes import Builder, Endpoint, HalfCloseRecorder, Recorder, Transport
from tests.support.tlswire import Server, Wire, trusting

REFUSED = "is not one of ours"


class Prelude:
    """A client says lines, up to `go`, and is told `hm` to each of them; its target's answer is a
    line as well.
    """

    answered = True

    def __init__(self) -> None:
        self._client = self._target = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes | None]:
        self._client += data
        if b"\0" in data:
            raise ValueError(REFUSED)
        answer = b"hm\n" * data.count(b"\n")
        return answer, self._client if b"go\n" in self._client else None

    def answer(self, data: bytes) -> bytes | None:
        self._target += data
        if b"\0" in data:
            raise ZeroDivisionError
        return self._target if b"\n" in self._target else None

    def ended(self) -> ValueError:
        return ValueError("has gone")


class Case(SynchronousTestCase):
    def setUp(self) -> None:
        self.client, self.target = Transport(), Transport()
        self.before = [self.adopt(self.client), self.adopt(self.target)]
        self.client.pauseProducing()
        self.done = introduce(Prelude(), self.client, self.target)

    def adopt(self, transport: Transport) -> Recorder:
        transport.protocol = Recorder()
        transport.protocol.makeConnection(transport)
        return transport.protocol  # type: ignore[no-any-return]

    def assertGivenBack(self) -> None:
        self.assertEqual([self.client.protocol, self.target.protocol], self.before)

    def assertFailed(self, kind: type[TunnelError], text: str) -> None:
        error = self.failureResultOf(self.done, kind).value
        self.assertEqual(str(error), text)
        self.assertEqual(self.client.aborted, 0)


class SpeakingTests(Case):
    def test_theClientIsReadAndAnswered(self) -> None:
        self.assertEqual(self.client.producerState, "producing")
        self.client.receive(b"hello\nhe")
        self.client.receive(b"llo\n")
        self.assertEqual(self.client.value(), b"hm\nhm\n")
        self.assertEqual(self.target.value(), b"")
        self.assertNoResult(self.done)

    def test_theTargetIsAskedAndThenTheClientIsReadNoMore(self) -> None:
        self.client.receive(b"hello\ngo\n")
        self.assertEqual(self.target.value(), b"hello\ngo\n")
        self.assertEqual(self.client.producerState, "paused")
        self.assertNoResult(self.done)

    def test_whatAPausedClientSaysAllTheSameIsTheTargetsAndIsNotSaidTwice(self) -> None:
        self.client.receive(b"go\n")
        self.client.receive(b"and on\n")
        self.assertEqual(self.target.value(), b"go\nand on\n")
        self.assertEqual(self.client.value(), b"hm\n")

    def test_whereTheTargetDoesNotAnswerBothAreGivenBackAtOnce(self) -> None:
        self.patch(Prelude, "answered", False)
        self.client.receive(b"go\n")
        self.successResultOf(self.done)
        self.assertGivenBack()
        self.assertEqual(self.target.value(), b"go\n")
        self.assertEqual(self.client.producerState, "paused")

    def test_theAnswerComesToTheTargetsProtocolWhenBothAreGivenBack(self) -> None:
        self.client.receive(b"go\n")
        self.target.receive(b"yes")
        self.assertNoResult(self.done)
        before: list[bytes] = []
        self.done.addCallback(lambda _: before.append(self.before[1].received))
        self.target.receive(b", do\n")
        self.successResultOf(self.done)
        self.assertEqual(before, [b""])
        self.assertGivenBack()
        self.assertEqual(self.before[1].received, b"yes, do\n")
        self.assertEqual(self.client.value(), b"hm\n")
        self.assertEqual(self.client.producerState, "paused")

    def test_theAnswerComesToWhoeverHasTakenTheTargetOver(self) -> None:
        heir = Recorder()
        cast(Any, self.done).addCallback(lambda _: setattr(self.target, "protocol", heir))
        self.client.receive(b"go\n")
        self.target.receive(b"yes\n")
        self.assertEqual((self.before[1].received, heir.received), (b"", b"yes\n"))

    def test_whoeverHungUpGetsNoAnswer(self) -> None:
        self.done.addCallback(lambda _: self.target.loseConnection())
        self.client.receive(b"go\n")
        self.target.receive(b"yes\n")
        self.assertEqual(self.before[1].received, b"")

    def test_whatComesAfterwardsIsNoMatterOfThePrelude(self) -> None:
        self.client.receive(b"go\n")
        self.target.receive(b"yes\n")
        self.client.receive(b"more\0\n")
        self.target.receive(b"more\0\n")
        self.client.lose()
        self.target.lose()
        self.assertEqual([b.received for b in self.before], [b"more\0\n", b"yes\nmore\0\n"])
        self.assertEqual([b.events[-1] for b in self.before], [("lost", ConnectionDone)] * 2)
        self.successResultOf(self.done)

    def test_anErrorOfWhoeverComesAfterIsTheirs(self) -> None:
        def dataReceived(data: bytes) -> None:
            raise ZeroDivisionError

        self.before[1].dataReceived = dataReceived  # type: ignore[method-assign]
        self.client.receive(b"go\n")
        self.assertRaises(ZeroDivisionError, self.target.receive, b"yes\n")
        self.successResultOf(self.done)

    def test_nothingOfItIsLeft(self) -> None:
        prelude = Prelude()
        known = weakref.ref(prelude)
        client, target = Transport(), Transport()
        self.adopt(client)
        self.adopt(target)
        done = introduce(prelude, client, target)
        del prelude
        client.receive(b"go\n")
        target.receive(b"yes\n")
        self.successResultOf(done)
        del done
        gc.collect()
        self.assertIsNone(known())


class FailingTests(Case):
    def test_aClientThatCannotBeServed(self) -> None:
        self.client.receive(b"\0")
        self.assertFailed(TunnelError, "the client is not one of ours")
        self.assertEqual((self.target.aborted, self.target.value()), (1, b""))
        self.assertGivenBack()

    def test_afterwardsTheClientIsAskedAndToldNothing(self) -> None:
        self.client.receive(b"\0")
        self.failureResultOf(self.done)
        self.client.receive(b"go\n")
        self.assertEqual((self.client.value(), self.target.value()), (b"", b""))
        self.assertEqual(self.before[0].received, b"go\n")

    def test_aClientThatGoes(self) -> None:
        self.client.lose()
        self.assertFailed(TunnelError, "the client has gone")
        self.assertEqual(self.target.aborted, 1)
        self.assertEqual(self.before[0].events[-1], ("lost", ConnectionDone))

    def test_aClientThatGoesWhileTheTargetIsAsked(self) -> None:
        self.client.receive(b"go\n")
        self.client.lose()
        self.assertFailed(TunnelError, "the client has gone")
        self.assertEqual(self.target.aborted, 1)

    def test_aTargetThatCloses(self) -> None:
        for asked in False, True:
            self.setUp()
            if asked:
                self.client.receive(b"go\n")
            self.target.lose(ConnectionLost())
            self.assertFailed(TargetFailed, "the target closed the connection before it answered")
            self.assertEqual(self.before[1].events[-1], ("lost", ConnectionLost))
            self.assertIs(self.client.protocol, self.before[0])

    def test_aTargetThatSpeaksBeforeItIsAsked(self) -> None:
        self.target.receive(b"yes\n")
        self.assertFailed(TargetFailed, "the target speaks before it is asked")
        self.assertEqual((self.target.aborted, self.client.value()), (1, b""))
        self.assertGivenBack()

    def test_aPreludeThatRaises(self) -> None:
        self.client.receive(b"go\n")
        self.target.receive(b"\0")
        self.failureResultOf(self.done, ZeroDivisionError)
        self.assertEqual(self.target.aborted, 1)
        self.assertGivenBack()

    def test_aHalfOfTheClientsConnectionIsNotEnough(self) -> None:
        # A transport asks its protocol when the end comes.
        self.client.endReading()
        self.assertFailed(TunnelError, "the client has gone")

    def test_cancelling(self) -> None:
        for asked in False, True:
            self.setUp()
            if asked:
                self.client.receive(b"go\n")
            self.done.cancel()
            self.failureResultOf(self.done, CancelledError)
            self.assertEqual((self.target.aborted, self.client.aborted), (1, 0))
            self.assertGivenBack()

    def test_cancellingAfterwardsDoesNothing(self) -> None:
        self.client.receive(b"go\n")
        self.target.receive(b"yes\n")
        self.done.cancel()
        self.successResultOf(self.done)
        self.assertEqual(self.target.aborted, 0)

    def test_theClientsProtocolMayCancelWhenItIsLost(self) -> None:
        self.before[0].connectionLost = lambda reason: self.done.cancel()  # type: ignore[method-assign,misc,assignment]
        self.client.lose()
        self.failureResultOf(self.done, CancelledError)
        self.assertEqual(self.target.aborted, 1)

    def test_aTransportThatKeepsItsProtocolIsOfNoUse(self) -> None:
        for keeping in "client", "target":
            self.client, self.target = Transport(), Transport()
            for transport in self.client, self.target:
                self.adopt(transport)
            getattr(self, keeping).protocol = None
            self.assertRaises(TypeError, introduce, Prelude(), self.client, self.target)
            self.assertEqual((self.client.aborted, self.target.aborted), (0, 1))
            protocols = {type(self.client.protocol), type(self.target.protocol)}
            self.assertEqual(protocols, {Recorder, type(None)})


class TlsTests(SynchronousTestCase):
    """With PostgreSQL's prelude, and a target that is spoken to over TLS."""

    STARTUP = b"\0\0\0\x16\0\3\0\0user\0alice\0\0"
    NO_TLS = b"\0\0\0\x08\x04\xd2\x16\x2f"
    OK = b"R\0\0\0\x08\0\0\0\0"

    def reach(self, server: Server) -> Deferred[Any]:
        endpoint = Endpoint()
        connecting = TlsEndpoint(endpoint, trusting(), "db.example").connect(Builder())
        self.accepted = Builder()
        self.wire = Wire(endpoint.accept(), server.factory(self.accepted))
        while self.wire.move(self.wire.client, self.wire.server) and not connecting.called:
            self.wire.move(self.wire.server, self.wire.client)
        self.client = Transport()
        self.client.protocol = HalfCloseRecorder()
        self.target = self.successResultOf(connecting).transport
        return introduce(Postgres(), self.client, self.target)

    def test_aClientThatAsksForTLSIsToldNoAndGoesOn(self) -> None:
        done = self.reach(Server(authority.server("db.example")))
        self.client.receive(self.NO_TLS)
        self.assertEqual(self.client.value(), b"N")
        self.wire.pump()
        self.assertEqual(self.accepted.built[0].received, b"")
        self.client.receive(self.STARTUP)
        self.wire.pump()
        self.assertEqual(self.accepted.built[0].received, self.STARTUP)
        self.accepted.built[0].transport.write(self.OK)
        self.wire.pump()
        self.successResultOf(done)
        self.assertEqual(self.target.wrappedProtocol.received, self.OK)

    def test_aTargetThatClosesItsTLS(self) -> None:
        done = self.reach(Server(authority.server("db.example")))
        self.wire.pump()
        self.client.receive(self.STARTUP)
        self.accepted.built[0].transport.loseConnection()
        self.wire.pump()
        self.failureResultOf(done, TargetFailed)

    def test_aTargetThatWantsACertificateSaysSoOnlyNow(self) -> None:
        server = Server(
            authority.server("db.example"),
            version=SSL.TLS1_3_VERSION,
            clientsFrom=authority.authority(),
        )
        done = self.reach(server)
        self.wire.pump()
        error = self.failureResultOf(done, CertificateRefused).value
        self.assertEqual(
            str(error),
            "cannot reach the target over TLS: it wants a client certificate "
            f"({causes.CLIENT_CERTIFICATE.hint})",
        )
