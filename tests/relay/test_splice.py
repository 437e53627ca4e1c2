"""`ptunnel.relay.splice`: its logic in memory; over loopback what only a kernel does; and over TLS.

L{LoopbackSpliceTests} is a mixin: whatever joins two TCP connections must pass it.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import random
import socket
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IOpenSSLContextFactory
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from ptunnel.relay.legs.tlsleg import TlsLeg, isTlsOverPlain
from ptunnel.relay.outcome import Ended
from ptunnel.relay.splice import Splice, splice
from ptunnel.relay.terms import Terms
from ptunnel.relay.timeouts import LINGER
from ptunnel.timing.deadlines import Sweep
from ptunnel.tls import TlsContext, TlsSettings
from tests.support.loopback import (
    Loopback,
    MemoryTCP,
    MemoryTransport,
    Peer,
    Recorder,
    tcpPair,
    useReactor,
)
from tests.support.spliced import spliced

# Socket buffers of 64 KiB, which the kernel doubles; two in the way of the bytes at each side.
BUFFER = 64 * 1024
IN_THE_KERNEL = 4 * 2 * BUFFER
# What may be held for a connection in one direction outside of the socket buffers.
HELD = 256 * 1024


def stream(seed: int, size: int) -> bytes:
    """Bytes in which a gap, a repetition or a wrong order shows."""
    return random.Random(seed).randbytes(size)


def digest(data: bytes | bytearray) -> str:
    """Short to print where it differs."""
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}"


class MemoryCase(SynchronousTestCase):
    kinds: tuple[type[MemoryTransport], type[MemoryTransport]] = MemoryTCP, MemoryTCP

    def setUp(self) -> None:
        self.clock = Clock()
        self.a, self.b = (kind(Recorder()) for kind in self.kinds)
        self.before = self.a.protocol, self.b.protocol

    def join(self, idle: float | None = None, halfClose: float | None = 60.0) -> Splice:
        terms = Terms(idle, halfClose)
        splice, self.done = spliced(self.a, self.b, Sweep(self.clock, 1.0), terms)
        return splice

    def advance(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)

    def assertOver(self, sent: int, received: int, cause: str, first: int | None) -> None:
        self.assertEqual(
            self.successResultOf(self.done),
            Ended(sent, received, cause, first),  # type: ignore[arg-type]
        )
        self.assertTrue(self.a.lost and self.b.lost)


class FlowTests(MemoryCase):
    def test_whatEitherReceivesTheOtherSends(self) -> None:
        self.join()
        self.a.receive(b"one ")
        self.a.receive(b"two")
        self.b.receive(b"three")
        self.assertEqual((self.b.sent, self.a.sent), (b"one two", b"three"))
        self.assertNoResult(self.done)

    def test_aPausedTransportIsReadFromTheStart(self) -> None:
        self.a.pauseProducing()
        self.a.receive(b"waiting")
        self.join()
        self.assertEqual(self.b.sent, b"waiting")

    def test_aFullSinkPausesItsSourceAlone(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(bytes(65536))
        self.assertFalse(self.a.paused)
        self.a.receive(b"1")
        self.assertTrue(self.a.paused)
        self.assertFalse(self.b.paused)

    def test_aSinkThatIsSentResumesItsSource(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(bytes(70000))
        self.a.receive(b"later")
        self.b.unstick()
        self.assertFalse(self.a.paused)
        self.assertEqual(self.b.sent, bytes(70000) + b"later")

    def test_theProtocolsBeforeItHearOfNothingButTheLoss(self) -> None:
        self.join()
        self.a.receive(b"data")
        self.a.end()
        self.b.receive(b"data")
        self.b.end()
        for protocol in self.before:
            self.assertEqual(protocol.calls, ["connectionLost"])

    def test_smallMessagesAreNotDelayed(self) -> None:
        self.join()
        for transport in self.a, self.b:
            self.assertTrue(transport.noDelay)  # type: ignore[attr-defined]

    def test_aTransportThatKeepsItsProtocolIsATypeErrorAndTheOtherIsLeftAlone(self) -> None:
        for pair in (self.a, object()), (object(), self.a):
            error = self.assertRaises(TypeError, splice, *pair, reactor=self.clock)
            self.assertEqual(str(error), "cannot take over the bytes of a object")
            self.assertIs(self.a.protocol, self.before[0])
            self.assertIsNone(self.a.producer)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_withoutAClockItUsesTheInstalledReactor(self) -> None:
        useReactor(self, self.clock)
        self.done = splice(self.a, self.b, idleTimeout=10)
        self.advance(12)
        self.assertEqual(self.a.how[0], "loseWriteConnection")

    def test_onceItHasEndedItIsNotLookedAtAnyMore(self) -> None:
        self.join()
        self.a.end()
        self.b.end()
        self.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nothingIsScheduledOnceItHasEnded(self) -> None:
        done = splice(self.a, self.b, idleTimeout=10, reactor=self.clock)
        self.a.end()
        self.b.end()
        self.successResultOf(done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    # A Sweep lets its timer run out, up to a second, in which a program's own tests are unclean.


class EndTests(MemoryCase):
    def test_theEndOfOneDirectionLeavesTheOtherOpen(self) -> None:
        self.join()
        self.a.receive(b"question")
        self.a.end()
        self.assertTrue(self.b.writeEnded)
        self.b.receive(b"late answer")
        self.assertEqual(self.a.sent, b"late answer")
        self.assertNoResult(self.done)
        self.b.end()
        self.assertOver(8, 11, "end", 0)

    def test_theSecondMayEndFirst(self) -> None:
        self.join()
        self.b.end()
        self.assertTrue(self.a.writeEnded)
        self.a.receive(b"still")
        self.a.end()
        self.assertEqual(self.b.sent, b"still")
        self.assertOver(5, 0, "end", 1)

    def test_anEndIsPassedOnBehindWhatIsStillHeld(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.a.end()
        self.assertFalse(self.b.writeEnded)
        self.b.unstick()
        self.assertEqual(self.b.sent, b"held")
        self.assertTrue(self.b.writeEnded)

    def test_aSourceThatHasEndedIsNotResumed(self) -> None:
        # Twisted would say again that it has ended, and that would be counted as an end of both.
        self.join()
        self.b.stuck = True
        self.a.receive(bytes(70000))
        self.assertTrue(self.a.paused)
        self.a.paused = False
        self.a.end()
        self.b.unstick()
        self.b.receive(b"late")
        self.assertEqual(self.a.sent, b"late")
        self.assertEqual(self.b.how, ["loseWriteConnection"])

    def test_itIsNotOverBeforeWhatIsHeldIsSent(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.a.end()
        self.b.end()
        self.assertNoResult(self.done)
        self.assertFalse(self.b.lost)
        self.b.unstick()
        self.assertEqual(self.b.sent, b"held")
        self.assertOver(4, 0, "end", 0)

    def test_eachIsClosedOnceAndNoneAborted(self) -> None:
        self.join()
        self.a.end()
        self.b.end()
        for transport in self.a, self.b:
            self.assertEqual(transport.how, ["loseWriteConnection", "loseConnection"])

    def test_aResetIsPassedOnAsAReset(self) -> None:
        for number in 0, 1:
            self.setUp()
            self.join()
            one, other = (self.a, self.b) if number == 0 else (self.b, self.a)
            one.lose()
            self.assertEqual(other.how, ["abortConnection"])
            self.assertOver(0, 0, "reset", number)

    def test_aResetAfterTheOtherSidesEndIsAReset(self) -> None:
        self.join()
        self.b.end()
        self.a.lose()
        self.assertOver(0, 0, "reset", 0)

    def test_aPipeThatNobodyReadsIsAReset(self) -> None:
        self.join()
        self.b.protocol.writeConnectionLost()
        self.assertOver(0, 0, "reset", 1)

    def test_aProtocolThatFailsInConnectionLostDoesNotHoldItUp(self) -> None:
        def fail(reason: object) -> None:
            raise ZeroDivisionError

        self.before[0].connectionLost = fail  # type: ignore[method-assign]
        self.join()
        self.assertRaises(ZeroDivisionError, self.a.lose)
        self.assertOver(0, 0, "reset", 0)


class WithoutHalfCloseTests(MemoryCase):
    """A client over TLS, for example, and a target over TCP."""

    kinds = MemoryTransport, MemoryTCP

    def test_itsEndSendsTheOtherAllAndClosesItsWritingHalf(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.a.end()
        self.assertFalse(self.b.writeEnded)
        self.b.unstick()
        self.assertEqual(self.b.sent, b"held")
        self.assertTrue(self.b.writeEnded)
        self.assertFalse(self.b.lost)
        self.b.end()
        self.assertOver(4, 0, "end", 0)

    def test_afterItsEndTheOtherIsReadUntilItEndsTooAndNotReset(self) -> None:
        self.join()
        self.a.stuck = True
        self.b.receive(bytes(70000))
        self.assertTrue(self.b.paused)
        self.a.end()
        self.assertFalse(self.b.paused)
        self.b.receive(b"for nobody")
        self.assertNotIn("abortConnection", self.b.how)
        self.b.end()
        self.assertOver(0, 70000, "end", 0)

    def test_afterItsEndAnotherThatGoesOnSendingIsClosed(self) -> None:
        self.join()
        self.a.end()
        for _ in range(int(LINGER) + 2):
            self.b.receive(b"on and on")
            self.advance(1)
        self.assertTrue(self.b.lost)
        self.assertEqual(self.b.how, ["loseWriteConnection", "loseConnection"])
        self.assertEqual(self.successResultOf(self.done).cause, "end")

    def test_theEndOfTheOtherClosesItBehindWhatIsHeld(self) -> None:
        self.join()
        self.a.stuck = True
        self.b.receive(b"held")
        self.b.end()
        self.assertEqual(self.a.how, ["loseConnection"])
        self.assertFalse(self.a.lost)
        self.a.unstick()
        self.assertEqual(self.a.sent, b"held")
        self.assertOver(0, 4, "end", 1)

    def test_itsLossIsAReset(self) -> None:
        self.join()
        self.a.receive(b"data")
        self.a.lose(ConnectionLost())
        self.assertEqual(self.b.how, ["abortConnection"])
        self.assertOver(4, 0, "reset", 0)

    def test_aResetIsPassedOnBehindWhatIsStillToBeSent(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.a.lose()
        self.advance(5)
        self.assertFalse(self.b.lost)
        self.b.unstick()
        self.advance(1)
        self.assertEqual((self.b.sent, self.b.how), (b"held", ["abortConnection"]))
        self.assertOver(4, 0, "reset", 0)

    def test_aResetDoesNotWaitForAReaderThatTakesNothing(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.a.lose()
        self.advance(int(LINGER) + 2)
        self.assertEqual((self.b.sent, self.b.how), (b"", ["abortConnection"]))
        self.assertOver(4, 0, "reset", 0)


class SlowReaderTests(MemoryCase):
    """Timeouts are for those who take nothing; what a peer takes counts like what it sends."""

    def slowly(self, transport: MemoryTransport, seconds: int) -> None:
        """The peer takes a byte every second."""
        for _ in range(seconds):
            transport.held = transport.held[1:]
            self.advance(1)

    def held(self, idle: float | None, halfClose: float | None) -> None:
        self.join(idle, halfClose)
        self.b.stuck = True
        self.a.receive(bytes(1000))

    def test_aReaderThatGoesOnTakingIsNotIdle(self) -> None:
        self.held(10, None)
        self.slowly(self.b, 100)
        self.assertEqual(self.b.how, [])
        self.advance(int(LINGER) - 2)
        self.assertEqual(self.b.how, [])  # its kernel may tell of what it takes in large steps
        self.advance(15)
        self.assertEqual(self.b.how, ["abortConnection"])

    def test_aHalfClosedSpliceWaitsForOne(self) -> None:
        self.held(None, 10)
        self.a.end()
        self.slowly(self.b, 100)
        self.assertEqual(self.b.how, ["loseWriteConnection"])
        self.assertEqual(self.a.how, [])
        self.advance(int(LINGER) + 12)
        self.assertOver(1000, 0, "linger", 0)

    def test_theLingerIsForWhatIsNotTaken(self) -> None:
        self.held(None, None)
        self.a.end()
        self.b.end()
        self.slowly(self.b, 4 * int(LINGER))
        self.assertFalse(self.b.lost)
        self.advance(2 * int(LINGER) + 2)
        self.assertEqual(self.b.how[-1], "abortConnection")
        self.assertOver(1000, 0, "linger", 0)


class TimeoutTests(MemoryCase):
    def test_anIdleSpliceIsClosedInOrder(self) -> None:
        self.join(idle=10)
        self.advance(9)
        self.assertEqual(self.a.how + self.b.how, [])
        self.advance(2)
        self.assertEqual(self.a.how + self.b.how, ["loseWriteConnection"] * 2)
        self.a.end()
        self.b.end()
        self.assertOver(0, 0, "idle", None)

    def test_aByteInEitherDirectionPutsItOff(self) -> None:
        self.join(idle=10)
        for transport in self.a, self.b, self.a:
            self.advance(8)
            transport.receive(b".")
        self.advance(8)
        self.assertEqual(self.a.how + self.b.how, [])

    def test_withoutAnIdleTimeoutItMayStayIdle(self) -> None:
        self.join(idle=None)
        self.advance(5000)
        self.assertEqual(self.a.how + self.b.how, [])

    def test_onceOneSideHasEndedTheHalfCloseTimeoutCounts(self) -> None:
        self.join(idle=1000, halfClose=10)
        self.advance(50)
        self.assertEqual(self.a.how, [])
        self.b.receive(b".")
        self.advance(1)
        self.b.end()
        self.advance(11)
        self.a.end()
        self.assertOver(0, 1, "half-close", 1)

    def test_aHalfClosedSpliceLivesOnWhileBytesFlow(self) -> None:
        self.join(idle=None, halfClose=10)
        self.a.end()
        for _ in range(10):
            self.advance(8)
            self.b.receive(b".")
        self.assertEqual(self.a.sent, b"." * 10)
        self.assertEqual(self.a.how, [])

    def test_withoutAHalfCloseTimeoutItMayStayHalfClosed(self) -> None:
        self.join(idle=10, halfClose=None)
        self.a.end()
        self.advance(5000)
        self.assertNoResult(self.done)

    def test_theHalfCloseTimeoutBeginsWithTheEndAndNotWithTheLastByte(self) -> None:
        for number in 0, 1:
            self.setUp()
            self.join(halfClose=10)
            ends, other = (self.a, self.b) if number == 0 else (self.b, self.a)
            self.advance(100)
            ends.end()
            self.advance(9)
            other.receive(b"late")
            self.assertEqual(ends.sent, b"late")

    def test_whatCannotBeSentIsGivenUpAfterTheLinger(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.a.end()
        self.b.end()
        self.advance(int(LINGER) - 1)
        self.assertFalse(self.b.lost)
        self.advance(2)
        self.assertEqual(self.b.how[-1], "abortConnection")
        self.assertOver(4, 0, "linger", 0)

    def test_theLingerBeginsWithTheEndAndNotWithTheLastByte(self) -> None:
        self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        self.advance(100)
        self.a.end()
        self.b.end()
        self.advance(int(LINGER) - 2)
        self.assertFalse(self.b.lost)
        self.b.unstick()
        self.assertOver(4, 0, "end", 0)

    def test_afterACloseAPeerThatGoesOnSendingIsAborted(self) -> None:
        self.join(idle=10)
        self.advance(11)
        for _ in range(int(LINGER) + 2):
            self.a.receive(b"on and on")
            self.advance(1)
        self.assertTrue(self.a.lost)
        self.assertEqual(self.successResultOf(self.done).cause, "idle")


class CloseTests(MemoryCase):
    def test_closeSendsWhatWasReceivedAndIsNotTwice(self) -> None:
        splice = self.join()
        self.b.stuck = True
        self.a.receive(b"held")
        splice.close()
        splice.close()
        self.assertEqual(self.b.how, ["loseWriteConnection"])
        self.b.unstick()
        self.assertEqual(self.b.sent, b"held")
        self.a.end()
        self.b.end()
        self.assertOver(4, 0, "closed", None)

    def test_whatArrivesAfterACloseIsDroppedAndNotCounted(self) -> None:
        splice = self.join()
        self.a.receive(b"before")
        splice.close()
        self.a.receive(b"after")
        self.a.end()
        self.b.end()
        self.assertEqual(self.b.sent, b"before")
        self.assertOver(6, 0, "closed", None)

    def test_aSourceThatWasPausedIsReadAfterACloseSoThatItsEndIsSeen(self) -> None:
        splice = self.join()
        self.b.stuck = True
        self.a.receive(bytes(70000))
        splice.close()
        self.assertFalse(self.a.paused)

    def test_abortEndsBothAtOnce(self) -> None:
        splice = self.join()
        splice.abort()
        self.assertOver(0, 0, "aborted", None)
        self.assertIn("abortConnection", self.a.how + self.b.how)

    def test_anAbortAfterOneSidesEndIsNotCalledAReset(self) -> None:
        splice = self.join()
        self.b.end()
        splice.abort()
        self.assertOver(0, 0, "aborted", 1)

    def test_abortAfterItsEndDoesNothing(self) -> None:
        splice = self.join()
        self.a.end()
        self.b.end()
        splice.abort()
        self.assertOver(0, 0, "end", 0)
        self.assertNotIn("abortConnection", self.a.how + self.b.how)

    def test_twoThatEndAsTheyAreJoinedAreOver(self) -> None:
        class Over(MemoryTCP):
            def resumeProducing(self) -> None:
                self.lose()

        self.a, self.b = Over(Recorder()), Over(Recorder())
        self.done = splice(self.a, self.b, reactor=self.clock)
        self.successResultOf(self.done)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancellingAbortsBothAndFailsTheDeferred(self) -> None:
        self.done = splice(self.a, self.b, reactor=self.clock)
        self.done.cancel()
        self.failureResultOf(self.done, CancelledError)
        self.assertTrue(self.a.lost and self.b.lost)


class LoopbackSpliceTests:
    """What every way to splice two TCP connections must do. Mix it into a TestCase.

    The peer of the first transport is the client, that of the second one the target.

    @cvar inKernel: as in L{Terms}.
    """

    inKernel: bool
    timeout = 60

    def setUp(self) -> None:
        self.clock = Clock()
        self.loopback = Loopback(self)

    def join(
        self, a: Any, b: Any, idle: float | None = None, halfClose: float | None = 60.0
    ) -> Deferred[Ended]:
        sweep = Sweep.fine(self.clock, idle, halfClose)
        terms = Terms(idle, halfClose, inKernel=self.inKernel)
        self.splice, done = spliced(a.transport, b.transport, sweep, terms)
        return done

    def joined(self, **timeouts: float | None) -> tuple[Peer, Peer, Deferred[Ended]]:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        self.before = a, b
        return client, target, self.join(a, b, **timeouts)

    def advance(self, seconds: int) -> None:
        self.clock.pump([1] * seconds)

    def assertSame(self, received: bytes | bytearray, sent: bytes) -> None:
        self.assertEqual(digest(received), digest(sent))  # type: ignore[attr-defined]

    async def pushed(self, sock: socket.socket, limit: int = 32 * 1024 * 1024) -> int:
        """Send until nothing more goes for many rounds of the reactor; how much that was."""
        sent = quiet = 0
        while quiet < 200 and sent < limit:
            try:
                sent += sock.send(bytes(65536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await self.loopback.turn()
        return sent

    async def pulled(self, sock: socket.socket, count: int) -> int:
        """Read so many bytes, or up to the end; how many there were."""
        got = 0
        while got < count:
            try:
                data = sock.recv(65536)
            except BlockingIOError:
                await self.loopback.turn()
                continue
            if not data:
                break
            got += len(data)
        return got

    async def test_afterTheClientsEndTheLateAnswerArrives(self) -> None:
        client, target, done = self.joined()
        question, answer = stream(1, 3_000_000), stream(2, 3_000_000)
        client.send(question)
        client.end()
        await target.isEnded()
        self.assertSame(target.received, question)
        self.assertFalse(client.ended)
        target.send(answer)
        target.end()
        await client.isLost()
        self.assertSame(client.received, answer)
        self.assertEqual(await done, Ended(3_000_000, 3_000_000, "end", 0))
        await target.isLost()
        for peer in client, target:
            self.assertIsInstance(peer.lost.value, ConnectionDone)

    async def test_aTargetThatEndsFirstStillReceives(self) -> None:
        client, target, done = self.joined()
        target.send(b"greeting")
        target.end()
        await client.isEnded()
        self.assertEqual(bytes(client.received), b"greeting")
        late = stream(3, 2_000_000)
        client.send(late)
        client.end()
        await target.isLost()
        self.assertSame(target.received, late)
        self.assertEqual(await done, Ended(2_000_000, 8, "end", 1))

    async def test_anEndWithoutAByteIsPassedOn(self) -> None:
        client, target, done = self.joined()
        client.end()
        await target.isEnded()
        target.end()
        self.assertEqual(await done, Ended(0, 0, "end", 0))

    async def test_bothEndingAtOnceIsAnEndToo(self) -> None:
        client, target, done = self.joined()
        client.send(b"bye")
        target.send(b"bye!")
        client.end()
        target.end()
        ended = await done
        self.assertEqual((ended.sent, ended.received, ended.cause), (3, 4, "end"))
        await client.isLost()
        await target.isLost()
        self.assertEqual((bytes(client.received), bytes(target.received)), (b"bye!", b"bye"))

    async def test_chunksOfAnySizeBothWaysAtOnceArriveWholeAndInOrder(self) -> None:
        client, target, done = self.joined()
        chance = random.Random(4)
        out, back = stream(5, 4_000_000), stream(6, 5_000_000)
        left = {client: memoryview(out), target: memoryview(back)}
        while any(left.values()):
            for peer, data in left.items():
                size = chance.choice((1, 2, 100, 1460, 4096, 65536, 65537, 300_000))
                peer.send(bytes(data[:size]))
                left[peer] = data[size:]
            if chance.random() < 0.7:
                await self.loopback.turn()
        client.end()
        target.end()
        ended = await done
        await client.isLost()
        await target.isLost()
        self.assertSame(target.received, out)
        self.assertSame(client.received, back)
        self.assertEqual((ended.sent, ended.received), (len(out), len(back)))

    async def test_manyShortMessagesGoToAndFro(self) -> None:
        client, target, _ = self.joined()
        for number in range(300):
            message = b"%03d" % number
            client.send(message)
            await target.gets(3 * number + 3)
            target.send(message)
            await client.gets(3 * number + 3)
        whole = b"".join(b"%03d" % number for number in range(300))
        self.assertEqual(bytes(client.received), whole)
        self.assertEqual(bytes(target.received), whole)

    async def _readerThatNeverReads(self, sender: int) -> None:
        client, a = self.loopback.rawConnection(BUFFER)
        target, b = self.loopback.rawConnection(BUFFER)
        self.join(a, b)
        source, sink = (client, target) if sender == 0 else (target, client)
        sent = await self.pushed(source)
        self.assertLessEqual(sent, IN_THE_KERNEL + HELD)  # type: ignore[attr-defined]
        # The other direction is not held up by this one.
        sink.send(b"still here")
        self.assertEqual(await self.pulled(source, 10), 10)
        self.assertEqual(await self.pulled(sink, sent), sent)
        # And what had stopped flows again.
        source.send(b"more")
        self.assertEqual(await self.pulled(sink, 4), 4)

    async def test_aTargetThatDoesNotReadStopsTheClient(self) -> None:
        await self._readerThatNeverReads(0)

    async def test_aClientThatDoesNotReadStopsTheTarget(self) -> None:
        await self._readerThatNeverReads(1)

    async def test_aClientsResetReachesTheTarget(self) -> None:
        client, target, done = self.joined()
        client.send(b"hello")
        await target.gets(5)
        client.reset()
        await target.isEnded()
        self.assertEqual(await done, Ended(5, 0, "reset", 0))

    async def test_aTargetsResetReachesTheClient(self) -> None:
        client, target, done = self.joined()
        target.send(b"hello")
        await client.gets(5)
        target.reset()
        await client.isEnded()
        self.assertEqual(await done, Ended(0, 5, "reset", 1))

    async def test_aResetInTheMiddleOfAFloodReachesTheSender(self) -> None:
        client, target, done = self.joined()
        client.send(bytes(8_000_000))
        await target.gets(100_000)
        target.reset()
        await client.isLost()
        ended = await done
        self.assertEqual((ended.cause, ended.first), ("reset", 1))

    async def test_aResetAfterAHalfCloseReachesTheOtherSide(self) -> None:
        client, target, done = self.joined()
        client.end()
        await target.isEnded()
        target.send(b"partial")
        await client.gets(7)
        target.reset()
        await client.isLost()
        self.assertEqual(await done, Ended(0, 7, "reset", 1))

    async def test_anIdleSpliceIsClosedInOrder(self) -> None:
        client, target, done = self.joined(idle=10)
        client.send(b"hello")
        await target.gets(5)
        self.advance(9)
        self.assertFalse(client.ended)
        self.advance(15)
        await client.isEnded()
        await target.isEnded()
        self.assertIsNone(client.lost)
        self.assertIsNone(target.lost)
        client.end()
        target.end()
        self.assertEqual(await done, Ended(5, 0, "idle", None))

    async def test_bytesPutTheIdleTimeoutOff(self) -> None:
        client, target, _ = self.joined(idle=10)
        for number in range(6):
            sender, receiver = (client, target) if number % 2 else (target, client)
            self.advance(7)
            sender.send(b".")
            await receiver.gets(number // 2 + 1)
        self.assertFalse(client.ended or target.ended)

    async def test_afterOneSidesEndTheHalfCloseTimeoutCounts(self) -> None:
        client, target, done = self.joined(idle=None, halfClose=10)
        client.end()
        await target.isEnded()
        self.advance(25)
        await client.isEnded()
        target.end()
        self.assertEqual(await done, Ended(0, 0, "half-close", 0))

    async def test_whatAReaderNeverTakesIsGivenUpAfterTheLinger(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.rawConnection(BUFFER)
        b.transport.write(bytes(1_000_000))
        done = self.join(a, b)
        client.end()
        target.shutdown(socket.SHUT_WR)
        await client.isLost()
        self.advance(1)
        self.advance(int(LINGER) - 1)
        await self.loopback.turn()
        self.assertFalse(done.called)
        while not done.called:  # what filled the reader's buffer meanwhile has counted
            self.advance(int(LINGER))
            await self.loopback.turn()
        ended = await done
        self.assertEqual(ended.cause, "linger")

    async def test_closeSendsWhatWasReceivedAndEndsBoth(self) -> None:
        client, target, done = self.joined()
        client.send(b"hello")
        await target.gets(5)
        self.splice.close()
        await client.isEnded()
        await target.isEnded()
        client.end()
        target.end()
        self.assertEqual(await done, Ended(5, 0, "closed", None))

    async def test_cancellingAbortsBoth(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        done = splice(a.transport, b.transport, inKernel=self.inKernel)
        client.send(b"hello")
        await target.gets(5)
        done.cancel()
        with self.assertRaises(CancelledError):  # type: ignore[attr-defined]
            await done
        await client.isLost()
        await target.isLost()
        for peer in client, target:
            self.assertIsInstance(peer.lost.value, ConnectionLost)

    async def test_theProtocolsBeforeItHearOfNothingButTheLoss(self) -> None:
        client, target, done = self.joined()
        client.send(b"question")
        client.end()
        await target.isEnded()
        target.send(b"answer")
        target.end()
        await done
        for protocol in self.before:
            self.assertEqual(protocol.calls, ["connectionLost"])

    async def test_theyHearOfAResetOnceToo(self) -> None:
        client, _, done = self.joined()
        client.reset()
        await done
        for protocol in self.before:
            self.assertEqual(protocol.calls, ["connectionLost"])

    async def test_whatATransportHadStillToSendComesFirst(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        early, late = stream(7, 1_000_000), stream(8, 1_000_000)
        b.transport.write(early)
        client.send(late)
        done = self.join(a, b)
        client.end()
        await target.isEnded()
        self.assertSame(target.received, early + late)
        target.end()
        self.assertEqual(await done, Ended(1_000_000, 0, "end", 0))

    async def test_bytesDeliveredRightAfterItComeBeforeLaterOnes(self) -> None:
        # As the endpoint does with what came behind the proxy's answer.
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        early, late = stream(9, 50_000), stream(10, 1_000_000)
        target.send(late)
        done = self.join(a, b)
        b.transport.protocol.dataReceived(early)
        target.end()
        await client.isEnded()
        self.assertSame(client.received, early + late)
        client.end()
        self.assertEqual(await done, Ended(0, 1_050_000, "end", 1))

    async def test_bytesThatAPausedTransportDidNotReadAreNotLost(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        a.transport.pauseProducing()
        client.send(b"before anybody listened")
        client.end()
        await self.loopback.turn()
        self.join(a, b)
        await target.isEnded()
        self.assertEqual(bytes(target.received), b"before anybody listened")


class KernelLoopbackTests(LoopbackSpliceTests, TestCase):
    inKernel = True


class ProducersLoopbackTests(LoopbackSpliceTests, TestCase):
    inKernel = False

    async def test_aSourceThatHasBeenStoppedIsNotRead(self) -> None:
        client, a = self.loopback.rawConnection(BUFFER)
        _, b = self.loopback.rawConnection(BUFFER)
        self.join(a, b)
        await self.pushed(client)
        self.assertNotIn(a.transport, self.loopback.reactor.getReaders())
        self.assertIn(b.transport, self.loopback.reactor.getReaders())


def ensuring(method: Any) -> Any:
    """Trial waits for Deferreds in setUp, and for coroutines only in tests."""
    return lambda case: Deferred.fromCoroutine(method(case))


def selfSigned() -> tuple[Any, Any]:
    """The context factories of a TLS client and of a server with a certificate of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return CertificateOptions(), PrivateCertificate.loadPEM(pem).options()


class TLSSpliceTests(TestCase):
    """A client over TLS, which cannot half-close, and a target over plain TCP."""

    timeout = 60

    @ensuring
    async def setUp(self) -> None:
        self.loopback = Loopback(self)
        self.client, a = self.loopback.connection(tls=selfSigned())
        self.target, b = self.loopback.connection()
        self.before = a, b
        self.clock = Clock()
        await self.ready(a.transport)
        self.done = splice(a.transport, b.transport, reactor=self.clock)

    async def ready(self, secure: Any) -> None:
        """What is waited for before the two are joined."""

    def assertSame(self, received: bytes | bytearray, sent: bytes) -> None:
        self.assertEqual(digest(received), digest(sent))

    def saysCloseNotify(self) -> bool:
        connection = self.client.transport.getHandle()
        return bool(connection.get_shutdown() & SSL.RECEIVED_SHUTDOWN)

    async def test_bytesArriveWholeBothWays(self) -> None:
        out, back = stream(11, 3_000_000), stream(12, 3_000_000)
        self.client.send(out)
        self.target.send(back)
        await self.target.gets(len(out))
        await self.client.gets(len(back))
        self.assertSame(self.target.received, out)
        self.assertSame(self.client.received, back)

    async def test_theTargetsEndComesAsCloseNotifyBehindAllItSent(self) -> None:
        back = stream(13, 3_000_000)
        notified: list[bool] = []
        self.client.readConnectionLost = lambda: None  # type: ignore[method-assign]
        lost = self.client.connectionLost
        self.client.connectionLost = lambda reason: (  # type: ignore[method-assign]
            notified.append(self.saysCloseNotify()),
            lost(reason),
        )
        self.target.send(back)
        self.target.end()
        await self.client.isLost()
        self.assertSame(self.client.received, back)
        self.assertEqual(notified, [True])
        self.assertIsInstance(self.client.lost.value, ConnectionDone)
        self.assertEqual(await self.done, Ended(0, len(back), "end", 1))

    async def test_whatTheClientHadSentBeforeItSawTheTargetsEndArrives(self) -> None:
        out = stream(14, 3_000_000)
        self.client.send(b"hello")
        await self.target.gets(5)
        self.client.send(out)
        self.target.end()
        await self.target.isEnded()
        self.assertSame(self.target.received, b"hello" + out)
        self.assertEqual((await self.done).cause, "end")

    async def test_theClientsCloseSendsAllToTheTarget(self) -> None:
        out = stream(15, 3_000_000)
        self.client.send(out)
        self.client.transport.loseConnection()
        await self.target.isEnded()
        self.assertSame(self.target.received, out)
        self.assertIsNone(self.target.lost)
        self.target.end()
        self.assertEqual(await self.done, Ended(len(out), 0, "end", 0))

    async def test_theClientsCloseIsNoResetToATargetThatIsStillSending(self) -> None:
        self.client.send(b"GET")
        await self.target.gets(3)
        self.client.transport.loseConnection()
        self.target.send(stream(16, 3_000_000))
        await self.target.isEnded()
        self.target.end()
        await self.target.isLost()
        self.assertIsInstance(self.target.lost.value, ConnectionDone)
        self.assertEqual((await self.done).cause, "end")

    async def test_theTargetsResetEndsTheClient(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        self.target.reset()
        await self.client.isLost()
        ended = await self.done
        self.assertEqual((ended.cause, ended.first), ("reset", 1))

    async def isCut(self) -> None:
        """The target is told by a reset that the client's connection did not end in order."""
        while not self.done.called:
            self.clock.advance(0.1)
            await self.loopback.turn()
        await self.target.isLost()
        self.assertIsInstance(self.target.lost.value, ConnectionLost)
        ended = await self.done
        self.assertEqual((ended.cause, ended.first), ("cut", 0))

    async def test_anEndOfTCPWithoutCloseNotifyIsACut(self) -> None:
        self.client.send(b"half")
        await self.target.gets(4)
        self.client.transport.transport.loseConnection()
        await self.isCut()

    async def test_aResetOfTCPIsACut(self) -> None:
        self.client.send(b"half")
        await self.target.gets(4)
        self.client.transport.transport.abortConnection()
        await self.isCut()

    async def test_recordsBeforeABrokenOneAreDeliveredAndItIsACut(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        self.client.send(b"whole")
        self.client.transport.transport.write(b"\x17\x03\x03\x00\x14" + bytes(20))
        await self.isCut()
        self.assertSame(self.target.received, b"hellowhole")

    async def test_aClientThatFollowsTheTargetsEndNeedsNoCloseNotify(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        tls = self.client.transport
        self.patch(tls, "_shutdownTLS", tls.transport.abortConnection)  # its answer to ours
        self.target.end()
        await self.client.isLost()
        self.assertEqual(await self.done, Ended(5, 0, "end", 1))

    async def test_aResetBehindACloseNotifyIsNone(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        tls = self.client.transport
        tls.transport.setTcpNoDelay(True)  # a reset would destroy what waits
        tls.getHandle().shutdown()
        tls._flushSendBIO()
        tls.transport.dataBuffer, sent = b"", tls.transport.dataBuffer
        tls.transport.socket.send(sent + b"".join(tls.transport._tempDataBuffer))
        tls.transport.abortConnection()
        while not self.done.called and not self.target.ended:
            self.clock.advance(0.1)
            await self.loopback.turn()
        self.assertIsNone(self.target.lost)
        self.target.end()
        self.assertEqual(await self.done, Ended(5, 0, "end", 0))

    async def test_aTargetThatIsCutOffAfterTheClientsEndIsStillCutOff(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection(tls=selfSigned())
        clock = Clock()
        await self.ready(b.transport)
        done = splice(a.transport, b.transport, reactor=clock)
        client.send(b"question")
        await target.gets(8)
        target.send(b"half")
        await client.gets(4)
        tls = target.transport
        self.patch(tls, "_shutdownTLS", tls.transport.loseConnection)
        client.end()
        while not done.called:
            clock.advance(0.1)
            await self.loopback.turn()
        await client.isLost()
        self.assertEqual(await done, Ended(8, 4, "cut", 1))

    async def test_theTargetsResetReachesTheClientWithoutACloseNotify(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        self.target.reset()
        await self.client.isLost()
        self.assertIsInstance(self.client.lost.value, ConnectionLost)

    async def test_cancellingAbortsBoth(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        self.done.cancel()
        with self.assertRaises(CancelledError):
            await self.done
        await self.client.isLost()
        await self.target.isLost()

    async def test_theProtocolsBeforeItHearOfNothingButTheLoss(self) -> None:
        self.client.send(b"hello")
        await self.target.gets(5)
        self.client.transport.loseConnection()
        await self.target.isEnded()
        self.target.end()
        await self.done
        for protocol in self.before:
            self.assertEqual(protocol.calls, ["connectionLost"])


class TlsLegTests(TLSSpliceTests):
    """The same where the handshake is over, and the socket is taken over."""

    def setUp(self) -> Any:
        self.legs: list[type] = []
        begin = TlsLeg.__init__

        def count(leg: TlsLeg, *arguments: Any) -> None:
            self.legs.append(type(leg))
            begin(leg, *arguments)

        self.patch(TlsLeg, "__init__", count)
        return super().setUp()

    async def ready(self, secure: Any) -> None:
        while not isTlsOverPlain(secure):
            await self.loopback.turn()

    async def test_itIsTaken(self) -> None:
        await self.loopback.turn()
        self.assertEqual(self.legs, [TlsLeg])

    async def test_aSlowTargetStopsTheClientAndGetsAll(self) -> None:
        client, a = self.loopback.connection(tls=selfSigned())
        await self.ready(a.transport)
        sock, b = self.loopback.rawConnection(8192)
        done = splice(a.transport, b.transport, reactor=self.clock)
        out, received = stream(18, 3_000_000), bytearray()
        client.send(out)
        client.transport.loseConnection()
        while len(received) < len(out):
            await self.loopback.turn()
            with contextlib.suppress(BlockingIOError):
                received += sock.recv(5000)
        self.assertSame(received, out)
        while True:
            await self.loopback.turn()
            with contextlib.suppress(BlockingIOError):
                self.assertEqual(sock.recv(10), b"")
                break
        sock.close()
        self.assertEqual((await done).sent, len(out))

    async def test_aSlowClientStopsTheTargetAndGetsAll(self) -> None:
        client, a = self.loopback.connection(tls=selfSigned(), bufferSize=8192)
        await self.ready(a.transport)
        target, b = self.loopback.connection()
        done = splice(a.transport, b.transport, reactor=self.clock)
        back = stream(19, 3_000_000)
        target.send(back)
        target.end()
        for _ in range(200):
            client.transport.pauseProducing()
            await self.loopback.turn()
            client.transport.resumeProducing()
            await self.loopback.turn()
        await client.isLost()
        self.assertSame(client.received, back)
        self.assertEqual((await done).received, len(back))

    async def test_theEndOfTheHandshakeComesBeforeTheFirstByte(self) -> None:
        client, server = selfSigned()
        here, there = tcpPair()
        source, a = self.loopback.connection()
        a.transport.pauseProducing()
        peer, out = Peer(), stream(17, 1_000_000)
        self.loopback.adopt(there, peer, server, False)
        self.loopback.adopt(here, SplicesAtOnce(a.transport), client, True)
        source.send(out)
        await peer.gets(len(out))
        self.assertSame(peer.received, out)


class EndWithTheStartTests(TestCase):
    """The peer over TLS sends its first words and its end at once, in one segment, and the two are
    joined from within Twisted's loop over what was received.
    """

    timeout = 60

    def setUp(self) -> None:
        self.loopback = Loopback(self)

    async def test_theBytesAndTheEndArriveAndOthersGoOn(self) -> None:
        client, a = self.loopback.connection()
        target, b = self.loopback.connection()
        splice(a.transport, b.transport)
        for _ in range(20):
            await self.one()
        client.send(b"still here")
        await target.gets(10)
        target.end()
        await client.isEnded()

    async def one(self) -> None:
        there, far = self.loopback.connection()
        here, sock = tcpPair()
        context, server = selfSigned()
        peer, joins = Peer(), JoinsAtTheFirstByte(far.transport)
        self.loopback.adopt(here, peer, server, False)
        self.loopback.adopt(sock, joins, context, True)
        await joins.ready
        peer.send(b"answer")
        peer.send(b"banner")
        peer.transport.loseConnection()
        await there.isEnded()
        self.assertEqual(bytes(there.received), b"banner")
        there.end()
        assert joins.done is not None
        self.assertEqual(await joins.done, Ended(6, 0, "end", 0))


class RenegotiationTests(TestCase):
    """A target that wants to negotiate TLS 1.2 anew is refused, by whatever the bytes go."""

    timeout = 60
    inKernel = False

    async def test_itEndsTheSessionAsACut(self) -> None:
        loopback = Loopback(self)
        client, a = loopback.connection()
        here, sock = tcpPair()
        _, server = selfSigned()
        server.getContext().set_options(SSL.OP_NO_TLSv1_3)
        peer, secure = Peer(), JoinsAtTheFirstByte(a.transport, inKernel=self.inKernel)
        loopback.adopt(here, peer, server, False)
        loopback.adopt(sock, secure, Ours(), True)
        await secure.ready
        peer.send(b"first")
        await loopback.turn()
        peer.send(b"then")
        await client.gets(4)
        connection = peer.transport.getHandle()
        connection.renegotiate()
        connection.do_handshake()
        peer.transport._flushSendBIO()
        await client.isLost()
        self.assertIsInstance(client.lost.value, ConnectionLost)
        assert secure.done is not None
        self.assertEqual((await secure.done).cause, "cut")


class KernelRenegotiationTests(RenegotiationTests):
    inKernel = True


@implementer(IOpenSSLContextFactory)
class Ours:
    """The context that ptunnel's own TLS has, for Twisted."""

    def getContext(self) -> Any:
        """As Twisted asks."""
        return TlsContext(TlsSettings(verify=False)).current()


@implementer(IHandshakeListener)
class SplicesAtOnce(Recorder):
    """Is joined to another transport as soon as its handshake is done."""

    def __init__(self, other: Any) -> None:
        super().__init__()
        self.other = other

    def handshakeCompleted(self) -> None:
        splice(self.other, self.transport)


@implementer(IHandshakeListener)
class JoinsAtTheFirstByte(Recorder):
    """Is joined to another transport as soon as it hears anything; `ready` fires before."""

    def __init__(self, other: Any, **settings: Any) -> None:
        super().__init__()
        self.other = other
        self.settings = settings
        self.ready: Deferred[None] = Deferred()
        self.done: Deferred[Ended] | None = None

    def handshakeCompleted(self) -> None:
        self.ready.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.done = splice(self.transport, self.other, **self.settings)
