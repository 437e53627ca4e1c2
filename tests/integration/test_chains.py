"""Proxies behind proxies: each gets what is its own."""

from __future__ import annotations

from base64 import b64encode

from tests.integration.case import IntegrationTestCase, Peer, RecordingProxy, at, echo
from tests.integration.programs import (
    HOST,
    Program,
    Ptunnel,
    Squid,
    SquidWithDigest,
    SquidWithNtlm,
    SquidWithPassword,
    SquidWithTls,
    Tinyproxy,
    shared,
)
from tests.support import authority

OUTER = ("alice", "outer-password")
INNER = ("bob", "inner-password")


class ChainTests(IntegrationTestCase):
    def chain(self, outer: str, inner: str, target: Program | Peer) -> Ptunnel:
        """ptunnel with a tunnel through two proxies. @param outer: its keys, as of the other."""
        config = f"[proxy edge]\n{outer}\n[proxy corp]\n{inner}\nthrough = edge\n"
        return self.configured(config, target)

    def test_mailAndBulkPassThroughSquidBehindTinyproxy(self) -> None:
        outer, inner = url(shared(Tinyproxy)), url(shared(Squid))
        self.assertCarries(lambda target: self.chain(outer, inner, target))

    def test_mailAndBulkPassThroughTwoSquidsThatBothWantAPassword(self) -> None:
        outer = known(shared(SquidWithPassword, *OUTER), OUTER)
        inner = known(shared(SquidWithPassword, *INNER), INNER)
        self.assertCarries(lambda target: self.chain(outer, inner, target))

    def test_aSchemeThatIsBoundToItsConnectionServesBehindAnother(self) -> None:
        outer = known(shared(SquidWithDigest, *OUTER), OUTER)
        inner = known(shared(SquidWithNtlm, *INNER), INNER)
        tunnel = self.chain(outer, inner, self.peer(echo))
        for _ in range(2):
            self.assertEchoes(tunnel.port)

    def test_eachProxyIsToldItsOwnPasswordOnly(self) -> None:
        outer, inner = RecordingProxy(basic(OUTER)), RecordingProxy(basic(INNER))
        for proxy in outer, inner:
            self.addCleanup(proxy.stop)
        target = self.peer(echo)
        tunnel = self.chain(known(outer, OUTER), known(inner, INNER), target)
        for _ in range(2):
            self.assertEchoes(tunnel.port)
        self.assertTold(outer, at(inner), OUTER, INNER)
        self.assertTold(inner, at(target), INNER, OUTER)

    def test_overTlsTheOuterProxySeesNothingOfWhatTheInnerIsTold(self) -> None:
        outer = RecordingProxy()
        self.addCleanup(outer.stop)
        inner = squidOverTls()
        target = self.peer(echo)
        keys = f"{overTls(inner)}\nauth = basic\nusername = {INNER[0]}\npassword = {INNER[1]}"
        tunnel = self.chain(url(outer), keys, target)
        self.assertEchoes(tunnel.port)
        self.assertEqual(tunnel.end(), 0)
        (seen,) = inner.seen(at(target))
        self.assertEqual(seen.authorization, basic(INNER))
        for secret in basic(INNER), at(target), "CONNECT":
            self.assertNotIn(secret.encode(), outer.passed)

    def test_mailAndBulkPassThroughTlsWithinTls(self) -> None:
        outer, inner = overTls(squidOverTls(OUTER[0])), overTls(squidOverTls(INNER[0]))
        self.assertCarries(lambda target: self.chain(outer, inner, target))

    def test_whatTheInnerProxyRejectsIsNotTheOuterProxysFault(self) -> None:
        outer = shared(SquidWithPassword, *OUTER)
        inner = shared(SquidWithPassword, *INNER)
        target = self.peer(echo)
        mistaken = known(inner, (INNER[0], OUTER[1]))
        tunnel = self.chain(known(outer, OUTER), mistaken, target)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, f"{at(inner)} rejects the credentials")
        self.assertEqual(target.connections, 0)

    def assertTold(
        self, proxy: RecordingProxy, target: str, own: tuple[str, str], other: tuple[str, str]
    ) -> None:
        requests = b"".join(proxy.requests)
        self.assertEqual(requests.count(f"CONNECT {target} ".encode()), len(proxy.requests))
        self.assertEqual(requests.count(f"Proxy-Authorization: {basic(own)}\r\n".encode()), 2)
        self.assertEqual(requests.count(b"Proxy-Authorization:"), 2)
        self.assertNotIn(other[0].encode(), requests)


def url(proxy: Program | Peer) -> str:
    return f"url = http://{at(proxy)}"


def squidOverTls(name: str = "proxy.test") -> SquidWithTls:
    pair = authority.server(HOST, name)
    return shared(SquidWithTls, pair.cert, pair.key)


def overTls(proxy: SquidWithTls) -> str:
    return f"url = https://{at(proxy)}\nca-file = {authority.authority().cert}"


def known(proxy: Program | Peer, credentials: tuple[str, str]) -> str:
    user, password = credentials
    return f"{url(proxy)}\nusername = {user}\npassword = {password}"


def basic(credentials: tuple[str, str]) -> str:
    """The value of a Proxy-Authorization header."""
    return f"Basic {b64encode(':'.join(credentials).encode()).decode()}"
