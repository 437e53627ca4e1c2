"""`ptunnel.service.watching`: what those see who look at the service, and how they steer it."""

from __future__ import annotations

import errno
import pickle

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionRefusedError
from twisted.python.failure import Failure

from ptunnel.config import DIRECT, Proxy
from ptunnel.ledger.figures import ProxyFigures, Query, TunnelFigures
from tests.service.test_serving import CORP, OK, REJECTED, ReloadCase, tunnel
from tests.support.loopback import MemoryTCP, lines


class WatchingCase(ReloadCase):
    def tunnelFigures(self, name: str = "a") -> TunnelFigures:
        [found] = [each for each in self.service.figures().tunnels if each.name == name]
        return found

    def proxyFigures(self, name: str = "corp") -> ProxyFigures:
        [found] = [each for each in self.service.figures().proxies if each.name == name]
        return found

    def refuse(self) -> None:
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(ConnectionRefusedError(osError=111)))


class FiguresTests(WatchingCase):
    def test_theyAreOfAllTunnelsAndProxies(self) -> None:
        self.start(tunnel("a", 1, via=("corp", DIRECT)), tunnel("b", 2, via=("two",)))
        figures = self.service.figures()
        self.assertEqual([each.name for each in figures.tunnels], ["a", "b"])
        self.assertEqual([each.name for each in figures.proxies], ["corp", "two", DIRECT])
        self.assertEqual(figures.tunnels[0].target, "192.0.2.9:993")
        self.assertEqual(tuple(figures.tunnels[0].via), ("corp", DIRECT))
        self.assertEqual(figures.proxies[0].address, "192.0.2.8:3128")
        self.assertEqual(figures.workers, ())
        self.assertGreater(figures.mostDescriptors, 0)
        self.assertEqual(pickle.loads(pickle.dumps(figures)), figures)

    def test_theStateIsThatOfTheService(self) -> None:
        self.start(tunnel("a", 1))
        self.client(1)
        self.assertEqual(self.service.figures().state, "running")
        self.reactor.advance(5)
        self.assertEqual(self.service.figures().uptime, 5)
        self.service.stopService()
        self.assertEqual(self.service.figures().state, "stopping")

    def test_aSessionIsCountedFromItsClientsArrivalToItsEnd(self) -> None:
        self.start(tunnel("a", 1))
        client = self.client(1)
        found = self.tunnelFigures()
        self.assertEqual((found.sessions, found.connecting, found.accepted), (1, 1, 1))
        target = self.answer()
        client.receive(b"12345")
        target.receive(b"123")
        found = self.tunnelFigures()
        self.assertEqual((found.sessions, found.connecting, found.connected), (1, 0, 1))
        self.assertEqual((found.bytesSent, found.bytesReceived), (5, 3))
        client.end()
        target.end()
        found = self.tunnelFigures()
        self.assertEqual((found.sessions, found.ends), (0, {"end": 1}))
        self.assertEqual((found.bytesSent, found.bytesReceived), (5, 3))

    def test_thoseOfFormerSettingsCountInTheirTunnel(self) -> None:
        self.start(tunnel("a", 1))
        client = self.client(1)
        self.answer()
        client.receive(b"12")
        self.reload(tunnel("a", 1, idleTimeout=5.0))
        self.client(1)
        found = self.tunnelFigures()
        self.assertEqual((found.sessions, found.accepted, found.bytesSent), (2, 2, 2))

    def test_aTunnelThatIsGoneIsGoneFromThemToo(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2))
        self.reload(tunnel("b", 2))
        self.assertEqual([each.name for each in self.service.figures().tunnels], ["b"])

    def test_oneThatComesBackCountsOnWhatItsFormerSessionsDo(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2))
        client = self.client(1)
        target = self.answer()
        client.receive(b"12345")
        self.reload(tunnel("b", 2))
        self.assertEqual(self.service.figures().sessions, 1)
        self.reload(tunnel("a", 3), tunnel("b", 2))
        self.assertEqual(self.service.figures().sessions, 1)
        found = self.tunnelFigures()
        self.assertEqual((found.sessions, found.accepted, found.bytesSent), (1, 1, 5))
        client.end()
        target.end()
        found = self.tunnelFigures()
        self.assertEqual((found.sessions, found.ends, found.bytesSent), (0, {"end": 1}, 5))

    def test_whatIsSaidIsInThem(self) -> None:
        self.start(tunnel("a", 1))
        self.client(1)
        self.refuse()
        last = self.service.figures().said[-1]
        self.assertEqual((last.level, last.subject), ("warning", "a"))
        self.assertIn("gets no tunnel", last.text)
        self.assertEqual(self.tunnelFigures().failures, {"connection-refused": 1})


class ProxyTests(WatchingCase):
    def test_aProxyThatCannotBeReachedIsInTrouble(self) -> None:
        for via in ("corp",), ("corp", "two"):
            self.setUp()
            self.start(tunnel("a", 1, via=via))
            self.client(1)
            self.refuse()
            found = self.proxyFigures()
            self.assertIn("192.0.2.8:3128", found.trouble or "", via)
            self.assertEqual(found.failures, {"connection-refused": 1})
            self.assertEqual(found.lastError, found.trouble)
            self.assertIsNone(self.proxyFigures("two").trouble)

    def test_aProxyThatATunnelWithoutAnotherWayReachesIsWell(self) -> None:
        self.start(tunnel("a", 1, via=("corp", "two")), tunnel("b", 2, via=("corp",)))
        self.client(1)
        self.refuse()
        self.assertIsNotNone(self.proxyFigures().trouble)
        self.client(2)
        self.answer().receive(OK)
        self.assertIsNone(self.proxyFigures().trouble)

    def test_oneWithAnotherAddressIsNotIllBeforeItIsTried(self) -> None:
        self.start(tunnel("a", 1, via=("corp",)))
        self.client(1)
        self.refuse()
        other = Proxy("corp", "192.0.2.5", 3128)
        self.reload(tunnel("a", 1, via=("corp",)))
        self.assertIsNotNone(self.proxyFigures().trouble)
        self.reload(tunnel("a", 1, via=("corp",)), proxies={"corp": other})
        self.assertIsNone(self.proxyFigures().trouble)

    def test_ourOwnShortageSaysNothingOfIt(self) -> None:
        self.start(tunnel("a", 1, via=("corp",)))
        self.client(1)
        self.refuse()
        self.client(1)
        factory = self.reactor.tcpClients[-1][2]
        factory.clientConnectionFailed(None, Failure(OSError(errno.EMFILE, "too many")))
        self.assertIn("192.0.2.8:3128", self.proxyFigures().trouble or "")

    def test_itsLatencyAndTunnelsAreCounted(self) -> None:
        self.start(tunnel("a", 1, via=("corp",)))
        self.client(1)
        self.reactor.advance(0.3)
        self.answer().receive(OK)
        found = self.proxyFigures()
        self.assertEqual((found.connected, found.connectTimes.count), (1, 1))
        self.assertEqual(found.connectTimes.seconds, 0.3)
        self.assertEqual((found.scheme, found.rejection, found.trouble), (None, None, None))

    def test_aDirectWayIsInNoTroubleWhereOneTargetCannotBeReached(self) -> None:
        self.start(tunnel("a", 1))
        self.client(1)
        self.refuse()
        found = self.proxyFigures(DIRECT)
        self.assertEqual(found.failures, {"connection-refused": 1})
        self.assertIsNone(found.trouble)

    def test_aRefusalIsNoTrouble(self) -> None:
        self.start(tunnel("a", 1, via=("corp",)))
        self.client(1)
        self.answer().receive(REJECTED)
        found = self.proxyFigures()
        self.assertIsNone(found.trouble)
        self.assertEqual(sum(found.failures.values()), 1)
        self.assertIsNotNone(found.lastErrorTime)


class SteeringTests(WatchingCase):
    def test_aSessionIsEndedByItsNumber(self) -> None:
        self.start(tunnel("a", 1))
        client, other = self.client(1), self.client(1)
        self.answer()
        rows = self.successResultOf(self.service.listed(Query())).sessions
        self.assertEqual(len(rows), 2)
        self.assertTrue(self.successResultOf(self.service.endSession(rows[0].number)))
        self.assertEqual((client.how, other.how), (["abortConnection"], []))
        self.assertFalse(self.successResultOf(self.service.endSession(rows[0].number)))
        self.assertFalse(self.successResultOf(self.service.endSession(999)))

    def test_aDrainedTunnelTurnsClientsAwayUntilItIsNotAnyMore(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2))
        running = self.client(1)
        self.service.setDrained("tunnel", "a", True)
        self.assertEqual(self.client(1).how, ["loseConnection"])
        self.assertEqual(self.client(2).how, [])
        self.assertEqual(running.how, [])
        found = self.tunnelFigures()
        self.assertEqual((found.drained, found.refused), (True, 1))
        self.service.setDrained("tunnel", "a", False)
        self.assertEqual(self.client(1).how, [])
        said = lines(self.events)
        self.assertIn("info: a: drained: new clients are turned away, and sessions go on", said)
        self.assertIn("info: a: no longer drained", said)

    def test_aReloadLeavesATunnelDrained(self) -> None:
        self.start(tunnel("a", 1))
        self.service.setDrained("tunnel", "a", True)
        self.reload(tunnel("a", 1, idleTimeout=5.0))
        self.assertTrue(self.tunnelFigures().drained)
        self.assertEqual(self.client(1).how, ["loseConnection"])

    def test_soDoesOneThatMovesItToAnotherPort(self) -> None:
        self.start(tunnel("a", 1), tunnel("b", 2))
        self.service.setDrained("tunnel", "a", True)
        self.reload(tunnel("a", 3), tunnel("b", 2))
        self.assertEqual(self.client(3).how, ["loseConnection"])
        self.reload(tunnel("a", 2), tunnel("b", 3))
        self.assertEqual(self.client(2).how, ["loseConnection"])
        self.assertEqual(self.client(3).how, [])

    def test_aProxyCanBeDrainedAndUndrainedAfterAReload(self) -> None:
        self.start(tunnel("a", 1, via=("corp", "two")))
        self.reload(tunnel("a", 1, via=("corp", "two")))
        self.service.setDrained("proxy", "corp", True)
        self.client(1)
        self.assertEqual(self.dialled()[-1], ("192.0.2.7", 3128))
        self.reload(tunnel("a", 1, via=("corp", "two")))
        self.service.setDrained("proxy", "corp", False)
        self.client(1)
        self.assertEqual(self.dialled()[-1], ("192.0.2.8", 3128))

    def test_aReloadThatGivesThePortToAnotherTunnelDoesNotDrainThat(self) -> None:
        self.start(tunnel("a", 1))
        self.service.setDrained("tunnel", "a", True)
        self.reload(tunnel("b", 1))
        self.assertEqual(self.client(1).how, [])

    def test_noSessionGoesThroughADrainedProxy(self) -> None:
        self.start(tunnel("a", 1, via=("corp", "two")))
        self.service.setDrained("proxy", "corp", True)
        self.client(1)
        self.assertEqual(self.dialled()[-1], ("192.0.2.7", 3128))
        self.assertTrue(self.proxyFigures().drained)
        self.service.setDrained("proxy", "corp", False)
        self.client(1)
        self.assertEqual(self.dialled()[-1], ("192.0.2.8", 3128))

    def test_withAllWaysDrainedASessionSaysSo(self) -> None:
        self.start(tunnel("a", 1, via=("corp",)))
        self.service.setDrained("proxy", "corp", True)
        client = self.client(1)
        self.assertEqual(self.dialled(), [])
        self.assertEqual(client.how, ["loseWriteConnection"])
        [line] = [each for each in lines(self.events) if "gets no tunnel" in each]
        self.assertIn("no way to 192.0.2.9:993 is open: corp is drained", line)
        self.assertEqual(self.tunnelFigures().failures, {"drained": 1})

    def test_whatIsReachedThroughADrainedProxyIsDrainedToo(self) -> None:
        two = Proxy("two", "192.0.2.7", 3128, through="corp")
        self.start(tunnel("a", 1, via=("two", DIRECT)), proxies={"corp": CORP, "two": two})
        self.service.setDrained("proxy", "corp", True)
        self.client(1)
        self.assertEqual(self.dialled(), [("192.0.2.9", 993)])

    def test_aDrainedProxyIsPassedOverForADirectWay(self) -> None:
        self.start(tunnel("a", 1, via=("corp", DIRECT)))
        self.service.setDrained("proxy", "corp", True)
        self.client(1)
        self.assertEqual(self.dialled()[-1], ("192.0.2.9", 993))

    def test_whatThereIsNotCannotBeDrained(self) -> None:
        self.start(tunnel("a", 1))
        for kind, name in ("tunnel", "x"), ("proxy", "x"), ("proxy", DIRECT), ("tunnel", "corp"):
            self.assertRaises(KeyError, self.service.setDrained, kind, name, True)

    def test_theClientIsShown(self) -> None:
        self.start(tunnel("a", 1))
        address = IPv4Address("TCP", "192.0.2.1", 5001)
        MemoryTCP(self.port(1).factory.buildProtocol(address), address)
        [row] = self.successResultOf(self.service.listed(Query(text="192.0.2.1"))).sessions
        self.assertEqual(row.client, "192.0.2.1:5001")
