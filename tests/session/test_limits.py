"""What one client, and all together, may take: `ptunnel.session.clients` and `.admission`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel.errors import Unreachable
from ptunnel.log import Log
from ptunnel.session import clients as module
from ptunnel.session.admission import Total
from ptunnel.session.clients import Counts, Rates
from ptunnel.session.episodes import EPISODE
from ptunnel.session.session import Session
from ptunnel.session.tunnel import TunnelFactory
from tests.support.loopback import FakeEndpoint, MemoryTCP, captureLog, lines


def at(host: str, port: int = 5001) -> Any:
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


class RatesTests(SynchronousTestCase):
    def test_asManyAsASecondsComeAtOnceAndThenAtTheRate(self) -> None:
        rates = Rates(5)
        self.assertEqual([rates.take("a", 10.0) for _ in range(7)], 5 * [True] + 2 * [False])
        self.assertFalse(rates.take("a", 10.1))
        self.assertTrue(rates.take("a", 10.2))
        self.assertFalse(rates.take("a", 10.2))
        self.assertTrue(rates.take("b", 10.2))

    def test_belowOneASecondItIsOneAtATime(self) -> None:
        rates = Rates(0.5)
        taken = [rates.take("a", now) for now in (0.0, 1.0, 1.9, 2.0, 2.0, 4.1)]
        self.assertEqual(taken, [True, False, False, True, False, True])

    def test_whoHasAllTokensAgainIsForgotten(self) -> None:
        rates = Rates(1)
        for number in range(100):
            rates.take(str(number), 0.0)
        for number in range(100):
            rates.take("a", 2.0 + number)
        self.assertEqual(len(rates._full), 1)

    def test_noMoreClientsAreRememberedThanThat(self) -> None:
        self.patch(module, "REMEMBERED", 10)
        rates = Rates(1)
        for number in range(100):
            self.assertTrue(rates.take(str(number), 0.0))
        self.assertEqual(len(rates._full), 10)
        self.assertFalse(rates.take("99", 0.0))
        self.assertTrue(rates.take("0", 0.0))

    @given(
        st.floats(0.01, 1000),
        st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=100),
    )
    def test_noClientGetsMoreThanItsRateAndABucketful(
        self, rate: float, steps: list[tuple[str, float]]
    ) -> None:
        rates, now, taken = Rates(rate), 0.0, {"a": 0, "b": 0}
        for key, wait in steps:
            now += wait
            taken[key] += rates.take(key, now)
            self.assertLessEqual(taken[key], now * rate + max(rate, 1.0) + 1e-3)
        for key in "ab":
            self.assertTrue(rates.take(key, now + 2 / rate + 2))


class CountsTests(SynchronousTestCase):
    @given(st.lists(st.sampled_from("abc")))
    def test_onlyThoseWithSessionsAreRemembered(self, keys: list[str]) -> None:
        counts = Counts()
        for key in keys:
            counts.began(key)
        for key in "abc":
            self.assertEqual(counts.of(key), keys.count(key))
        for key in keys:
            counts.ended(key)
        self.assertEqual(counts._counts, {})


class LimitsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.events = captureLog(self)

    def make(self, name: str = "imap", **limits: Any) -> TunnelFactory:
        return TunnelFactory(self.endpoint, name=name, log=Log(), reactor=self.clock, **limits)

    def client(self, tunnel: TunnelFactory, address: Any) -> Any:
        """A client's transport, or None for one that is turned away."""
        session = tunnel.buildProtocol(address)
        transport = MemoryTCP(session, address)
        return transport if isinstance(session, Session) else None

    def logged(self) -> list[str]:
        logged = lines(self.events)
        self.events.clear()
        return logged

    def test_aClientHasNoMoreSessionsThanItMay(self) -> None:
        tunnel = self.make(maxPerClient=2)
        first, second = (self.client(tunnel, at("192.0.2.1", port)) for port in (1, 2))
        for port in 3, 4:
            self.assertIsNone(self.client(tunnel, at("192.0.2.1", port)))
        self.assertIsNotNone(self.client(tunnel, at("192.0.2.2")))
        self.assertEqual(
            self.logged(),
            [
                "warn: imap: 192.0.2.1:3 is turned away: it has 2 connections already "
                "(max-connections-per-client), PR"
            ],
        )
        first.lose()
        self.assertIsNotNone(self.client(tunnel, at("192.0.2.1", 5)))
        self.assertIsNone(self.client(tunnel, at("192.0.2.1", 6)))
        second.lose()

    def test_oneThatGotNoTunnelDoesNotCount(self) -> None:
        total = Total(1, Log())
        tunnel = self.make(maxPerClient=1, total=total)
        for _ in range(3):
            client = self.client(tunnel, at("192.0.2.1"))
            self.assertEqual(total.used, 1)
            self.endpoint.fail(Unreachable("no"))
            self.assertEqual(total.used, 0)
        client.lose()
        self.assertEqual(total.used, 0)

    def test_aFloodOfClientsIsALineAMinute(self) -> None:
        tunnel = self.make(allow=["10.0.0.0/8"])
        for number in range(200):
            self.assertIsNone(self.client(tunnel, at(f"192.0.2.{number}")))
        self.assertEqual(self.logged(), ["warn: imap: 192.0.2.0:5001 is not allowed, PR"])
        self.clock.advance(EPISODE)
        for number in range(200):
            self.client(tunnel, at(f"192.0.2.{number}"))
        self.assertEqual(
            self.logged(),
            ["warn: imap: 192.0.2.0:5001 is not allowed; 199 more since the last such line, PR"],
        )

    def test_aClientOpensNoMoreASecondThanItMay(self) -> None:
        tunnel = self.make(rateLimit=3.0)
        served = [self.client(tunnel, at("2001:db8::1", port)) for port in range(5)]
        self.assertEqual([client is not None for client in served], 3 * [True] + 2 * [False])
        self.assertIsNone(self.client(tunnel, at("2001:db8::2")))
        self.assertIsNotNone(self.client(tunnel, at("192.0.2.1")))
        self.assertEqual(
            self.logged(),
            [
                "warn: imap: [2001:db8::1]:3 is turned away: it opens more than 3 connections a "
                "second (rate-limit), PR"
            ],
        )
        self.clock.advance(0.4)
        self.assertIsNotNone(self.client(tunnel, at("2001:db8::1")))

    def test_whoIsTurnedAwayForAnotherReasonKeepsItsToken(self) -> None:
        tunnel = self.make(rateLimit=1.0, maxConnections=1)
        other = self.client(tunnel, at("192.0.2.9"))
        self.assertIsNone(self.client(tunnel, at("192.0.2.1")))
        other.lose()
        self.assertIsNotNone(self.client(tunnel, at("192.0.2.1")))

    def test_clientsOfAUnixSocketAreNotLimited(self) -> None:
        tunnel = self.make(maxPerClient=1, rateLimit=1.0)
        served = [self.client(tunnel, UNIXAddress(None)) for _ in range(5)]
        self.assertNotIn(None, served)
        for client in served:
            client.lose()

    def test_theTotalIsThatOfAllTunnels(self) -> None:
        total = Total(2, Log())
        imap, smtp = (self.make(name, total=total) for name in ("imap", "smtp"))
        first = self.client(imap, at("192.0.2.1"))
        self.client(smtp, at("192.0.2.2"))
        for tunnel in imap, smtp, imap:
            self.assertIsNone(self.client(tunnel, at("192.0.2.3")))
        self.assertEqual(
            self.logged(),
            [
                "warn: all 2 connections of all tunnels together are in use; further clients are "
                "turned away until one ends (max-connections in [ptunnel]), PR"
            ],
        )
        first.lose()
        self.assertIsNotNone(self.client(smtp, at("192.0.2.4")))
