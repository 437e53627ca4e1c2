"""A proxy that is reached over TLS: whom ptunnel trusts, and that it tells the others nothing."""

from __future__ import annotations

from pathlib import Path

from tests.integration.case import IntegrationTestCase, Peer, at, echo
from tests.integration.programs import HOST, Program, Ptunnel, Squid, SquidWithTls, shared
from tests.support import authority
from tests.support.authority import Pair

NAME = "proxy.test"
TRUSTED = f"ca-file = {authority.authority().cert}"
PASSWORD = "a-password-for-the-right-proxy"


def squidOf(pair: Pair, clientAuthority: str = "") -> SquidWithTls:
    return shared(SquidWithTls, pair.cert, pair.key, clientAuthority)


def corp(proxy: Program | Peer, *keys: str) -> str:
    return "\n".join([f"[proxy corp]\nurl = https://{at(proxy)}", *keys])


class TrustedTests(IntegrationTestCase):
    """Proxies that can show who they are."""

    def test_mailAndBulkPass(self) -> None:
        proxy = squidOf(authority.server(HOST))
        self.assertCarries(lambda target: self.configured(corp(proxy, TRUSTED), target))

    def test_aProxyIsTrustedByTheNameThatTheConfigGivesIt(self) -> None:
        proxy = squidOf(authority.server(NAME))
        keys = (TRUSTED, f"server-name = {NAME}")
        self.assertEchoes(self.configured(corp(proxy, *keys), self.peer(echo)).port)

    def test_aProxyIsTrustedBehindAnIntermediateAuthority(self) -> None:
        proxy = squidOf(authority.fromIntermediate(HOST))
        self.assertEchoes(self.configured(corp(proxy, TRUSTED), self.peer(echo)).port)

    def test_aSelfSignedCertificateIsTrustedWhereTheConfigHasIt(self) -> None:
        pair = authority.selfSigned(HOST)
        keys = (f"ca-file = {pair.cert}",)
        self.assertEchoes(self.configured(corp(squidOf(pair), *keys), self.peer(echo)).port)

    def test_aProxyOfTheCommandLineIsTrustedByTheSystemsAuthorities(self) -> None:
        proxy = squidOf(authority.server(HOST))
        tunnel = self.ptunnel(
            *("-p", f"https://{at(proxy)}", f"0:{at(self.peer(echo))}"),
            environment={"SSL_CERT_FILE": authority.authority().cert},
        )
        self.assertEchoes(tunnel.port)

    def test_anyCertificateDoesWhereTheConfigSaysSoAndAWarningToo(self) -> None:
        proxy = squidOf(authority.selfSigned(NAME))
        tunnel = self.configured(corp(proxy, "verify = no"), self.peer(echo))
        self.assertEchoes(tunnel.port)
        self.assertOneLine(tunnel, "warning", "[proxy corp]", "verify = no")


class UntrustedTests(IntegrationTestCase):
    """Proxies that cannot: they get no request, and a line says why."""

    def assertUntrusted(self, pair: Pair, *parts: str) -> None:
        proxy = squidOf(pair)
        target = self.peer(echo)
        # Basic, which is sent unasked, so that there is something to lose.
        keys = (TRUSTED, "auth = basic", "username = alice", f"password = {PASSWORD}")
        tunnel = self.configured(corp(proxy, *keys), target)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "test: ", f"{at(proxy)} over TLS: its certificate ", *parts)
        self.assertEqual((proxy.seen(at(target)), target.connections), ([], 0))

    def test_anExpiredCertificate(self) -> None:
        self.assertUntrusted(authority.expired(HOST), "expired")

    def test_aCertificateForAnotherName(self) -> None:
        self.assertUntrusted(authority.server(NAME), f"is for {NAME}, not for {HOST}")

    def test_aSelfSignedCertificate(self) -> None:
        self.assertUntrusted(authority.selfSigned(HOST), "is self-signed")

    def test_aCertificateOfAnUnknownAuthority(self) -> None:
        self.assertUntrusted(authority.stranger(HOST), "not known here", "Somebody Else")

    def test_aCertificateWithoutTheOneThatLeadsToTheAuthority(self) -> None:
        self.assertUntrusted(authority.brokenChain(HOST), "The Test Intermediate")

    def test_aProxyThatSpeaksNoTls(self) -> None:
        proxy = shared(Squid)
        target = self.peer(echo)
        tunnel = self.configured(corp(proxy, TRUSTED), target)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "test: ", f"{at(proxy)} over TLS: ")
        self.assertEqual(proxy.seen(at(target)), [])


class ClientCertificateTests(IntegrationTestCase):
    """A proxy that wants to see a certificate of its clients."""

    def setUp(self) -> None:
        self.proxy = squidOf(authority.server(HOST), authority.authority().cert)
        self.target = self.peer(echo)

    def keysFor(self, pair: Pair) -> tuple[str, str]:
        key = self.write(Path(pair.key).read_text())
        return f"client-cert = {pair.cert}", f"client-key = {key}"

    def tunnelWith(self, *keys: str) -> Ptunnel:
        return self.configured(corp(self.proxy, TRUSTED, *keys), self.target)

    def test_theRightOneOpensIt(self) -> None:
        tunnel = self.tunnelWith(*self.keysFor(authority.client()))
        for _ in range(2):
            self.assertEchoes(tunnel.port)

    def test_aFileOfCertificateAndKeyOpensIt(self) -> None:
        both = self.write(Path(authority.client().both).read_text())
        self.assertEchoes(self.tunnelWith(f"client-cert = {both}").port)

    def test_withoutOneIsOneLine(self) -> None:
        self.assertKeptOut()

    def test_oneOfAnotherAuthorityIsOneLine(self) -> None:
        self.assertKeptOut(*self.keysFor(authority.selfSignedClient()))

    def assertKeptOut(self, *keys: str) -> None:
        tunnel = self.tunnelWith(*keys)
        self.assertTurnedAway(tunnel.port)
        self.assertOneLine(tunnel, "test: ", at(self.proxy), "client-cert")
        self.assertEqual((self.proxy.seen(at(self.target)), self.target.connections), ([], 0))
