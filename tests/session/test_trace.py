"""What a session tells its trace, and that it costs nothing where there is none."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, cast

from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import Unreachable
from ptunnel.log import Log, Trace
from ptunnel.net.dial import NamedEndpoint
from ptunnel.relay.splice import Splice
from ptunnel.relay.terms import Terms
from ptunnel.route.order.failover import Route, Way
from ptunnel.session.tunnel import TunnelFactory
from ptunnel.timing.deadlines import Sweep
from ptunnel.tls import Peer
from ptunnel.tls.peer import described
from tests.session.test_tunnel import TunnelCase
from tests.support.fakes import (
    Builder,
    Endpoint,
    Resolver,
    ResolvingReactor,
    acceptTCP,
    refuseTCP,
)
from tests.support.loopback import MemoryTCP, Recorder


def traced() -> tuple[Builder, list[str]]:
    """A factory with a trace, and its lines."""
    factory, lines = Builder(), list[str]()
    cast(Any, factory).trace = lines.append
    return factory, lines


class SessionTests(TunnelCase):
    def test_eachLineHasTheSessionsNumber(self) -> None:
        self.make(level="debug")
        self.connected()
        one = self.logged()
        self.client().lose()
        self.assertTrue(all("imap: #1 " in line for line in one), one)
        self.assertIn("192.0.2.1:5001 is accepted", one[0])
        self.assertIn("joined: client by producers, target by producers", one[-1])
        self.assertTrue(all("imap: #2 " in line for line in self.logged()))

    def test_theEndIsToldAndTheOtherLinesHaveTheNumberToo(self) -> None:
        self.make(level="debug")
        client, there = self.connected()
        self.logged()
        client.end()
        there.end()
        lines = self.logged()
        for part in (
            "#1 the connection of the client is closed",
            "#1 the connection of the target is closed",
            "#1 ended: end, first by the client; 0 bytes out, 0 in",
            "#1 192.0.2.1:5001 closed by the client",
        ):
            self.assertTrue([line for line in lines if part in line], (part, lines))

    def test_aFailureHasTheNumber(self) -> None:
        self.make(level="debug")
        self.client()
        self.endpoint.fail(Unreachable("gone"))
        self.assertIn("#1 192.0.2.1:5001 gets no tunnel: gone", self.logged()[-1])

    def test_withoutDebugThereIsNoObjectForASession(self) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a trace")

        self.patch(Trace, "__init__", refuse)
        self.patch(Trace, "__call__", refuse)
        for level in ("info", "notice", "none"):
            self.make(level=level)
            client, there = self.connected()
            self.assertIs(self.endpoint.factories[-1], self.tunnel.outgoing)
            client.lose()
            there.lose()

    def test_programsGetNoneUnlessTheyAsk(self) -> None:
        self.assertIsNone(TunnelFactory(self.endpoint).log.trace("imap", 1))


class RelayTests(SynchronousTestCase):
    def splice(self, **how: Any) -> None:
        self.lines: list[str] = []
        self.one, self.two = MemoryTCP(Recorder()), MemoryTCP(Recorder())
        sweep = Sweep.fine(Clock(), None, None)
        trace: Any = self.lines.append
        Splice(self.one, self.two, Terms(**how), sweep, lambda ended: None, trace)

    def test_halfClosesAreTold(self) -> None:
        self.splice()
        self.one.end()
        self.assertEqual(
            self.lines[1:],
            ["the client has ended its direction", "the end of the client is passed on"],
        )

    def test_anEndThatIsHeldBackIsTold(self) -> None:
        self.splice(holdEnd=True)
        self.one.end()
        self.assertEqual(self.lines[-1], "the end of the client is held back (hold-end)")

    def test_aResetIsNoOrderlyEnd(self) -> None:
        self.splice()
        self.two.lose(ConnectionLost())
        self.assertIn("the connection of the target is closed without an orderly end", self.lines)
        self.assertIn("ended: reset, first by the target; 0 bytes out, 0 in", self.lines)


class RouteTests(SynchronousTestCase):
    def test_eachWayThatIsTriedAndWhyItWasLeft(self) -> None:
        one, two = Endpoint(), Endpoint()
        factory, lines = traced()
        route = Route("imap", "t:1", [Way("one", one), Way("two", two)], Log("none"), Clock())
        route.connect(factory)
        one.fail(Unreachable("cannot reach the proxy one: connection refused"))
        two.accept()
        self.assertEqual(
            lines,
            [
                "way one: tried",
                "way one: left; cannot reach the proxy one: connection refused",
                "way two: tried",
                "way two: taken",
            ],
        )


class NameTests(SynchronousTestCase):
    def test_theAddressesAndTheOneThatIsTaken(self) -> None:
        resolver = Resolver("192.0.2.1", "2001:db8::1")
        reactor = ResolvingReactor(resolver)
        endpoint = NamedEndpoint(reactor, "proxy.example", 3128)
        factory, lines = traced()
        endpoint.connect(factory)
        refuseTCP(reactor, ConnectionRefusedError())
        acceptTCP(reactor)
        self.assertEqual(
            lines,
            [
                "DNS: proxy.example is 192.0.2.1, 2001:db8::1",
                "DNS: 2001:db8::1 is taken for proxy.example, for 60 s",
            ],
        )
        endpoint.connect(factory)
        self.assertEqual(lines[2:], ["DNS: proxy.example has an address that answered lately"])

    def test_manyAddressesAreCut(self) -> None:
        reactor = ResolvingReactor(Resolver(*(f"192.0.2.{n}" for n in range(15))))
        factory, lines = traced()
        NamedEndpoint(reactor, "proxy.example", 3128).connect(factory)
        self.assertIn("192.0.2.9 and 5 more", lines[0])


class CertificateTests(SynchronousTestCase):
    def test_versionCipherNamesAndExpiry(self) -> None:
        until = datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc)
        self.assertEqual(
            described(Peer("TLSv1.3", "AES", ("a.example", "192.0.2.1"), until)),
            "TLSv1.3, AES, certificate for a.example, 192.0.2.1, until 2030-01-02 03:04 UTC",
        )

    def test_itIsBounded(self) -> None:
        names = tuple(f"{'n' * 200}{number}" for number in range(1000))
        self.assertLess(len(described(Peer("TLSv1.3", "AES", names, None))), 400)
        few = described(Peer("TLSv1.3", "AES", tuple("abcdefghijklmn"), None))
        self.assertIn("j and more", few)
