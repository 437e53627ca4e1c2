"""Changes of a running service: `ptunnel.service.serving` and `ptunnel.service.changes`."""

from __future__ import annotations

import dataclasses
import os
import stat
import tempfile
from ipaddress import ip_network
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.auth import Credentials, Secret
from ptunnel.config import (
    DIRECT,
    EndpointListen,
    Listen,
    PasswordFile,
    Proxy,
    Settings,
    TcpListen,
    Tunnel,
    UnixListen,
)
from ptunnel.errors import ConfigError, ListenError, PtunnelError
from ptunnel.service.changes import Changes
from ptunnel.service.service import PtunnelService
from ptunnel.service.serving import CLOSING, StillClosing
from tests.support.loopback import MemoryTCP, captureLog, lines

CORP = Proxy("corp", "192.0.2.8", 3128)
TWO = Proxy("two", "192.0.2.7", 3128)
OK = b"HTTP/1.1 200 OK\r\n\r\n"
REJECTED = b"HTTP/1.1 407 no\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"


def tunnel(name: str, port: int | Listen, **settings: Any) -> Tunnel:
    listen = TcpListen("127.0.0.1", port) if isinstance(port, int) else port
    values = {"targetHost": "192.0.2.9", "targetPort": 993, "via": (DIRECT,), **settings}
    return Tunnel(name, listen, **values)


class Port:
    def __init__(self, number: int, factory: Any) -> None:
        self.number, self.factory, self.closed = number, factory, 0

    def getHost(self) -> Any:
        return f"port {self.number}"

    def stopListening(self) -> None:
        self.closed += 1


class Reactor(MemoryReactorClock):
    """@ivar taken: ports that cannot be bound."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[Port] = []
        self.taken: set[int] = set()

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if port in self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        self.ports.append(Port(port, factory))
        return self.ports[-1]


class ReloadCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = Reactor()
        self.events = captureLog(self)

    def settings(self, *tunnels: Tunnel, **values: Any) -> Settings:
        return Settings(tunnels, **{"proxies": {"corp": CORP, "two": TWO}, **values})

    def start(self, *tunnels: Tunnel, **values: Any) -> None:
        self.service = PtunnelService(self.reactor, self.settings(*tunnels, **values))
        self.service.startService()
        self.events.clear()

    def reload(self, *tunnels: Tunnel, **values: Any) -> Changes:
        return self.service.reload(self.settings(*tunnels, **values))

    def port(self, number: int) -> Port:
        [port] = [each for each in self.reactor.ports if each.number == number]
        return port

    def client(self, number: int) -> Any:
        return MemoryTCP(self.port(number).factory.buildProtocol(None))

    def dialled(self) -> list[tuple[str, int]]:
        return [client[:2] for client in self.reactor.tcpClients]

    def answer(self, number: int = -1) -> Any:
        """Connect an attempt; gives its transport."""
        transport = MemoryTCP()
        transport.protocol = self.reactor.tcpClients[number][2].buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport


class PortTests(ReloadCase):
    def test_aNewTunnelIsBoundAndAnnouncedAndTheOthersAreNotTouched(self) -> None:
        self.start(tunnel("a", 1))
        factory = self.service.tunnels[0].factory
        changes = self.reload(tunnel("b", 2), tunnel("a", 1))
        self.assertEqual(changes, Changes(added=("b",), unchanged=("a",)))
        self.assertEqual([each.number for each in self.reactor.ports], [1, 2])
        self.assertEqual(self.port(1).closed, 0)
        self.assertIs(self.service.tunnels[1].factory, factory)
        [line] = lines(self.events)
        self.assertIn("b: listening on ", line)
        self.client(2)
        self.assertEqual(self.dialled(), [("192.0.2.9", 993)])

    def test_twistdsLogCallsAPortByTheNameOfItsFactory(self) -> None:
        self.start(tunnel("a", 1))
        self.assertEqual(self.port(1).factory.logPrefix(), "TunnelFactory")

    def test_ofARemovedTunnelThePortIsClosedAndTheSessionsGoOn(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2))
        client = self.client(1)
        there = self.answer()
        changes = self.reload(tunnel("b", 2))
        self.assertEqual(changes, Changes(removed=("a",), unchanged=("b",)))
        self.assertEqual((self.port(1).closed, self.port(2).closed), (1, 0))
        client.receive(b"question")
        there.receive(b"answer")
        self.assertEqual((there.sent, client.sent, client.how), (b"question", b"answer", []))

    def test_aStopWaitsForTheSessionsOfRemovedTunnelsAndAnAbortEndsThem(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2), drainTimeout=None)
        client = self.client(1)
        self.answer()
        self.reload(tunnel("b", 2), drainTimeout=None)
        stopped = self.service.stopService()
        self.assertNoResult(stopped)
        self.service.abort()
        self.assertIn("abortConnection", client.how)

    def test_aTunnelThatMovesIsServedAtTheNewPort(self) -> None:
        self.start(tunnel("a", 1))
        changes = self.reload(tunnel("a", 2))
        self.assertEqual(changes, Changes(changed=("a",)))
        self.assertEqual((self.port(1).closed, self.port(2).closed), (1, 0))

    def test_aPortThatGetsAnotherNameStays(self) -> None:
        self.start(tunnel("a", 1))
        self.assertEqual(self.reload(tunnel("b", 1)), Changes(added=("b",), removed=("a",)))
        self.assertEqual([each.closed for each in self.reactor.ports], [0])
        self.assertEqual(self.service.tunnels[0].factory.name, "b")

    def test_tunnelsOnAnyFreePortKeepTheirsByTheirNames(self) -> None:
        self.start(tunnel("a", 0), tunnel("b", 0))
        self.reload(tunnel("c", 0), tunnel("b", 0))
        self.assertEqual([each.closed for each in self.reactor.ports], [1, 0, 0])

    def test_aUnixSocketGetsItsNewModeAndStays(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = f"{folder.name}/s"
        self.start(tunnel("a", UnixListen(path, 0o600)))
        before = os.stat(path).st_ino
        self.reload(tunnel("a", UnixListen(path, 0o660)))
        status = os.stat(path)
        self.assertEqual((status.st_ino, stat.S_IMODE(status.st_mode)), (before, 0o660))
        self.service.stopService()


class AllOrNothingTests(ReloadCase):
    def test_aPortThatCannotBeBoundChangesNothing(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2), logLevel="info")
        self.reactor.taken.add(4)
        before = list(self.service.tunnels), [each.factory for each in self.service.tunnels]
        error = self.assertRaises(
            ListenError,
            self.reload,
            *(tunnel("a", 1, idleTimeout=5.0), tunnel("c", 3), tunnel("d", 4)),
            logLevel="debug",
        )
        self.assertEqual(
            str(error), "[tunnel d] cannot listen on 127.0.0.1:4: address already in use"
        )
        after = list(self.service.tunnels), [each.factory for each in self.service.tunnels]
        self.assertEqual(before, after)
        closed = {each.number: each.closed for each in self.reactor.ports}
        self.assertEqual(closed, {1: 0, 2: 0, 3: 1})
        self.assertEqual(lines(self.events), [])
        self.reactor.taken.clear()
        self.assertEqual(self.reload(tunnel("a", 1), tunnel("b", 2)).unchanged, ("a", "b"))

    def test_whatOneOfOurOwnPortsHoldsIsSaid(self) -> None:
        self.start(tunnel("a", TcpListen("0.0.0.0", 1)))
        self.reactor.taken.add(1)
        error = self.assertRaises(ListenError, self.reload, tunnel("b", 1))
        self.assertIn("(by [tunnel a], on 0.0.0.0:1: only a restart", str(error))

    def test_aPortThatWasClosedJustNowMayBeFreeSoon(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2))
        self.reload(tunnel("b", 2))
        self.reactor.taken.add(1)
        self.assertRaises(StillClosing, self.reload, tunnel("a", 1), tunnel("b", 2))
        self.reactor.advance(CLOSING)
        error = self.assertRaises(ListenError, self.reload, tunnel("a", 1), tunnel("b", 2))
        self.assertNotIsInstance(error, StillClosing)

    def test_anInvalidEndpointStringChangesNothing(self) -> None:
        self.start(tunnel("a", 1))
        bad = tunnel("x", EndpointListen("tcp:x"))
        self.assertRaises(ConfigError, self.reload, tunnel("b", 2), bad)
        self.assertEqual(len(self.reactor.ports), 1)
        self.assertEqual(self.reload(tunnel("a", 1)), Changes(unchanged=("a",)))

    def test_onlyARunningServiceReloads(self) -> None:
        settings = self.settings(tunnel("a", 1))
        service = PtunnelService(self.reactor, settings)
        self.assertRaises(PtunnelError, service.reload, settings)
        service.startService()
        service.reload(settings)
        service.stopService()
        self.assertRaises(PtunnelError, service.reload, settings)


class ChangedTests(ReloadCase):
    def test_newClientsGoTheNewWayAndRunningSessionsKeepTheirs(self) -> None:
        self.start(tunnel("a", 1))
        old = self.client(1)
        there = self.answer()
        waiting = self.client(1)
        changes = self.reload(tunnel("a", 1, targetHost="192.0.2.99"))
        self.assertEqual(changes, Changes(changed=("a",)))
        self.client(1)
        hosts = [host for host, _ in self.dialled()]
        self.assertEqual(hosts, ["192.0.2.9", "192.0.2.9", "192.0.2.99"])
        old.receive(b"old")
        self.assertEqual(there.sent, b"old")
        late = self.answer(1)
        waiting.receive(b"too")
        self.assertEqual(late.sent, b"too")

    def test_aLimitCountsTheSessionsFromBefore(self) -> None:
        self.start(tunnel("a", 1, maxConnections=2))
        first = self.client(1)
        self.answer()
        self.reload(tunnel("a", 1, maxConnections=2, idleTimeout=5.0))
        self.client(1)
        self.reload(tunnel("a", 1, maxConnections=2, idleTimeout=6.0))
        self.assertEqual(self.client(1).how, ["loseConnection"])
        first.abortConnection()
        self.assertEqual(self.client(1).how, [])

    def test_theLimitsOfSingleClientsGoOnToo(self) -> None:
        limits: dict[str, Any] = {"maxPerClient": 2, "rateLimit": 3.0}
        self.start(tunnel("a", 1, **limits))
        self.come()
        self.reload(tunnel("a", 1, idleTimeout=5.0, **limits))
        self.assertEqual(self.come().how, [])
        self.assertEqual(self.come().how, ["loseConnection"])  # the third of two
        self.assertIn("it has 2 connections already", lines(self.events)[-1])
        self.reload(tunnel("a", 1, rateLimit=3.0))
        self.assertEqual(self.come().how, [])
        self.assertEqual(self.come().how, ["loseConnection"])  # the fourth of three a second
        self.assertIn("it opens more than 3 connections a second", lines(self.events)[-1])

    def come(self, host: str = "127.0.0.1", data: bytes = b"") -> Any:
        """A client that has an address."""
        address = IPv4Address("TCP", host, 50000)
        client = MemoryTCP(self.port(1).factory.buildProtocol(address))
        if data:
            client.receive(data)
        return client

    def test_theLimitOfAllTunnelsChanges(self) -> None:
        tunnels = tunnel("a", 1), tunnel("b", 2)
        self.start(*tunnels)
        changes = self.reload(*tunnels, maxConnections=2)
        self.assertEqual((changes.keys, changes.unchanged), (("max-connections",), ("a", "b")))
        ends = [self.client(port).how for port in (1, 2, 1)]
        self.assertEqual(ends, [[], [], ["loseConnection"]])
        self.reload(*tunnels, maxConnections=3)
        ends = [self.client(port).how for port in (1, 2)]
        self.assertEqual(ends, [[], ["loseConnection"]])
        self.reload(*tunnels)
        self.assertEqual(self.client(2).how, [])

    def test_whoBeginsWithAPROXYHeaderChanges(self) -> None:
        trusted = tunnel("a", 1, acceptProxy=(ip_network("127.0.0.0/8"),))
        header = b"PROXY TCP4 192.0.2.55 192.0.2.1 1 2\r\n"
        self.start(tunnel("a", 1), logLevel="info")
        self.come(data=header)
        self.assertEqual(len(self.dialled()), 1)
        self.reload(trusted, logLevel="info")
        self.come()
        self.assertEqual(len(self.dialled()), 1)  # it is waited for
        self.come(data=header)
        self.assertEqual(len(self.dialled()), 2)
        self.reload(tunnel("a", 1), logLevel="info")
        self.come()
        self.assertEqual(len(self.dialled()), 3)

    def test_whatChangesAProxyOnTheWayChangesTheTunnel(self) -> None:
        chained = {"corp": dataclasses.replace(CORP, through="two"), "two": TWO}
        self.start(tunnel("a", 1, via=("corp",)), tunnel("b", 2), proxies=chained)
        moved = {**chained, "two": dataclasses.replace(TWO, port=8080)}
        changes = self.reload(tunnel("a", 1, via=("corp",)), tunnel("b", 2), proxies=moved)
        self.assertEqual(changes, Changes(changed=("a",), unchanged=("b",)))
        self.client(1)
        self.assertEqual(self.dialled(), [("192.0.2.7", 8080)])

    def test_keysOfTheServiceApplyOrAreSaidToNeedARestart(self) -> None:
        self.start(tunnel("a", 1), logLevel="warning", drainTimeout=3.0)
        changes = self.reload(
            tunnel("a", 1), logLevel="info", drainTimeout=4.0, workers=3, logFormat="json"
        )
        self.assertEqual(changes.keys, ("log-level", "drain-timeout"))
        self.assertEqual(changes.restart, ("workers", "log-format"))
        self.assertEqual(self.service.drainTimeout, 4.0)
        self.assertEqual(
            lines(self.events),
            [
                f"warn: {key} cannot change while the service runs; restart it for that"
                for key in ("workers", "log-format")
            ],
        )
        again = self.reload(tunnel("a", 1), logLevel="info", drainTimeout=4.0)
        self.assertEqual((again.keys, again.restart), ((), ()))

    def test_onlyNewWarningsAreLogged(self) -> None:
        self.start(tunnel("a", 1), warnings=("old",))
        self.reload(tunnel("a", 1), warnings=("old", "new"))
        self.assertEqual(lines(self.events), ["warn: new"])


class KnowledgeTests(ReloadCase):
    """What is known of a proxy."""

    def rejected(self, **proxy: Any) -> None:
        """Start, and have the credentials rejected."""
        self.corp = dataclasses.replace(
            CORP, username="alice", password=Secret("wrong"), auth="basic", **proxy
        )
        self.start(tunnel("a", 1, via=("corp",)), proxies={"corp": self.corp})
        self.client(1)
        self.answer().receive(REJECTED)

    def test_aReloadDoesNotLiftTheBackOffOfRejectedCredentials(self) -> None:
        self.rejected()
        renamed = dataclasses.replace(self.corp, name="renamed", headers=(("X-Team", "mail"),))
        for name, proxy in (("corp", self.corp), ("renamed", renamed)):
            self.reload(tunnel("a", 1, via=(name,), idleTimeout=9.0), proxies={name: proxy})
            self.client(1)
            self.assertEqual(len(self.dialled()), 1)

    def test_aPasswordFileIsReadAnewThoughTheConfigIsTheSame(self) -> None:
        path = os.path.abspath(self.mktemp())

        def write(text: str) -> None:
            with open(path, "w") as file:
                file.write(text)
            os.utime(path, ns=(1, 1))  # as a tool that keeps the time of a file

        write("one\n")
        corp = dataclasses.replace(
            CORP, username="alice", password=PasswordFile(path), auth="basic"
        )
        self.start(tunnel("a", 1, via=("corp",)), proxies={"corp": corp})
        for password in "one", "two":
            write(f"{password}\n")
            self.reload(tunnel("a", 1, via=("corp",)), proxies={"corp": corp})
            self.client(1)
            there = self.answer()
            self.assertIn(Credentials("alice", password).basic(), there.sent)
            there.receive(OK)

    def test_otherCredentialsAreTriedAtOnce(self) -> None:
        self.rejected()
        better = dataclasses.replace(self.corp, password=Secret("right"))
        self.reload(tunnel("a", 1, via=("corp",)), proxies={"corp": better})
        self.client(1)
        self.answer().receive(OK)
        self.assertEqual(len(self.dialled()), 2)

    def test_aProxyThatCannotBeReachedStaysPassedOver(self) -> None:
        self.start(tunnel("a", 1, via=("corp", "two")))
        self.client(1)
        refused = Failure(ConnectionRefusedError())
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, refused)
        self.reload(tunnel("a", 1, via=("corp", "two"), idleTimeout=9.0))
        self.client(1)
        hosts = [host for host, _ in self.dialled()]
        self.assertEqual(hosts, ["192.0.2.8", "192.0.2.7", "192.0.2.7"])


class WordsTests(SynchronousTestCase):
    def test_theLineCountsAndNamesAndLeavesOutWhatThereIsNone(self) -> None:
        changes = Changes(("a", "b"), (), ("c",), tuple("defghijkl"), ("log-level",))
        self.assertEqual(
            str(changes),
            "2 added (a, b), 1 changed (c), 9 unchanged (d, e, f, g, h, i, j, k and 1 more), "
            "log-level is new",
        )
