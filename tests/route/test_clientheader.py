"""PROXY headers to a target: `ptunnel.route.clientheader`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectingCancelledError, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel.ports.proxyheader import parseHeader
from ptunnel.route.clientheader import ClientsEndpoint, HeadedEndpoint, Version, clientHeader
from tests.support.fakes import Builder, Endpoint

ALICE = IPv4Address("TCP", "192.0.2.7", 5001)
HERE = IPv4Address("TCP", "10.0.0.2", 993)
ALICE6 = IPv6Address("TCP", "2001:db8::7", 5001)
HERE6 = IPv6Address("TCP", "fe80::1%eth0", 993)
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

versions: Any = st.sampled_from(("v1", "v2"))
ports = st.integers(0, 65535)
addresses = st.one_of(
    st.builds(lambda host, port: IPv4Address("TCP", str(host), port), st.ip_addresses(v=4), ports),
    st.builds(lambda host, port: IPv6Address("TCP", str(host), port), st.ip_addresses(v=6), ports),
)


class HeaderTests(SynchronousTestCase):
    def test_version1IsALine(self) -> None:
        for client, here, line in (
            (ALICE, HERE, b"PROXY TCP4 192.0.2.7 10.0.0.2 5001 993\r\n"),
            (ALICE6, HERE6, b"PROXY TCP6 2001:db8::7 fe80::1 5001 993\r\n"),
            (ALICE, HERE6, b"PROXY TCP6 ::ffff:c000:207 fe80::1 5001 993\r\n"),
            (ALICE6, HERE, b"PROXY TCP6 2001:db8::7 ::ffff:a00:2 5001 993\r\n"),
            (ALICE, UNIXAddress(b"/a"), b"PROXY TCP4 192.0.2.7 0.0.0.0 5001 0\r\n"),
            (ALICE6, None, b"PROXY TCP6 2001:db8::7 :: 5001 0\r\n"),
            (UNIXAddress(None), UNIXAddress(b"/a"), b"PROXY UNKNOWN\r\n"),
            (None, None, b"PROXY UNKNOWN\r\n"),
        ):
            self.assertEqual(clientHeader("v1", client, here), line)

    def test_version2IsBinary(self) -> None:
        ports = b"\x13\x89\x03\xe1"
        self.assertEqual(
            clientHeader("v2", ALICE, HERE),
            SIGNATURE + b"\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 10, 0, 0, 2]) + ports,
        )
        self.assertEqual(clientHeader("v2", ALICE6, HERE6)[12:16], b"\x21\x21\0\x24")
        self.assertEqual(clientHeader("v2"), SIGNATURE + b"\x20\0\0\0")

    def test_aMappedAddressIsItsIPv4Address(self) -> None:
        mapped = IPv6Address("TCP", "::ffff:192.0.2.7", 5001)
        self.assertEqual(clientHeader("v1", mapped, HERE), clientHeader("v1", ALICE, HERE))

    @given(versions, addresses, st.one_of(st.none(), addresses))
    def test_ourOwnParserReadsTheClientBack(self, version: Version, client: Any, here: Any) -> None:
        header = clientHeader(version, client, here)
        found = parseHeader(header)
        assert found is not None
        source, length = found
        assert source is not None
        self.assertEqual(length, len(header))
        self.assertEqual(clientHeader(version, source, here), header)
        self.assertEqual(source.port, client.port)


class HeadedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.inner = Endpoint()
        self.factory = Builder()
        self.endpoint = HeadedEndpoint(self.inner, b"PROXY UNKNOWN\r\n", "t.example:25")

    def test_theHeaderComesFirstAndTheProtocolHasTheConnectionThen(self) -> None:
        verifyObject(IStreamClientEndpoint, self.endpoint)
        connecting = self.endpoint.connect(self.factory)
        transport = self.inner.accept()
        protocol = self.successResultOf(connecting)
        self.assertIs(protocol, self.factory.built[0])
        self.assertEqual(transport.value(), b"PROXY UNKNOWN\r\n")
        protocol.transport.write(b"EHLO")
        transport.receive(b"220")
        self.assertEqual(transport.value(), b"PROXY UNKNOWN\r\nEHLO")
        self.assertEqual(protocol.received, b"220")

    def test_itFailsAsTheOtherEndpointDoes(self) -> None:
        connecting = self.endpoint.connect(self.factory)
        self.inner.fail(ConnectionRefusedError())
        self.failureResultOf(connecting, ConnectionRefusedError)

    def test_cancellingCancels(self) -> None:
        connecting = self.endpoint.connect(self.factory)
        connecting.cancel()
        self.failureResultOf(connecting, ConnectingCancelledError)


class ClientsTests(SynchronousTestCase):
    def test_eachClientHasItsHeaderBeforeWhatIsAdded(self) -> None:
        inner = Endpoint()
        added: list[Any] = []

        def wrap(endpoint: IStreamClientEndpoint) -> IStreamClientEndpoint:
            added.append(endpoint)
            return endpoint

        endpoint = ClientsEndpoint(inner, "v1", "t.example:25", wrap)
        sent = []
        for each in endpoint, endpoint.forClient(ALICE, HERE):
            each.connect(Builder())
            sent.append(inner.accept().value())
        self.assertEqual(sent, [b"PROXY UNKNOWN\r\n", clientHeader("v1", ALICE, HERE)])
        self.assertEqual([type(each) for each in added], 2 * [HeadedEndpoint])
