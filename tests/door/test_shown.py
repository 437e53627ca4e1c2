"""What is shown of the sessions of a door, to those who look: `ptunnel.session.listing`."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address

from ptunnel.ledger.figures import Query
from ptunnel.session.listing import Listing, isConnecting
from tests.door.test_session import GREETING, DoorCase
from tests.support.loopback import MemoryTCP


class ShownTests(DoorCase):
    def setUp(self) -> None:
        super().setUp()
        for port, host in enumerate((b"b.example", b"a.example", b""), 1):
            alice = IPv4Address("TCP", "192.0.2.1", port)
            client = MemoryTCP(self.door.buildProtocol(alice), alice)
            client.receive(GREETING)
            if host:
                client.receive(b"\5\1\0\3" + bytes([len(host)]) + host + b"\1\xbb")

    def found(self, **query: Any) -> list[str]:
        listed = Listing().listed(self.door.sessions, Query(**query), self.clock.seconds())
        return [row.target for row in listed.sessions]

    def test_theyHaveTheTargetsThatWereAskedFor(self) -> None:
        self.assertEqual(self.found(), ["b.example:443", "a.example:443", ""])

    def test_theySortByThem(self) -> None:
        self.assertEqual(self.found(sort="target"), ["", "a.example:443", "b.example:443"])

    def test_theyAreFoundByThem(self) -> None:
        self.assertEqual(self.found(text="A.EXAMPLE"), ["a.example:443"])
        self.assertEqual(self.found(text="asking"), [""])

    def test_whoHasNotAskedYetWaitsForNoConnection(self) -> None:
        sessions = sorted(self.door.sessions, key=lambda session: session.number)
        self.assertEqual([isConnecting(each) for each in sessions], [True, True, False])
