"""`ptunnel.service.service`: settings to a running service; bind, serve, drain."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import tempfile
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from ptunnel.auth import Secret
from ptunnel.config import (
    DIRECT,
    EndpointListen,
    Listen,
    Proxy,
    Settings,
    TcpListen,
    Tunnel,
    UnixListen,
)
from ptunnel.errors import ConfigError, ListenError
from ptunnel.log import Log
from ptunnel.route import routes as module
from ptunnel.route.routes import Routes
from ptunnel.service.service import GRACE, PtunnelService
from tests.support.loopback import MemoryTCP, Peer, captureLog, freePort, lines, takenPort

PROXY = Proxy("corp", "192.0.2.8", 3128)


def tunnel(name: str, listen: Listen | None = None, **settings: Any) -> Tunnel:
    values = {"targetHost": "192.0.2.9", "targetPort": 993, "via": ("corp",), **settings}
    return Tunnel(name, listen or TcpListen("127.0.0.1", 0), **values)


class MemoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.events = captureLog(self)

    def make(self, *tunnels: Tunnel, **settings: Any) -> PtunnelService:
        values = {"proxies": {"corp": PROXY}, "logLevel": "info", **settings}
        self.service = PtunnelService(self.reactor, Settings(tunnels, **values))
        return self.service

    def client(self, number: int = 0) -> Any:
        """A client of a running tunnel."""
        return MemoryTCP(self.reactor.tcpServers[number][1].buildProtocol(None))

    def target(self, number: int = 0) -> Any:
        """Connect an attempt; gives its transport."""
        transport = MemoryTCP()
        transport.protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport


class BindingTests(MemoryCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/c.socket"

    def test_whereItListensDependsOnWhatIsWritten(self) -> None:
        self.make(
            tunnel("a", TcpListen("127.0.0.1", 1001)),
            tunnel("b", TcpListen("::1", 1002)),
            tunnel("c", UnixListen(self.path)),
            tunnel("d", EndpointListen("tcp:1003:interface=127.0.0.2")),
        ).startService()
        tcp = [(interface, port) for port, _, _, interface in self.reactor.tcpServers]
        self.assertEqual(tcp, [("127.0.0.1", 1001), ("::1", 1002), ("127.0.0.2", 1003)])
        [unix] = self.reactor.readers
        self.assertEqual(unix.getHost().name, self.path.encode())

    def test_anythingElseComesAfterAllPortsAreBound(self) -> None:
        self.make(tunnel("a"), tunnel("b"), warnings=("look out",)).privilegedStartService()
        self.assertEqual(len(self.reactor.tcpServers), 2)
        self.assertEqual(lines(self.events), [])
        self.service.startService()
        self.assertEqual(len(self.reactor.tcpServers), 2)
        self.assertEqual(len(lines(self.events)), 3)

    def test_buildingItBindsNothing(self) -> None:
        self.make(tunnel("a"))
        self.assertEqual((self.reactor.tcpServers, self.events), ([], []))

    def test_theLinesSayWhereItListensAndWhereThatLeads(self) -> None:
        self.make(
            tunnel("a", TcpListen("0.0.0.0", 1001)),
            tunnel("b", TcpListen("::1", 1002), targetHost="2001:db8::1", via=("corp", DIRECT)),
            tunnel("c", UnixListen(self.path), targetHost="imap.example.com"),
            warnings=("look out",),
        ).startService()
        self.assertEqual(
            lines(self.events),
            [
                "warn: look out",
                "info: a: listening on 0.0.0.0:1001, to 192.0.2.9:993 via corp",
                "info: b: listening on [::1]:1002, to [2001:db8::1]:993 via corp, no proxy",
                f"info: c: listening on unix:{self.path}, to imap.example.com:993 via corp",
            ],
        )

    def test_aBadEndpointStringIsAConfigErrorOfOneLineThatNamesTheTunnel(self) -> None:
        for description in "nonsense:1", "tcp:port=x", "tcp:1:2:3:4:5", "ssl:1:privateKey=/none":
            error = self.assertRaises(
                ConfigError, self.make, tunnel("a"), tunnel("bad", EndpointListen(description))
            )
            self.assertTrue(
                str(error).startswith(f'[tunnel bad] listen: "{description}": '), str(error)
            )
            self.assertNotIn("\n", str(error))
        self.assertEqual(self.reactor.tcpServers, [])

    def test_settingsReachTheTunnel(self) -> None:
        self.make(tunnel("a", idleTimeout=7.0, halfCloseTimeout=5.0, maxConnections=1))
        self.service.startService()
        factory = self.service.tunnels[0].factory
        self.assertEqual((factory.terms.idleTimeout, factory.terms.halfCloseTimeout), (7.0, 5.0))
        self.client()
        self.assertEqual(self.client().how, ["loseConnection"])

    def test_theLimitOfAllTunnelsIsOne(self) -> None:
        self.make(tunnel("a"), tunnel("b"), maxConnections=1).startService()
        self.client(0)
        self.assertEqual(self.client(1).how, ["loseConnection"])


class EndpointStringTests(MemoryCase):
    def test_aMistakeInOneIsSaidInWords(self) -> None:
        for description, words in (
            ("systemd:domain=INET:index=7", "systemd has passed no such socket"),
            ("ssl:0", "server.pem: no such file"),
            ("tcp:x", "must be a number"),
            ("tcp:1:colour=red", "an argument"),
        ):
            listening = dataclasses.replace(tunnel("a"), listen=EndpointListen(description))
            error = self.assertRaises(ConfigError, self.make, listening)
            self.assertIn(words, str(error))
            self.assertIn(f'[tunnel a] listen: "{description}"', str(error))

    def test_itNamesTheFileThatItStandsIn(self) -> None:
        listening = tunnel("a", EndpointListen("tcp:x"), where="x.ini: [tunnel a]")
        error = self.assertRaises(ConfigError, self.make, listening)
        self.assertTrue(str(error).startswith('x.ini: [tunnel a] listen: "tcp:x": '), str(error))


class RoutesTests(MemoryCase):
    def test_aClientIsCarriedThroughTheProxyToTheTarget(self) -> None:
        self.make(tunnel("a")).startService()
        client = self.client()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.8", 3128))
        there = self.target()
        self.assertTrue(there.sent.startswith(b"CONNECT 192.0.2.9:993 HTTP/1.1\r\n"))
        there.receive(b"HTTP/1.1 200 OK\r\n\r\n* OK")
        self.assertEqual(client.sent, b"* OK")

    def test_directGoesToTheTargetItself(self) -> None:
        self.make(tunnel("a", via=(DIRECT,)), proxies={}).startService()
        client = self.client()
        self.assertEqual(self.reactor.tcpClients[0][:2], ("192.0.2.9", 993))
        client.receive(b"hello")
        self.assertEqual(self.target().sent, b"hello")

    def test_eachProxyGetsItsOwnCredentialsAndHeadersAndNoOther(self) -> None:
        one = Proxy(
            "one",
            "192.0.2.1",
            1,
            username="alice",
            password=Secret("secret"),
            auth="basic",
            headers=(("X-Team", "mail"),),
        )
        two = Proxy("two", "192.0.2.2", 2)
        self.make(tunnel("a", via=("one", "two")), proxies={"one": one, "two": two}).startService()
        self.client()
        answering = self.target(0)
        self.assertIn(b"\r\nProxy-Authorization: Basic ", answering.sent)
        self.assertIn(b"\r\nX-Team: mail\r\n", answering.sent)
        answering.receive(b"HTTP/1.1 200 OK\r\n\r\n")
        self.client()
        factory = self.reactor.tcpClients[1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))
        self.assertEqual(self.reactor.tcpClients[2][:2], ("192.0.2.2", 2))
        second = self.target(2).sent
        self.assertTrue(second.startswith(b"CONNECT"))
        for word in b"Authorization", b"X-Team":
            self.assertNotIn(word, second)

    def test_tunnelsThroughOneProxyShareWhatLeadsToIt(self) -> None:
        made: list[tuple[str, int]] = []

        def tcpEndpoint(reactor: object, host: str, port: int, *more: object) -> Any:
            made.append((host, port))
            return object()

        self.patch(module, "tcpEndpoint", tcpEndpoint)
        other = Proxy("other", "192.0.2.7", 8080)
        settings = Settings((), {"corp": PROXY, "other": other})
        routes = Routes(self.reactor, settings, Log())
        for name, via in ("a", ("corp",)), ("b", ("other", "corp")), ("c", ("corp",)):
            routes.to(tunnel(name, via=via))
        self.assertEqual(made, [("192.0.2.8", 3128), ("192.0.2.7", 8080)])


class StoppingTests(MemoryCase):
    def start(self, **settings: Any) -> None:
        self.make(tunnel("a", via=(DIRECT,)), tunnel("b", via=(DIRECT,)), **settings)
        self.service.startService()
        self.events.clear()

    def test_withoutSessionsItHasStoppedAtOnce(self) -> None:
        self.start()
        self.successResultOf(self.service.stopService())
        self.assertTrue(self.service.stopping)
        self.assertEqual(lines(self.events), [])

    def test_itWaitsForTheSessionsOfAllTunnels(self) -> None:
        self.start()
        clients = self.client(0), self.client(1)
        done = self.service.stopService()
        self.assertEqual(
            lines(self.events),
            ["info: stopping: waiting for 2 sessions, for at most 30 s"],
        )
        clients[0].lose()
        self.assertNoResult(done)
        clients[1].lose()
        self.successResultOf(done)

    def test_theLastLineCountsWhatEndedInTimeAndWhatWasCut(self) -> None:
        self.start(drainTimeout=5.0)
        clients = [self.client(number) for number in (0, 0, 1)]
        done = self.service.stopService()
        clients[0].lose()
        clients[2].lose()
        self.events.clear()
        self.reactor.advance(5)
        self.successResultOf(done)
        self.assertEqual(
            lines(self.events)[-1], "warn: stopped: 1 session was cut; 2 ended in time"
        )
        self.assertEqual(self.events[-1]["fields"], {"ended": 2, "cut": 1})

    def test_whereNoneIsCutItIsNoWarning(self) -> None:
        self.start()
        client = self.client()
        done = self.service.stopService()
        client.lose()
        self.successResultOf(done)
        self.assertEqual(lines(self.events)[-1], "info: stopped: 1 session ended in time")

    def test_whatIsAbortedTwiceIsCountedOnce(self) -> None:
        self.start()
        self.client()
        [session] = self.service.tunnels[0].factory.sessions
        self.patch(session, "abort", lambda: None)
        self.service.abort()
        done = self.service.stopService()
        self.service.abort()
        self.reactor.advance(GRACE)
        self.successResultOf(done)
        self.assertIn("stopped: 1 session was cut; 0 ended in time", lines(self.events)[-1])

    def test_thoseWhoWaitInAQueueAreServedFirstUnlessItAborts(self) -> None:
        for aborted in False, True:
            self.start()
            accepted = self.accepting()
            if aborted:
                self.service.abort()
            self.service.stopService()
            self.assertEqual(accepted, [] if aborted else ["a", "b"])

    def accepting(self) -> list[str]:
        """@return: gets the name of each tunnel whose queue is accepted."""
        accepted: list[str] = []
        for service in self.service.tunnels:
            then = functools.partial(accepted.append, service.tunnel.name)
            self.patch(service, "acceptQueued", then)
        return accepted

    def test_theQueueOfASocketOfSystemdIsForTheNextProcess(self) -> None:
        self.start()
        listen = EndpointListen("systemd:domain=INET:index=0")
        accepted = self.accepting()
        first = self.service.tunnels[0]
        self.patch(first, "tunnel", dataclasses.replace(first.tunnel, listen=listen))
        self.service.stopService()
        self.assertEqual(accepted, ["b"])

    def test_aSessionGoesOnWhileItIsWaitedFor(self) -> None:
        self.start()
        client = self.client()
        target = self.target()
        self.service.stopService()
        client.receive(b"still")
        target.receive(b"here")
        self.assertEqual((client.sent, target.sent), (b"here", b"still"))

    def test_afterTheDrainTimeoutTheRestIsAborted(self) -> None:
        self.start(drainTimeout=5.0)
        clients = self.client(0), self.client(1)
        done = self.service.stopService()
        self.reactor.advance(4.9)
        self.assertNoResult(done)
        self.events.clear()
        self.reactor.advance(0.2)
        self.successResultOf(done)
        self.assertTrue(all(client.lost for client in clients))
        *ends, warning = lines(self.events)
        self.assertEqual(warning, "warn: stopped: 2 sessions were cut; 0 ended in time")
        self.assertEqual(len(ends), 2)
        for line in ends:
            self.assertTrue(line.endswith(" is ended from here before it had a tunnel, KC"), line)

    def test_withoutADrainTimeoutItWaits(self) -> None:
        self.start(drainTimeout=None)
        client = self.client()
        done = self.service.stopService()
        self.assertEqual(
            lines(self.events),
            ["info: stopping: waiting for 1 session"],
        )
        self.reactor.pump([1000] * 10)
        self.assertNoResult(done)
        client.lose()
        self.successResultOf(done)

    def test_abortEndsTheSessionsThatAreWaitedFor(self) -> None:
        self.start()
        client = self.client()
        done = self.service.stopService()
        self.service.abort()
        self.assertTrue(client.lost)
        self.successResultOf(done)

    def test_aStopEndsThoughASessionDoesNotWhenItIsAborted(self) -> None:
        self.start(drainTimeout=5.0)
        clients = self.client(0), self.client(0)
        stuck = next(
            session
            for session in self.service.tunnels[0].factory.sessions
            if session.transport is clients[0]
        )

        def bug() -> None:
            raise ZeroDivisionError("in here")

        self.patch(stuck, "abort", bug)
        done = self.service.stopService()
        self.reactor.advance(5.0)
        self.assertNoResult(done)
        self.assertTrue(clients[1].lost)
        self.assertIn("error: a: a bug: ZeroDivisionError('in here')", str(lines(self.events)))
        self.reactor.advance(GRACE)
        self.successResultOf(done)
        *_, stuck_, last = lines(self.events)
        self.assertIn("1 session did not end when aborted", stuck_)
        self.assertIn("2 sessions were cut", last)

    def test_whatIsAbortedBeforeTheStopGetsNoTimeToDrain(self) -> None:
        # Both signals may come in one turn of the reactor.
        self.start()
        self.service.abort()
        client = self.client()
        self.successResultOf(self.service.stopService())
        self.assertTrue(client.lost)

    def test_aSecondSignalEndsAStopWithoutADrainTimeoutToo(self) -> None:
        self.start(drainTimeout=None)
        self.client()
        [session] = self.service.tunnels[0].factory.sessions
        self.patch(session, "abort", lambda: None)
        done = self.service.stopService()
        self.service.abort()
        self.assertNoResult(done)
        self.reactor.advance(GRACE)
        self.successResultOf(done)

    def test_nothingIsScheduledWhenItHasStopped(self) -> None:
        self.start()
        client = self.client()
        done = self.service.stopService()
        client.lose()
        self.successResultOf(done)
        self.reactor.advance(1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class DelayTests(MemoryCase):
    """drain-delay: the ports stay open for a while."""

    def stop(self, **settings: Any) -> Any:
        self.make(tunnel("a", via=(DIRECT,)), drainDelay=5.0, **settings).startService()
        self.closed: list[str] = []
        [port] = self.service.tunnels
        closing = port.stopListening
        self.patch(port, "stopListening", lambda: self.closed.append("a") or closing())
        self.events.clear()
        return self.service.stopService()

    def test_clientsAreServedUntilItIsOver(self) -> None:
        done = self.stop()
        self.assertTrue(self.service.stopping)
        self.assertEqual(
            lines(self.events), ["info: stopping: the ports stay open for 5 s (drain-delay)"]
        )
        self.reactor.advance(4)
        client = self.client()
        self.assertEqual((client.how, self.closed), ([], []))
        self.reactor.advance(1)
        self.assertEqual(self.closed, ["a"])
        self.assertNoResult(done)
        client.lose()
        self.successResultOf(done)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_theDrainTimeoutBeginsBehindIt(self) -> None:
        done = self.stop(drainTimeout=7.0)
        self.assertEqual(self.service.stopTimeout, 12.0)
        client = self.client()
        self.reactor.pump([5.0, 6.9])
        self.assertEqual(client.how, [])
        self.reactor.advance(0.2)
        self.successResultOf(done)
        self.assertTrue(client.lost)

    def test_withoutADrainTimeoutTheStopHasNoLimit(self) -> None:
        self.stop(drainTimeout=None)
        self.assertIsNone(self.service.stopTimeout)

    def test_aSecondSignalEndsItAtOnce(self) -> None:
        done = self.stop()
        client = self.client()
        self.service.abort()
        self.assertEqual((self.closed, client.lost), (["a"], True))
        self.successResultOf(done)
        self.assertIn("stopped: 1 session was cut", lines(self.events)[-1])
        self.reactor.advance(10)
        self.assertEqual(self.closed, ["a"])

    def test_twoSignalsAtOnceWaitForNothing(self) -> None:
        self.make(tunnel("a"), drainDelay=5.0).startService()
        self.service.abort()
        self.successResultOf(self.service.stopService())

    def test_whereNothingIsServedNothingIsWaitedFor(self) -> None:
        self.make(tunnel("a"), drainDelay=5.0)
        self.successResultOf(self.service.stopService())
        self.make(tunnel("a"), drainDelay=5.0).startService()
        self.service.exitCode = 1
        self.successResultOf(self.service.stopService())


class LoopbackServiceTests(TestCase):
    """What only a kernel knows: which ports are taken, and which were chosen."""

    timeout = 60

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.events = captureLog(self)
        self.service: PtunnelService | None = None

    def make(self, *tunnels: Tunnel) -> PtunnelService:
        # The clock is not the reactor's: nothing of it is left when a test is over.
        self.service = PtunnelService(self.reactor, Settings(tunnels, {"corp": PROXY}))
        for service in self.service.tunnels:
            service.factory.sweep.clock = Clock()
        return self.service

    async def stop(self) -> None:
        assert self.service is not None
        await self.service.stopService()

    def nowhere(self, listen: Listen | None = None) -> Tunnel:
        """A tunnel to where nobody listens, so that its clients are soon turned away."""
        there = {"targetHost": "127.0.0.1", "targetPort": freePort()}
        return tunnel("imap", listen, via=(DIRECT,), **there)

    def assertBindable(self, port: int) -> None:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            sock.listen(1)

    async def test_aTakenPortIsAnErrorThatNamesTunnelAndAddressAndLeavesNoneBound(self) -> None:
        free, taken, after = freePort(), takenPort(self), freePort()
        service = self.make(
            tunnel("free", TcpListen("127.0.0.1", free)),
            tunnel("imap", TcpListen("127.0.0.1", taken)),
            tunnel("after", TcpListen("127.0.0.1", after)),
        )
        error = self.assertRaises(ListenError, service.startService)
        self.assertEqual(
            str(error),
            f"[tunnel imap] cannot listen on 127.0.0.1:{taken}: address already in use",
        )
        self.assertEqual(lines(self.events), [])
        await deferLater(self.reactor, 0)  # a reactor closes its ports a round later
        for port in free, after:
            self.assertBindable(port)

    def test_anAddressOfAnotherMachineIsAnErrorToo(self) -> None:
        service = self.make(tunnel("imap", TcpListen("192.0.2.1", 5)))
        error = self.assertRaises(ListenError, service.startService)
        self.assertEqual(
            str(error),
            "[tunnel imap] cannot listen on 192.0.2.1:5: cannot assign requested address",
        )

    async def test_forPort0TheLineSaysWhichPortWasChosen(self) -> None:
        self.make(self.nowhere()).startService()
        [line] = lines(self.events)
        start = "info: imap: listening on 127.0.0.1:"
        self.assertTrue(line.startswith(start))
        port = int(line.removeprefix(start).partition(",")[0])
        connection = await TCP4ClientEndpoint(self.reactor, "127.0.0.1", port).connect(
            Factory.forProtocol(Peer)
        )
        connection.reset()
        await connection.gone
        await self.stop()
        self.assertBindable(port)

    async def test_aSocketInTheFileSystemIsServedAndRemovedAtTheEnd(self) -> None:
        path = os.path.join("/tmp", f"ptunnel-test-{os.getpid()}.socket")
        self.make(self.nowhere(UnixListen(path))).startService()
        connection = await UNIXClientEndpoint(self.reactor, path).connect(Factory.forProtocol(Peer))
        connection.reset()
        await connection.gone
        await self.stop()
        self.assertFalse(os.path.exists(path))

    async def test_aSocketPathThatCannotBeMadeIsNamed(self) -> None:
        service = self.make(tunnel("imap", UnixListen("/nonexistent/x.socket")))
        error = self.assertRaises(ListenError, service.startService)
        self.assertEqual(
            str(error),
            "[tunnel imap] cannot listen on unix:/nonexistent/x.socket: "
            "no such file or directory: /nonexistent",
        )

    async def test_bytesGoToATargetAndBackAndEndsAreKeptApart(self) -> None:
        targets: list[Peer] = []
        accepted: Deferred[None] = Deferred()

        class Target(Peer):
            def connectionMade(self) -> None:
                targets.append(self)
                accepted.callback(None)

        listener = self.reactor.listenTCP(0, Factory.forProtocol(Target), interface="127.0.0.1")
        there = listener.getHost().port
        self.make(tunnel("a", targetHost="127.0.0.1", targetPort=there, via=(DIRECT,)))
        assert self.service is not None
        self.service.startService()
        port = int(lines(self.events)[0].partition("127.0.0.1:")[2].partition(",")[0])
        client = await TCP4ClientEndpoint(self.reactor, "127.0.0.1", port).connect(
            Factory.forProtocol(Peer)
        )
        client.send(b"question")
        client.end()
        await accepted
        [target] = targets
        await target.isEnded()
        target.send(bytes(target.received).upper())
        target.end()
        await client.isLost()
        self.assertEqual(bytes(client.received), b"QUESTION")
        await target.isLost()
        await self.stop()
        await listener.stopListening()


class LockedSocketTests(TestCase):
    def test_aUnixSocketThatIsInUseIsAListenErrorThatNamesIt(self) -> None:
        from twisted.internet import reactor

        path = self.mktemp()[-60:].replace("/", "_")
        services = [
            PtunnelService(
                reactor,
                Settings((tunnel("a", listen=UnixListen(os.path.abspath(path))),), {"corp": PROXY}),
                Log("none"),
            )
            for _ in range(2)
        ]
        services[0].privilegedStartService()
        self.addCleanup(services[0].stopService)
        error = self.assertRaises(ListenError, services[1].privilegedStartService)
        self.assertIn(f"unix:{os.path.abspath(path)}: address already in use", str(error))
