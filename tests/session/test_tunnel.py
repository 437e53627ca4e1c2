"""`ptunnel.session.tunnel`: one client's way through accept, pause, connect, splice and account."""

from __future__ import annotations

import contextlib
import errno
import gc
import ipaddress
import os
import subprocess
import sys
import weakref
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.errors import Unreachable
from ptunnel.log import Log
from ptunnel.net.descriptors import Descriptors
from ptunnel.net.dial import tcpEndpoint
from ptunnel.relay.timeouts import LINGER
from ptunnel.session import session as module
from ptunnel.session.introduce import PRELUDE_WAIT
from ptunnel.session.session import Session
from ptunnel.session.tunnel import TunnelFactory
from ptunnel.starttls import Prelude
from tests.support.loopback import (
    FakeEndpoint,
    MemoryTCP,
    MemoryTransport,
    Peer,
    Recorder,
    captureLog,
    lines,
    useReactor,
)
from tests.support.phases import holdToTable

ALICE = IPv4Address("TCP", "192.0.2.1", 5001)


class TunnelCase(SynchronousTestCase):
    def setUp(self) -> None:
        holdToTable(self, Session, "a session")
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.events = captureLog(self)
        self.tunnel = self.make()

    def make(self, *, endpoint: Any = None, level: str = "info", **settings: Any) -> TunnelFactory:
        self.tunnel = TunnelFactory(
            endpoint or self.endpoint,
            name="imap",
            log=Log(level),
            reactor=self.clock,
            **settings,
        )
        return self.tunnel

    def client(self, address: Any = ALICE, kind: type[MemoryTransport] = MemoryTCP) -> Any:
        """A client's transport, or None for one that is turned away at the door."""
        session = self.tunnel.buildProtocol(address)
        transport = kind(session, address)
        if isinstance(session, Session):
            return transport
        self.assertEqual(transport.how, ["loseConnection"])
        return None

    def connected(self) -> tuple[Any, Any]:
        client = self.client()
        return client, self.endpoint.succeed()

    def logged(self) -> list[str]:
        logged = lines(self.events)
        self.events.clear()
        return logged

    def warned(self) -> list[str]:
        """The warnings among them."""
        return [line for line in self.logged() if line.startswith("warn: ")]


class ConnectingTests(TunnelCase):
    def test_notAByteOfAClientIsReadBeforeThereIsAConnection(self) -> None:
        client = self.client()
        self.assertTrue(client.paused)
        client.receive(b"too early")
        self.assertEqual(client.unread, [b"too early"])

    def test_whatTheClientHasSentMeanwhileIsCarriedThen(self) -> None:
        client = self.client()
        client.receive(b"EHLO")
        target = self.endpoint.succeed()
        self.assertEqual(target.sent, b"EHLO")
        target.receive(b"250")
        self.assertEqual(client.sent, b"250")

    def test_eachClientGetsAConnectionOfItsOwn(self) -> None:
        one, two = self.client(), self.client()
        there = [self.endpoint.succeed(number) for number in (0, 1)]
        one.receive(b"1")
        two.receive(b"2")
        self.assertEqual([target.sent for target in there], [b"1", b"2"])
        self.assertEqual(len(self.tunnel.sessions), 2)

    def test_anEndpointThatConnectsAtOnceIsFine(self) -> None:
        class Instantly(FakeEndpoint):
            def connect(self, protocolFactory: Any) -> Deferred[Any]:
                protocol = protocolFactory.buildProtocol(None)
                self.transport = MemoryTCP(protocol)
                return succeed(protocol)

        endpoint = Instantly()
        self.make(endpoint=endpoint)
        self.client().receive(b"hello")
        self.assertEqual(endpoint.transport.sent, b"hello")
        self.assertEqual(self.logged(), [])

    def test_aClientThatGoesAwayCancelsTheAttempt(self) -> None:
        client = self.client()
        client.lose()
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.tunnel.sessions, set())
        self.assertEqual(
            self.logged(), ["info: imap: 192.0.2.1:5001 left before it had a tunnel, CC"]
        )
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_withoutAClockItUsesTheInstalledReactor(self) -> None:
        useReactor(self, self.clock)
        self.assertIs(TunnelFactory(self.endpoint).clock, self.clock)

    def test_whatAClientSaysChoosesNoOtherTarget(self) -> None:
        for words in (
            b"CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n",
            b"GET http://elsewhere.example/ HTTP/1.1\r\n\r\n",
            b"\x05\x01\x00",
            b"\x04\x01\x01\xbb\xc0\x00\x02\x07alice\x00",
            b"PROXY TCP4 192.0.2.9 192.0.2.8 1 2\r\n",
        ):
            self.setUp()
            client, there = self.connected()
            client.receive(words)
            self.assertEqual((there.sent, client.sent), (words, b""))
            self.assertEqual(len(self.endpoint.attempts), 1)


class LeavingTests(TunnelCase):
    """A client that goes while its connection is made."""

    def setUp(self) -> None:
        super().setUp()
        self.left: list[Any] = []
        self.patch(module, "hasLeft", lambda transport: transport in self.left)

    def test_itsAttemptIsCancelled(self) -> None:
        clients = self.client(), self.client()
        self.left.append(clients[1])
        self.clock.advance(1)
        self.assertEqual([client.lost for client in clients], [False, True])
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(
            self.logged(), ["info: imap: 192.0.2.1:5001 left before it had a tunnel, CC"]
        )

    def test_itIsNotAskedForAtOnceNorOfOneThatIsJoinedOrTurnedAway(self) -> None:
        self.patch(module, "hasLeft", self.left.append)
        self.client()
        self.endpoint.succeed()
        self.client()
        self.endpoint.fail(Unreachable("no"))
        self.clock.advance(0.9)
        self.client()
        self.clock.advance(0.9)
        self.assertEqual(self.left, [])

    def test_itIsFoundWheneverItGoes(self) -> None:
        client = self.client()
        self.clock.pump([1] * 10)
        self.assertFalse(client.lost)
        self.left.append(client)
        self.clock.advance(1)
        self.assertTrue(client.lost)


class FailureTests(TunnelCase):
    def test_itIsOneWarningThatNamesTunnelClientAndCause(self) -> None:
        self.client()
        self.endpoint.fail(Unreachable("cannot reach the proxy p:1: refused", hint="is it up?"))
        self.assertEqual(
            self.logged(),
            [
                "warn: imap: 192.0.2.1:5001 gets no tunnel: "
                "cannot reach the proxy p:1: refused (is it up?), SC"
            ],
        )

    def test_systemErrorsAreSaidInWords(self) -> None:
        self.client()
        self.endpoint.fail(ConnectionRefusedError(osError=111))
        self.client(IPv6Address("TCP", "2001:db8::1", 7))
        self.endpoint.fail(OSError(24, "whatever"))
        self.assertEqual(
            self.logged(),
            [
                "warn: imap: 192.0.2.1:5001 gets no tunnel: connection refused, SC",
                "warn: imap: [2001:db8::1]:7 gets no tunnel: too many open files "
                "(the process has all the open files that it may have; raise RLIMIT_NOFILE "
                "(LimitNOFILE, ulimit -n), or lower max-connections), RC",
            ],
        )

    def test_anAttemptThatSomethingElseCancelledIsAFailureToo(self) -> None:
        # Deferred.addTimeout over an endpoint ends so.
        client = self.client()
        self.endpoint.fail(ConnectingCancelledError(ALICE))
        self.assertEqual(client.how, ["loseWriteConnection"])
        [line] = self.logged()
        self.assertIn("warn: imap: 192.0.2.1:5001 gets no tunnel: ", line)

    def test_theClientSeesAnEndAndNoReset(self) -> None:
        client = self.client()
        client.receive(b"what nobody will read")
        self.endpoint.fail(Unreachable("no"))
        self.assertEqual(client.how, ["loseWriteConnection"])
        self.assertEqual(client.unread, [])
        client.receive(b"more of it")
        self.assertEqual(client.sent, b"")
        client.end()
        self.assertTrue(client.lost)
        self.assertNotIn("abortConnection", client.how)
        self.assertEqual(self.tunnel.sessions, set())

    def test_aClientWithoutHalfCloseIsClosed(self) -> None:
        client = self.client(kind=MemoryTransport)
        self.endpoint.fail(Unreachable("no"))
        self.assertEqual(client.how, ["loseConnection"])
        self.assertEqual(self.tunnel.sessions, set())

    def test_aClientThatStaysIsAbortedAfterTheLinger(self) -> None:
        client = self.client()
        self.endpoint.fail(Unreachable("no"))
        for _ in range(int(LINGER) - 1):
            client.receive(b"on and on")
            self.clock.advance(1)
        self.assertFalse(client.lost)
        self.clock.pump([1, 1])
        self.assertEqual(client.how, ["loseWriteConnection", "abortConnection"])
        self.assertEqual(self.tunnel.sessions, set())
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_thoseThatWereTurnedAwayTakeNoPlace(self) -> None:
        self.make(maxConnections=2)
        leaving = []
        for _ in range(3):
            leaving.append(self.client())
            self.endpoint.fail(Unreachable("no"))
        served = self.client(), self.client()
        self.assertIsNone(self.client())
        for client in leaving:
            client.end()
        self.assertIsNone(self.client())
        served[0].lose()
        self.assertIsNotNone(self.client())
        self.assertIsNone(self.client())


class EmbeddedTests(SynchronousTestCase):
    """What a program that makes a TunnelFactory of its own relies on."""

    def test_allowTakesTextsAndNetworks(self) -> None:
        allow = ["10.0.0.0/8", "192.0.2.1", ipaddress.ip_network("2001:db8::/32")]
        tunnel = TunnelFactory(FakeEndpoint(), allow=allow, reactor=Clock())
        captureLog(self)
        for host, served in (
            ("10.1.2.3", True),
            ("192.0.2.1", True),
            ("192.0.2.2", False),
            ("2001:db8::5", True),
            ("::ffff:10.0.0.1", True),
            ("::1", False),
        ):
            session = tunnel.buildProtocol(IPv4Address("TCP", host, 1))
            self.assertEqual(isinstance(session, Session), served, host)

    def test_allowRefusesWhatIsNoNetworkAtOnce(self) -> None:
        for allow, words in (
            (["localhost"], "localhost"),
            (["10.0.0.1/8"], "10.0.0.1/8 has host bits"),
            (["fe80::1%eth0"], "zone"),
            ([""], "allow: "),
        ):
            error = self.assertRaises(ValueError, TunnelFactory, FakeEndpoint(), allow=allow)
            self.assertIn(words, str(error))

    def test_allowRefusesOtherKindsAtOnce(self) -> None:
        odd: list[Any] = ["10.0.0.0/8", b"10.0.0.0/8", None, 7]
        odd += [[None], [7], [b"::1"], [["::1"]], [ipaddress.ip_address("::1")]]
        odd.append(ipaddress.ip_network("10.0.0.0/8"))
        for allow in odd:
            error = self.assertRaises(TypeError, TunnelFactory, FakeEndpoint(), allow=allow)
            self.assertIn("allow takes", str(error), allow)

    @given(st.text())
    def test_anyTextIsANetworkOrAValueError(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            TunnelFactory(FakeEndpoint(), allow=[text], reactor=Clock())

    def runProgram(self, program: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_nothingOfItInstallsAReactorBeforeItConnects(self) -> None:
        done = self.runProgram(
            "import sys\n"
            "from ptunnel import *\n"
            "login = Login(Credentials('alice', 'secret'))\n"
            "endpoint = ConnectEndpoint(object(), 'host', 1, credentials=login)\n"
            "TunnelFactory(TlsEndpoint(endpoint, TlsSettings(), 'host'), allow=['::1'])\n"
            "assert 'twisted.internet.reactor' not in sys.modules\n"
            "from twisted.internet import asyncioreactor\n"
            "asyncioreactor.install()\n"
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    # A refusal, in a program that has set up logging as said.
    REFUSED = (
        "from twisted.internet.defer import fail\n"
        "from twisted.internet.task import Clock\n"
        "from twisted.internet.testing import StringTransport\n"
        "from ptunnel import TunnelFactory\n"
        "from ptunnel.errors import Unreachable\n"
        "class Refusing:\n"
        "    def connect(self, factory): return fail(Unreachable('the proxy is down'))\n"
        "tunnel = TunnelFactory(Refusing(), name='imap', reactor=Clock())\n"
        "tunnel.buildProtocol(None).makeConnection(StringTransport())\n"
    )

    def test_aRefusalIsSeenWhereNoLoggingIsSetUp(self) -> None:
        done = self.runProgram(self.REFUSED)
        [line] = done.stderr.splitlines()
        self.assertIn("imap: a local client gets no tunnel: the proxy is down", line)

    def test_aRefusalIsSeenOnceByTwistedsOwnLogging(self) -> None:
        for begin in (
            "import sys; from twisted.python import log; log.startLogging(sys.stderr)\n",
            "import sys; from twisted.logger import *\n"
            "globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)])\n",
        ):
            done = self.runProgram(begin + self.REFUSED)
            lines = [line for line in done.stderr.splitlines() if "is down" in line]
            self.assertEqual(len(lines), 1, done.stderr)
            self.assertIn("imap: a local client gets no tunnel: the proxy is down", lines[0])


class AnswersOnce(Protocol):
    def dataReceived(self, data: bytes) -> None:
        cast(Any, self.transport).write(data)
        cast(Any, self.transport).loseConnection()


class GarbageTests(TestCase):
    timeout = 60

    async def test_nothingOfASessionIsLeftToTheGarbageCollector(self) -> None:
        from twisted.internet import reactor

        real: Any = reactor
        target = real.listenTCP(0, Factory.forProtocol(AnswersOnce), interface="127.0.0.1")
        self.addCleanup(target.stopListening)
        endpoint = tcpEndpoint(real, "127.0.0.1", target.getHost().port)
        gc.disable()
        self.addCleanup(gc.enable)
        for inKernel in True, False:
            tunnel = TunnelFactory(endpoint, log=Log("none"), inKernel=inKernel)
            port = real.listenTCP(0, tunnel, interface="127.0.0.1")
            clients = tcpEndpoint(real, "127.0.0.1", port.getHost().port)
            client: Any = await clients.connect(Factory.forProtocol(Peer))
            while not tunnel.sessions:
                await deferLater(real, 0)
            session = weakref.ref(next(iter(tunnel.sessions)))
            client.send(b"hello")
            client.end()
            await client.isLost()
            while tunnel.sessions:
                await deferLater(real, 0)
            await port.stopListening()
            await deferLater(real, 0)
            self.assertIsNone(session(), inKernel)


class BugTests(TunnelCase):
    def assertOneErrorLine(self) -> None:
        [line] = self.logged()
        self.assertTrue(
            line.startswith("error: imap: a bug: ZeroDivisionError('division by zero')")
        )
        self.assertEqual(self.tunnel.sessions, set())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_anUnexpectedFailureIsOneErrorLineAndTheClientIsAborted(self) -> None:
        client = self.client()
        self.endpoint.fail(ZeroDivisionError("division by zero"))
        self.assertEqual(client.how, ["abortConnection"])
        self.assertIn("ZeroDivisionError", self.events[0]["fields"]["traceback"])
        self.assertOneErrorLine()

    def test_anEndpointThatFailsAtOnceIsTheSame(self) -> None:
        self.endpoint.connect = lambda factory: fail(ZeroDivisionError("division by zero"))  # type: ignore[method-assign]
        client = self.client()
        self.assertEqual(client.how, ["abortConnection"])
        self.assertOneErrorLine()

    def test_anEndpointThatRaisesIsTheSame(self) -> None:
        def connect(factory: object) -> Any:
            raise ZeroDivisionError("division by zero")

        self.endpoint.connect = connect  # type: ignore[method-assign]
        client = self.client()
        self.assertEqual(client.how, ["abortConnection"])
        self.assertOneErrorLine()

    def test_whatThisMachineHasRunOutOfAsTheTwoAreJoinedIsNone(self) -> None:
        for number in errno.ENOSPC, errno.ENOMEM:

            def short(*_: object, number: int = number) -> None:
                raise OSError(number, "no more")

            patch = self.patch(module, "Splice", short)
            client, target = self.connected()
            patch.restore()
            self.assertEqual((client.how, target.how), (["abortConnection"], ["abortConnection"]))
            [line] = self.logged()
            why = os.strerror(number).lower()
            self.assertIn(f"warn: imap: 192.0.2.1:5001 gets no tunnel: {why} (it ", line)
            self.assertEqual(self.tunnel.sessions, set())

    def test_asOneOfTheTwoIsJoinedAlreadyItIsSaidOnceToo(self) -> None:
        class Short(MemoryTCP):
            def resumeProducing(self) -> None:
                raise OSError(errno.ENOSPC, "no more")

        client = self.client()
        target = self.endpoint.succeed(transport=Short())
        self.assertTrue(client.lost and target.lost)
        [line] = self.logged()
        self.assertIn("gets no tunnel: ", line)
        self.assertEqual(self.tunnel.sessions, set())
        figures = self.tunnel.counters.figures("imap")
        self.assertEqual((figures.connected, figures.failures), (0, {"unknown": 1}))
        self.assertEqual(figures.ends, {})

    def test_aClientThatCannotBeEndedInOrderIsAborted(self) -> None:
        class Short(MemoryTCP):
            def loseWriteConnection(self) -> None:
                raise OSError(errno.ENOSPC, "no more")

        client = self.client(kind=Short)
        self.endpoint.fail(ConnectionRefusedError(osError=111))
        self.assertEqual(client.how, ["abortConnection"])
        self.assertEqual(len(self.logged()), 1)
        self.assertEqual(self.tunnel.sessions, set())

    def test_whatConnectsAfterTheClientHasGoneIsAborted(self) -> None:
        late, protocol = MemoryTCP(), Recorder()
        protocol.makeConnection(late)
        attempt: Deferred[Any] = Deferred(lambda cancelled: cancelled.callback(protocol))
        self.endpoint.connect = lambda factory: attempt  # type: ignore[method-assign]
        self.client().lose()
        self.assertEqual(late.how, ["abortConnection"])
        self.assertEqual(self.tunnel.served, 0)

    def test_aConnectionThatCannotBeSplicedIsClosedOnBothSides(self) -> None:
        class Odd(MemoryTCP):
            """It keeps its bytes for the protocol that it had at first."""

            @property
            def protocol(self) -> Any:
                return None

            @protocol.setter
            def protocol(self, protocol: Any) -> None:
                self.own = protocol

            def abortConnection(self) -> None:
                self.how.append("abortConnection")

        client = self.client()
        odd = Odd()
        protocol = Recorder()
        protocol.makeConnection(odd)
        self.endpoint.attempts[0].callback(protocol)
        self.assertEqual(client.how, ["abortConnection"])
        self.assertEqual(odd.how, ["abortConnection"])
        [line] = self.logged()
        self.assertIn("cannot take over the bytes of a Odd", line)
        self.assertEqual(self.tunnel.sessions, set())


class MaxConnectionsTests(TunnelCase):
    def setUp(self) -> None:
        super().setUp()
        self.make(maxConnections=2)

    def test_furtherClientsAreTurnedAwayAndThatIsSaidOnce(self) -> None:
        self.assertIsNotNone(self.client())
        self.assertIsNotNone(self.client())
        for _ in range(3):
            self.assertIsNone(self.client())
        self.assertEqual(len(self.endpoint.attempts), 2)
        self.assertEqual(
            self.logged(),
            [
                "warn: imap: all 2 connections are in use; further clients are turned away "
                "until one ends (max-connections), PR"
            ],
        )

    def test_whenOneHasEndedTheNextIsServedAndTheLineMayComeAgain(self) -> None:
        first = self.client()
        self.client()
        self.assertIsNone(self.client())
        first.lose()
        self.assertIsNotNone(self.client())
        self.assertIsNone(self.client())
        self.assertEqual(len(self.warned()), 2)

    def test_atTheLimitComingAndGoingIsOneEpisode(self) -> None:
        self.make(maxConnections=20)
        clients = [self.client() for _ in range(20)]
        for _ in range(5):
            self.assertIsNone(self.client())
            clients.pop().lose()
            clients.append(self.client())
        self.assertEqual(len(self.warned()), 1)
        for _ in range(2):
            clients.pop().lose()
        for _ in range(3):
            clients.append(self.client())
        self.assertEqual(len(self.warned()), 1)

    def test_withoutALimitThereIsNone(self) -> None:
        self.make()
        self.assertNotIn(None, [self.client() for _ in range(50)])


class DescriptorTests(TunnelCase):
    """The budget that all tunnels of a process share."""

    SAID = (
        "all open files that the process may have, 16, are in use or reserved; further clients are "
        "turned away until a session ends (RLIMIT_NOFILE: LimitNOFILE, ulimit -n), RR"
    )

    def setUp(self) -> None:
        super().setUp()
        self.budget = Descriptors(16)  # of which a quarter is reserved
        self.make(descriptors=self.budget)

    def test_sessionsTakeTwoAndGiveThemBack(self) -> None:
        client = self.client()
        connected, target = self.connected()
        self.assertEqual(self.budget.used, 4)
        client.lose()
        connected.end()
        self.assertEqual(self.budget.used, 2)
        target.end()
        self.assertEqual(self.budget.used, 0)

    def test_thoseThatWereTurnedAwayKeepTheirsUntilTheyHaveGone(self) -> None:
        client = self.client()
        self.endpoint.fail(Unreachable("no"))
        self.assertEqual(self.budget.used, 2)
        client.end()
        self.assertEqual(self.budget.used, 0)

    def test_withoutAnyLeftClientsAreTurnedAwayAndTheLimitIsNamedOnce(self) -> None:
        first, *_ = (self.client() for _ in range(6))
        for _ in range(3):
            self.assertIsNone(self.client())
        self.assertEqual(self.logged(), [f"warn: imap: {self.SAID}"])
        first.lose()
        self.assertIsNotNone(self.client())

    def test_anotherTunnelsSessionsPortsAndPipesCountToo(self) -> None:
        for _ in range(4):
            self.client()
        other = self.make(descriptors=self.budget)
        self.budget.used += 2
        self.assertIsNotNone(self.client())
        self.assertIsNone(self.client())
        self.assertEqual(len(other.sessions), 1)
        self.assertEqual(self.logged(), [f"warn: imap: {self.SAID}"])

    def test_comingAndGoingAtTheLimitIsOneEpisode(self) -> None:
        clients = [self.client() for _ in range(6)]
        for _ in range(5):
            self.assertIsNone(self.client())
            clients.pop().lose()
            clients.append(self.client())
        self.assertEqual(len(self.warned()), 1)
        for client in clients:
            client.lose()
        for _ in range(7):
            self.client()
        self.assertEqual(len(self.warned()), 1)


class EarlyTests(TunnelCase):
    """What a client is read of although it is paused: it stood behind a PROXY header."""

    def test_itIsCarriedFirst(self) -> None:
        client = self.client()
        client.protocol.dataReceived(b"EH")
        client.protocol.dataReceived(b"LO")
        target = self.endpoint.succeed()
        client.receive(b" me")
        self.assertEqual(target.sent, b"EHLO me")

    def test_aPreludeGetsItToo(self) -> None:
        self.make(prelude=Prelude)
        client = self.client()
        client.protocol.dataReceived(PreludeTests.STARTUP)
        self.assertEqual(self.endpoint.succeed().sent, PreludeTests.STARTUP)

    def test_ofOneThatIsTurnedAwayNothingIsKept(self) -> None:
        client = self.client()
        self.endpoint.fail(Unreachable("no"))
        client.protocol.dataReceived(b"x" * 1000)
        self.assertEqual(client.protocol._early, b"")


class AllowTests(TunnelCase):
    def allows(self, address: Any, *networks: str) -> bool:
        self.make(allow=[ipaddress.ip_network(network) for network in networks])
        return self.client(address) is not None

    def test_onlyClientsOfTheNetworksAreServed(self) -> None:
        networks = "192.0.2.0/24", "2001:db8::/32"
        for host in "192.0.2.1", "192.0.2.255":
            self.assertTrue(self.allows(IPv4Address("TCP", host, 1), *networks), host)
        for host in "192.0.3.1", "127.0.0.1":
            self.assertFalse(self.allows(IPv4Address("TCP", host, 1), *networks), host)
        self.assertTrue(self.allows(IPv6Address("TCP", "2001:db8::7", 1), *networks))
        self.assertFalse(self.allows(IPv6Address("TCP", "2001:db9::7", 1), *networks))

    def test_anIPv4ClientOfAnIPv6PortIsKnownByItsIPv4Address(self) -> None:
        mapped = IPv6Address("TCP", "::ffff:192.0.2.1", 1)
        self.assertTrue(self.allows(mapped, "192.0.2.0/24"))
        self.assertFalse(self.allows(mapped, "198.51.100.0/24", "::/0"))

    def test_theZoneOfALinkLocalAddressDoesNotMatter(self) -> None:
        self.assertTrue(self.allows(IPv6Address("TCP", "fe80::1%eth0", 1), "fe80::/10"))

    def test_clientsOfAUnixSocketAreServed(self) -> None:
        self.assertTrue(self.allows(UNIXAddress(None), "192.0.2.0/24"))

    def test_withoutAListEverybodyIsServed(self) -> None:
        self.assertTrue(self.allows(IPv4Address("TCP", "203.0.113.9", 1)))

    def test_whoeverIsTurnedAwayIsNamedAndNothingIsConnected(self) -> None:
        self.assertFalse(self.allows(ALICE, "127.0.0.0/8"))
        self.assertEqual(self.logged(), ["warn: imap: 192.0.2.1:5001 is not allowed, PR"])
        self.assertEqual(self.endpoint.attempts, [])


class SessionLineTests(TunnelCase):
    def test_itHasWhoEndedItHowLongItTookAndTheBytesOfEachWay(self) -> None:
        client = self.client()
        self.clock.advance(0.25)
        target = self.endpoint.succeed()
        client.receive(b"12345")
        target.receive(b"1234567")
        self.clock.advance(2)
        client.end()
        target.end()
        self.assertEqual(
            [event["fields"] for event in self.events],
            [
                {
                    "session": 1,
                    "client": "192.0.2.1:5001",
                    "way": None,
                    "code": "--",
                    "cause": "end",
                    "seconds": 2.25,
                    "connect_seconds": 0.25,
                    "bytes_sent": 5,
                    "bytes_received": 7,
                }
            ],
        )
        self.assertEqual(
            self.logged(),
            [
                "info: imap: 192.0.2.1:5001 closed by the client after 2.250 s: "
                "5 bytes out, 7 in, connected in 0.250 s, --"
            ],
        )
        self.assertEqual(self.tunnel.sessions, set())

    def how(self) -> str:
        """What is said between the client and the time."""
        [line] = self.logged()
        return line.partition(" 192.0.2.1:5001 ")[2].rpartition(" after ")[0]

    def test_whoEndedItMayBeTheTarget(self) -> None:
        client, target = self.connected()
        target.end()
        client.end()
        self.assertEqual(self.how(), "closed by the target")

    def test_aResetIsTold(self) -> None:
        client, _ = self.connected()
        client.lose()
        self.assertEqual(self.how(), "reset by the client")
        _, target = self.connected()
        target.lose()
        self.assertEqual(self.how(), "reset by the target")

    def test_timeoutsAreTold(self) -> None:
        self.make(idleTimeout=10, halfCloseTimeout=5)
        client, target = self.connected()
        self.clock.pump([1] * 12)
        client.end()
        target.end()
        self.assertEqual(self.how(), "closed as idle")
        client, target = self.connected()
        target.end()
        self.clock.pump([1] * 7)
        client.end()
        self.assertEqual(self.how(), "closed as idle after one side had ended")
        client, target = self.connected()
        target.stuck = True
        client.receive(b"held")
        client.end()
        target.end()
        self.clock.pump([1] * int(LINGER + 3))
        self.assertEqual(self.how(), "aborted: what was left could not be sent")

    def test_anAbortIsTold(self) -> None:
        self.connected()
        self.tunnel.abort()
        self.assertEqual(self.how(), "aborted from here")

    def test_aClientOfAUnixSocketHasNoAddress(self) -> None:
        client = self.client(UNIXAddress(None))
        self.endpoint.succeed()
        client.lose()
        [line] = self.logged()
        self.assertIn("imap: a local client reset by the client after", line)

    def test_belowItsLevelThereIsNone(self) -> None:
        self.make(level="notice")
        client, _ = self.connected()
        client.lose()
        self.assertEqual(self.logged(), [])
        self.assertEqual(self.tunnel.sessions, set())


class PreludeTests(TunnelCase):
    """What PostgreSQL's clients and servers say before they are joined."""

    NO_TLS = b"\0\0\0\x08\x04\xd2\x16\x2f"
    STARTUP = b"\0\0\0\x14\0\3\0\0user\0alice\0\0"
    OK = b"R\0\0\0\x08\0\0\0\0"

    def setUp(self) -> None:
        super().setUp()
        self.make(prelude=Prelude)

    def assertNothingIsLeft(self) -> None:
        self.assertEqual(self.tunnel.sessions, set())
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_aClientIsNotReadBeforeThereIsAConnection(self) -> None:
        client = self.client()
        client.receive(self.NO_TLS)
        self.assertEqual((client.paused, client.sent), (True, b""))
        target = self.endpoint.succeed()
        self.assertEqual((client.paused, client.sent, target.sent), (False, b"N", b""))

    def test_thenBothAreJoinedAndTheTargetsFirstWordsAreTheClients(self) -> None:
        client, target = self.connected()
        client.receive(self.NO_TLS)
        client.receive(self.STARTUP)
        self.assertTrue(client.paused)
        self.assertEqual(target.sent, self.STARTUP)
        target.receive(self.OK)
        self.assertEqual(client.sent, b"N" + self.OK)
        client.receive(b"Q")
        target.receive(b"Z")
        self.assertEqual((target.sent, client.sent), (self.STARTUP + b"Q", b"N" + self.OK + b"Z"))
        client.lose()
        [line] = self.logged()
        self.assertIn("reset by the client after 0.000 s: 1 bytes out, 10 in, connected in", line)
        self.assertNothingIsLeft()

    def test_theWaitForTheFirstWordsIsOverWhenTheyAreSaid(self) -> None:
        client, target = self.connected()
        client.receive(self.STARTUP)
        target.receive(self.OK)
        self.clock.pump([1] * int(PRELUDE_WAIT + 2))
        self.assertEqual((client.how, target.how), ([], []))

    def test_aClientThatSaysNothingIsClosedAfterAWhile(self) -> None:
        client, target = self.connected()
        self.clock.pump([1] * int(PRELUDE_WAIT - 1))
        self.assertFalse(client.lost)
        self.clock.pump([1] * 2)
        self.assertEqual((client.how, target.how), (["abortConnection"], ["abortConnection"]))
        self.assertNothingIsLeft()

    def test_aClientThatCannotBeServedIsOneWarningAndTurnedAway(self) -> None:
        client, target = self.connected()
        client.receive(b"GET / HTTP/1.1\r\n\r\n")
        self.assertEqual(
            self.logged(),
            ["warn: imap: 192.0.2.1:5001 gets no tunnel: the client does not speak PostgreSQL, SR"],
        )
        self.assertEqual((client.how, target.how), (["loseWriteConnection"], ["abortConnection"]))
        client.receive(self.STARTUP)
        self.assertEqual((client.sent, target.sent, client.paused), (b"", b"", False))
        client.end()
        self.assertNothingIsLeft()

    def test_aTargetThatClosesIsOneWarningAndTheClientSeesAnEnd(self) -> None:
        client, target = self.connected()
        client.receive(self.STARTUP)
        target.lose()
        self.assertEqual(
            self.logged(),
            [
                "warn: imap: 192.0.2.1:5001 gets no tunnel: "
                "the target closed the connection before it answered, SR"
            ],
        )
        self.assertEqual(client.how, ["loseWriteConnection"])
        client.end()
        self.assertNothingIsLeft()

    def test_aClientThatGoesTakesTheTargetWithIt(self) -> None:
        for said in b"", self.NO_TLS, self.STARTUP:
            client, target = self.connected()
            client.receive(said)
            client.lose()
            self.assertEqual(target.how, ["abortConnection"])
            [line] = self.logged()
            self.assertTrue(line.endswith(" left before it had a tunnel, CR"), line)
            self.assertNothingIsLeft()

    def test_aPreludeThatRaisesIsABug(self) -> None:
        class Clumsy(Prelude):
            def answer(self, data: bytes) -> bytes | None:
                raise ZeroDivisionError

        self.make(prelude=Clumsy)
        client, target = self.connected()
        client.receive(self.STARTUP)
        target.receive(self.OK)
        [line] = self.logged()
        self.assertRegex(line, r"\Aerror: imap: a bug: ZeroDivisionError\(\) at \w+\.py:\d+\Z")
        self.assertEqual((client.how, target.how), (["abortConnection"], ["abortConnection"]))
        self.assertNothingIsLeft()

    def test_drainWaitsForItAndAbortEndsIt(self) -> None:
        _, target = self.connected()
        drained = self.tunnel.drain()
        self.assertNoResult(drained)
        self.tunnel.abort()
        self.successResultOf(drained)
        self.assertEqual(target.how, ["abortConnection"])
        self.assertNothingIsLeft()


class EndOfAllTests(TunnelCase):
    def test_drainIsDoneAtOnceWithoutSessions(self) -> None:
        self.successResultOf(self.tunnel.drain())

    def test_drainWaitsForTheLastSession(self) -> None:
        one, two = self.client(), self.client()
        self.endpoint.succeed(0)
        drained = self.tunnel.drain()
        two.lose()
        self.assertNoResult(drained)
        one.lose()
        self.successResultOf(drained)

    def test_drainMayBeAskedForAgain(self) -> None:
        client = self.client()
        drained = self.tunnel.drain()
        self.assertIs(self.tunnel.drain(), drained)
        client.lose()
        self.successResultOf(drained)
        self.client()
        self.assertNoResult(self.tunnel.drain())

    def test_drainWaitsUntilBothSidesOfASessionAreClosed(self) -> None:
        client, target = self.connected()
        drained = self.tunnel.drain()
        client.end()
        self.assertNoResult(drained)
        target.end()
        self.successResultOf(drained)

    def test_abortEndsThoseThatAreConnectingRunningAndTurnedAway(self) -> None:
        connecting = self.client()
        running = self.client()
        target = self.endpoint.succeed()
        turnedAway = self.client()
        self.endpoint.fail(Unreachable("no"))
        drained = self.tunnel.drain()
        self.tunnel.abort()
        for transport in connecting, running, target, turnedAway:
            self.assertIn("abortConnection", transport.how)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.successResultOf(drained)

    def test_afterAnAbortClientsAreServedAgain(self) -> None:
        self.connected()
        self.tunnel.abort()
        client, target = self.connected()
        client.receive(b"again")
        self.assertEqual(target.sent, b"again")
