"""Which certificates are trusted, and what is said of others: `ptunnel.tls.verify`."""

from __future__ import annotations

import ipaddress
import os

from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from OpenSSL import SSL
from twisted.trial.unittest import SkipTest

from ptunnel import causes
from ptunnel.errors import CertificateRefused
from ptunnel.tls import TlsSettings
from tests.support import authority
from tests.support.fakes import Builder
from tests.support.tlswire import HOST, Case, Server, Wire, trusting


class TrustTests(Case):
    def trustEverywhere(self) -> None:
        """Let the test authority be the system's."""
        before = dict(os.environ)
        self.addCleanup(lambda: (os.environ.clear(), os.environ.update(before)))
        os.environ["SSL_CERT_FILE"] = authority.authority().cert

    def test_namesAddressesAndWildcardsOfTheCertificateCount(self) -> None:
        server = Server(authority.server("a.example", "*.b.example", "192.0.2.7", "2001:db8::7"))
        for host in "a.example", "A.Example", "x.b.example", "192.0.2.7", "2001:db8:0::7":
            self.successResultOf(self.connect(server, host=host))

    def test_aWholeChainLeadsToTheAuthority(self) -> None:
        self.successResultOf(self.connect(Server(authority.fromIntermediate(HOST))))

    def test_whatStandsInTheFileIsTrustedBeItNoRoot(self) -> None:
        for pair, trusted in (
            (authority.brokenChain(HOST), authority.intermediate()),
            (authority.server(HOST), authority.server(HOST)),
            (authority.selfSigned(HOST), authority.selfSigned(HOST)),
        ):
            settings = TlsSettings(caFile=trusted.cert)
            self.successResultOf(self.connect(Server(pair), settings))

    def test_onlyWhatStandsInTheFileIsTrusted(self) -> None:
        self.trustEverywhere()
        settings = TlsSettings(caFile=authority.authority("Somebody Else").cert)
        self.refused(Server(), settings)

    def test_withoutAFileTheSystemsAuthoritiesAreTrusted(self) -> None:
        self.says(self.refused(Server(), TlsSettings()), "The Test Authority")
        self.trustEverywhere()
        self.successResultOf(self.connect(Server(), TlsSettings()))

    def test_withoutVerificationAnythingGoes(self) -> None:
        for pair in authority.selfSigned("else.example"), authority.expired("else.example"):
            self.successResultOf(self.connect(Server(pair), trusting(verify=False)))


class OddNameTests(Case):
    """A certificate is judged by the names that match, whatever stands beside them."""

    ODD = (
        x509.DNSName("*.*.example"),
        x509.DNSName("a.*.example"),
        x509.DNSName("*"),
        x509.DNSName("*.example"),
        x509.DNSName("192.0.2.7"),
        x509.DNSName(""),
        x509.DNSName("-"),
        x509.DNSName._init_without_validation("m\xfcller.example"),
        x509.UniformResourceIdentifier("no-colon"),
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.5.5.7.8.7"), b"\x04\x01x"),
        x509.RFC822Name("somebody@example"),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
    )

    def test_anOddOneIsNoReasonToRefuseTheOthers(self) -> None:
        for odd in self.ODD:
            for names in [odd, x509.DNSName(HOST)], [x509.DNSName(HOST), odd]:
                self.successResultOf(self.connect(Server(authority.withNames(*names))))
            address = x509.IPAddress(ipaddress.ip_address("192.0.2.9"))
            server = Server(authority.withNames(odd, address))
            self.successResultOf(self.connect(server, host="192.0.2.9"))

    def test_noneOfThemIsTheNameOfAHop(self) -> None:
        for odd in self.ODD:
            self.refused(Server(authority.withNames(odd)))
        for host, odd in (("a.b.example", "*.*.example"), ("a.example", "*.example")):
            self.refused(Server(authority.withNames(x509.DNSName(odd))), host=host)
        self.refused(Server(authority.withNames(x509.DNSName("192.0.2.7"))), host="192.0.2.7")

    def test_whatLibrariesRefuseToParseIsNoReasonEither(self) -> None:
        dns = b"\x82" + bytes([len(HOST)]) + HOST.encode()
        for odd in (
            b"\x87\x05\x01\x02\x03\x04\x05",  # an address of five bytes
            b"\x82\x02\xff\xfe",  # a name in no encoding
            b"\xa3\x02\x05\x00",  # an X.400 address
        ):
            content = odd + dns
            names = x509.UnrecognizedExtension(
                ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30" + bytes([len(content)]) + content
            )
            self.successResultOf(self.connect(Server(authority.withExtension(names))))
            self.refused(Server(authority.withExtension(names)), host="other.example")

    def test_oneThatIsCutOffIsRefused(self) -> None:
        for content in b"\x30\x05\x82\x0fa", b"\x30", b"\x30\x03\x82\x81":
            names = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, content)
            try:
                server = Server(authority.withExtension(names))
            except SSL.Error:
                raise SkipTest("this OpenSSL lets no server have such a certificate") from None
            self.refused(server)


class RefusalTests(Case):
    def test_expired(self) -> None:
        error = self.refused(Server(authority.expired(HOST)))
        day = f"{authority.NOW - 2 * authority.DAY:%Y-%m-%d}"
        self.says(error, f"its certificate expired on {day} ", " UTC")

    def test_notYetValid(self) -> None:
        error = self.refused(Server(authority.notYetValid(HOST)))
        day = f"{authority.NOW + 2 * authority.DAY:%Y-%m-%d}"
        self.says(error, f"its certificate is not valid before {day} ", "is this machine's clock")

    def test_forAnotherName(self) -> None:
        error = self.refused(Server(authority.server("a.example", "192.0.2.7")))
        self.says(error, f"is for a.example, 192.0.2.7, not for {HOST}", "server-name")

    def test_forAnotherAddress(self) -> None:
        error = self.refused(Server(authority.server("192.0.2.7")), host="192.0.2.8")
        self.says(error, "is for 192.0.2.7, not for 192.0.2.8")

    def test_anAddressIsNoNameAndTheOtherWayAround(self) -> None:
        self.refused(Server(authority.server(HOST)), host="192.0.2.7")
        self.refused(Server(authority.server("192.0.2.7")), host=HOST)

    def test_ofManyNamesAFewAreShown(self) -> None:
        names = [f"{c}.example" for c in "abcdefg"]
        error = self.refused(Server(authority.server(*names)))
        self.says(error, "is for a.example, b.example, c.example, d.example and 3 more, not for")

    def test_forNoName(self) -> None:
        self.says(self.refused(Server(authority.server())), "names no host")

    def test_selfSigned(self) -> None:
        error = self.refused(Server(authority.selfSigned(HOST)))
        self.says(error, "is self-signed", "ca-file")

    def test_ofAnUnknownAuthority(self) -> None:
        error = self.refused(Server(authority.stranger(HOST)))
        self.says(error, 'an authority that is not known here, "Somebody Else"', "ca-file")

    def test_ofAnIncompleteChain(self) -> None:
        error = self.refused(Server(authority.brokenChain(HOST)))
        self.says(error, '"The Test Intermediate"', "chain is incomplete", "ca-file")

    def test_ofNoAuthority(self) -> None:
        error = self.refused(Server(authority.fromNoAuthority(HOST)))
        self.says(error, '"middle.example" is not an authority\'s')

    def test_notForServers(self) -> None:
        self.says(self.refused(Server(authority.notForServers(HOST))), "is not one for a server")

    def test_itNamesTheHostWhereTheHopHasNoOtherName(self) -> None:
        connecting = self.begin(hop="")
        Wire(self.endpoint.accept(), Server(authority.selfSigned(HOST)).factory(Builder())).pump()
        error = self.failureResultOf(connecting, CertificateRefused).value
        self.assertEqual(error.hop, HOST)

    def test_foreignTextIsOneLine(self) -> None:
        pair = authority.fromStrangeAuthority(HOST)
        self.says(self.refused(Server(pair)), '"evil\\n\\x1b[31m authority"')

    def test_theConnectionIsAborted(self) -> None:
        self.refused(Server(authority.selfSigned(HOST)))
        self.assertGreater(self.wire.client.aborted, 0)

    def test_noClientCertificateGoesToTheWrongHop(self) -> None:
        for version in SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION:
            server = Server(
                authority.server("other.example"),
                version=version,
                clientsFrom=authority.authority(),
            )
            self.refused(server, trusting(certFile=authority.client().both))
            self.assertEqual(server.shown, [])

    def test_itNamesItsCause(self) -> None:
        for pair, cause in (
            (authority.expired(HOST), causes.CERTIFICATE_EXPIRED),
            (authority.notYetValid(HOST), causes.CERTIFICATE_EARLY),
            (authority.selfSigned(HOST), causes.CERTIFICATE_SELF_SIGNED),
            (authority.brokenChain(HOST), causes.CERTIFICATE_CHAIN),
            (authority.server("other.example"), causes.CERTIFICATE_NAME),
            (authority.server(), causes.CERTIFICATE),
            (authority.notForServers(HOST), causes.CERTIFICATE),
        ):
            error = self.refused(Server(pair))
            self.assertEqual((error.cause, error.hint), (cause, cause.hint), str(error))
