"""What is shown of the sessions of a door: `ptunnel.session.listing`, `ptunnel.session.account`."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed

from ptunnel import causes
from ptunnel.door.factory import ASK_WAIT
from ptunnel.errors import NotServed, Unreachable
from ptunnel.ledger.figures import Query
from ptunnel.session.listing import Listing, isConnecting
from tests.door.test_session import GREETING, LOOPBACK, DoorCase
from tests.session.test_account import JsonLines
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


class LineTests(JsonLines, DoorCase):
    """What a program reads of the sessions of a door."""

    def line(self) -> tuple[str, str | None, str | None]:
        [line] = self.jsonLines()
        return line["code"], line["cause"], line["target"]

    def test_ofOneThatWasCarried(self) -> None:
        client = self.asking()
        target = self.endpoint.succeed()
        client.end()
        target.end()
        self.assertEqual(self.line(), ("--", "end", "t.example:993"))

    def test_ofOneWhoseTargetIsNotReached(self) -> None:
        self.asking()
        self.endpoint.fail(Unreachable("no", cause=causes.REFUSED))
        self.assertEqual(self.line(), ("SC", "connection-refused", "t.example:993"))

    def test_ofOneThatAsksForWhatIsForbidden(self) -> None:
        self.client().receive(GREETING + LOOPBACK)
        self.assertEqual(self.line(), ("PR", "target-forbidden", "127.0.0.1:80"))

    def test_ofOneWhoseNameLeadsToWhatIsForbidden(self) -> None:
        self.asking()
        self.endpoint.fail(NotServed("no", cause=causes.TARGET_FORBIDDEN))
        self.assertEqual(self.line(), ("PR", "target-forbidden", "t.example:993"))

    def test_ofOneThatSpeaksSomethingElse(self) -> None:
        self.client().receive(b"\x16\3\1")
        self.assertEqual(self.line(), ("PR", "client-protocol", None))

    def test_ofOneThatDoesNotSayWhoItIs(self) -> None:
        for said in GREETING, b"\4\1\0\x50\xc0\0\2\7\0", b"CONNECT t.example:993 HTTP/1.0\r\n\r\n":
            self.make(judge=lambda login: succeed(True))
            self.client().receive(said)
            self.assertEqual(self.line(), ("PR", "client-login", None), said)

    def test_ofOneThatSaysNothing(self) -> None:
        self.client()
        self.clock.pump([1] * int(ASK_WAIT + 2))
        self.assertEqual(self.line(), ("cR", "late", None))

    def test_ofOnesThatLeave(self) -> None:
        self.client().lose()
        self.assertEqual(self.line(), ("CR", None, None))
        self.asking().lose()
        self.assertEqual(self.line(), ("CC", None, "t.example:993"))
