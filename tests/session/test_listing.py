"""`ptunnel.session.listing`: which sessions are listed, in which order, with which rates."""

from __future__ import annotations

from typing import get_args

from twisted.internet.address import IPv4Address

from ptunnel.ledger.figures import Query, SessionList, SortKey
from ptunnel.log import Log
from ptunnel.session.listing import INTERVAL, STALE, Listing
from ptunnel.session.tunnel import TunnelFactory
from tests.session.test_tunnel import TunnelCase


class ListingTests(TunnelCase):
    def setUp(self) -> None:
        super().setUp()
        self.listing = Listing()
        self.clock.advance(1000)

    def come(self, host: str, port: int) -> None:
        self.client(IPv4Address("TCP", host, port))

    def look(self, **query: object) -> SessionList:
        now = self.clock.seconds()
        return self.listing.listed(self.tunnel.sessions, Query(**query), now)  # type: ignore[arg-type]

    def clients(self, **query: object) -> list[str]:
        return [row.client for row in self.look(**query).sessions]

    def test_aRowSaysWhatIsKnownOfASession(self) -> None:
        client, target = self.connected()
        client.receive(b"12345")
        target.receive(b"123")
        self.clock.advance(4)
        [row] = self.look().sessions
        [session] = self.tunnel.sessions
        self.assertEqual(row.number, session.number)
        self.assertEqual((row.client, row.tunnel, row.way), ("192.0.2.1:5001", "imap", None))
        self.assertEqual((row.phase, row.seconds), ("joined", 4))
        self.assertEqual((row.bytesSent, row.bytesReceived, row.rate), (5, 3, None))

    def test_oneThatIsConnectingIsListedToo(self) -> None:
        self.client()
        [row] = self.look().sessions
        self.assertEqual((row.phase, row.bytesSent, row.bytesReceived), ("connecting", 0, 0))

    def test_ofATunnelNoTargetIsAskedFor(self) -> None:
        self.client()
        self.assertEqual([row.target for row in self.look().sessions], [""])

    def test_theySortByEachColumnBothWays(self) -> None:
        for number in range(3):
            self.come("192.0.2.1", 5003 - number)
            self.clock.advance(1)
        for sort in get_args(SortKey):
            up, down = (self.clients(sort=sort, descending=each) for each in (False, True))
            self.assertEqual(up, down[::-1], sort)
        self.assertEqual(self.clients(sort="client")[0], "192.0.2.1:5001")
        self.assertEqual(self.clients(sort="age")[0], "192.0.2.1:5001")
        self.assertEqual(self.clients(sort="number")[0], "192.0.2.1:5003")

    def test_theySortByBytesAndRate(self) -> None:
        slow, _ = self.connected()
        fast = self.client(IPv4Address("TCP", "192.0.2.2", 1))
        self.endpoint.succeed()
        self.look()
        slow.receive(b"1")
        fast.receive(b"12345678")
        self.clock.advance(2)
        for sort in "sent", "rate":
            self.assertEqual(self.clients(sort=sort, descending=True)[0], "192.0.2.2:1")
        self.assertEqual([row.rate for row in self.look(sort="rate").sessions], [0.5, 4.0])

    def test_aPartOfThemCanBeAskedFor(self) -> None:
        for port in range(1, 6):
            self.come("192.0.2.1", port)
        found = self.look(limit=2, offset=1)
        self.assertEqual(found.total, 5)
        self.assertEqual([row.client for row in found.sessions], ["192.0.2.1:2", "192.0.2.1:3"])
        self.assertEqual(self.clients(limit=0), [])
        self.assertEqual(self.clients(offset=9), [])

    def test_aTextIsFoundInWhatIsShown(self) -> None:
        self.come("192.0.2.1", 1)
        self.come("198.51.100.7", 2)
        self.assertEqual(self.clients(text="198.51"), ["198.51.100.7:2"])
        self.assertEqual(len(self.clients(text="IMAP")), 2)
        self.assertEqual(len(self.clients(text="connecting")), 2)
        number = self.look(text="198.51").sessions[0].number
        self.assertEqual(self.clients(text=f"#{number}"), ["198.51.100.7:2"])
        self.assertEqual(self.clients(text="nowhere"), [])

    def test_thoseOfOneTunnelCanBeAskedFor(self) -> None:
        self.come("192.0.2.1", 1)
        self.assertEqual(len(self.clients(tunnel="imap")), 1)
        self.assertEqual(self.clients(tunnel="smtp"), [])

    def test_twoLooksAtOnceShowTheSameRates(self) -> None:
        client, _ = self.connected()
        self.look()
        client.receive(b"1234")
        self.clock.advance(2)
        first = self.look().sessions
        self.clock.advance(INTERVAL / 2)
        self.assertEqual(self.look().sessions[0].rate, first[0].rate)

    def test_aRateOfLongAgoIsNone(self) -> None:
        client, _ = self.connected()
        self.look()
        client.receive(b"1234")
        self.clock.advance(STALE)
        self.assertIsNone(self.look().sessions[0].rate)


class MovedTests(TunnelCase):
    def test_oneThatHasEndedIsNotListed(self) -> None:
        client, target = self.connected()
        client.end()
        target.end()
        self.assertEqual(self.tunnel.sessions, set())
        found = Listing().listed(self.tunnel.sessions, Query(), self.clock.seconds())
        self.assertEqual((found.total, list(found.sessions)), (0, []))

    def test_theFactoryCountsWhatHappens(self) -> None:
        client, target = self.connected()
        client.receive(b"12345")
        target.receive(b"123")
        client.end()
        target.end()
        self.client()
        self.clock.advance(0.02)
        self.endpoint.fail(OSError("no"))
        self.client().lose()
        self.tunnel.admission.drained = True
        self.assertIsNone(self.client())
        figures = self.tunnel.counters.figures("imap")
        self.assertEqual((figures.accepted, figures.connected), (3, 1))
        self.assertEqual((figures.left, figures.refused), (1, 1))
        self.assertEqual((figures.failures, figures.ends), ({"unknown": 1}, {"end": 1}))
        self.assertEqual((figures.bytesSent, figures.bytesReceived), (5, 3))
        self.assertEqual(figures.connectTimes.count, 1)

    def test_twoFactoriesOfOneNameAndLogCountTogether(self) -> None:
        log = Log()
        one, two = (TunnelFactory(self.endpoint, name="a", log=log) for _ in range(2))
        self.assertIs(one.counters, two.counters)
