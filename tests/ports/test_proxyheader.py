"""PROXY headers: `ptunnel.ports.proxyheader`."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from ptunnel.config import UNIX
from ptunnel.log import Log
from ptunnel.net.descriptors import Descriptors
from ptunnel.ports.proxyheader import HEADER_WAIT, HeaderEndpoint, parseHeader, splitHeader
from tests.support.fakes import Builder, Endpoint, Recorder, Transport, observe, said

BALANCER = IPv4Address("TCP", "10.0.0.1", 40000)
LINE = b"PROXY TCP4 192.0.2.7 10.0.0.2 5001 993\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def binary(command: int, family: int, rest: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


IN4 = binary(0x21, 0x11, bytes([192, 0, 2, 7, 10, 0, 0, 2]) + struct.pack("!HH", 5001, 993))
IN6 = binary(
    0x21,
    0x21,
    ipaddress.ip_address("2001:db8::7").packed * 2 + struct.pack("!HH", 5001, 993) + b"\x04\0\0",
)
HEADERS = (
    (LINE, IPv4Address("TCP", "192.0.2.7", 5001)),
    (b"PROXY TCP6 2001:db8::7 ::1 5001 993\r\n", IPv6Address("TCP", "2001:db8::7", 5001)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN and whatever follows\r\n", None),
    (IN4, IPv4Address("TCP", "192.0.2.7", 5001)),
    (IN6, IPv6Address("TCP", "2001:db8::7", 5001)),
    (binary(0x20, 0, b""), None),  # the balancer looks whether we are there
    (binary(0x20, 0x11, b"\0" * 12), None),
    (binary(0x21, 0x31, b"/path".ljust(216, b"\0")), None),
    (binary(0x21, 0x00, b"more"), None),
)
WRONG = (
    b"GET / HTTP/1.1\r\n",
    b"proxy TCP4 192.0.2.7 10.0.0.2 5001 993\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.2 5001\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.2 5001 993 more\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 5001 993\r\n",
    b"PROXY TCP4 mail.example 10.0.0.2 5001 993\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.2 65536 993\r\n",
    b"PROXY TCP4 192.0.2.7 10.0.0.2 x 993\r\n",
    b"PROXY UDP4 192.0.2.7 10.0.0.2 5001 993\r\n",
    b"PROXY  \xff\r\n",
    b"PROXY UNKNOWN " + b"x" * 100,
    binary(0x11, 0x11, b"\0" * 12),
    binary(0x22, 0x11, b"\0" * 12),
    binary(0x21, 0x11, b"\0" * 11),
    binary(0x21, 0x21, b"\0" * 12),
    SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 20000),
)


class ParserTests(SynchronousTestCase):
    def test_theClientsAddressAndTheLengthAreFound(self) -> None:
        for header, address in HEADERS:
            for rest in b"", b"PROXY", b"\0" * 100:
                self.assertEqual(parseHeader(header + rest), (address, len(header)), header)

    def test_aHeaderMayComeByteByByte(self) -> None:
        for header, _ in HEADERS:
            for length in range(len(header)):
                self.assertIsNone(parseHeader(header[:length]), header[:length])

    def test_anythingElseIsAValueErrorInWords(self) -> None:
        for data in WRONG:
            error = self.assertRaises(ValueError, parseHeader, data)
            self.assertIn("PROXY header", str(error))

    @given(st.sampled_from([b"", b"PROXY ", LINE[:20], SIGNATURE, IN4[:16], IN6[:16]]), st.binary())
    def test_whateverComesIsAHeaderOrAValueErrorOrMoreIsNeeded(
        self, begin: bytes, rest: bytes
    ) -> None:
        try:
            found = parseHeader(begin + rest)
        except ValueError:
            return
        if found is not None:
            self.assertLessEqual(found[1], len(begin + rest))
        else:
            self.assertLess(len(begin + rest), 17 * 1024)

    def test_theStringSaysWhetherThereAreHeaders(self) -> None:
        self.assertEqual(splitHeader("haproxy:tcp:1"), (True, "tcp:1"))
        self.assertEqual(splitHeader("tcp:1"), (False, "tcp:1"))


class HeaderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = observe(self)
        self.clock = Clock()
        self.factory = Builder()
        self.reactor = MemoryReactorClock()
        self.listen()

    def listen(self, *more: Any) -> None:
        tcp = TCP4ServerEndpoint(self.reactor, 993)
        self.endpoint = HeaderEndpoint(tcp, Log(), "imap", self.clock, *more)
        self.successResultOf(self.endpoint.listen(self.factory))

    def client(self, address: Any = BALANCER) -> Transport:
        transport = Transport(peerAddress=address)
        transport.protocol = self.reactor.tcpServers[-1][1].buildProtocol(address)
        transport.protocol.makeConnection(transport)
        return transport

    def assertNothingIsLeft(self) -> None:
        self.clock.advance(2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_itIsAnEndpointThatStartsAndStopsTheFactory(self) -> None:
        verifyObject(IStreamServerEndpoint, self.endpoint)
        factory: Any = self.reactor.tcpServers[0][1]
        factory.doStart()
        factory.doStop()
        self.assertEqual((self.factory.starts, self.factory.stops), (1, 1))

    def test_itFailsAsTheOtherEndpointDoes(self) -> None:
        class Failing(Endpoint):
            def listen(self, factory: Any) -> Any:
                return self.connect(factory)

        failing = Failing()
        listening = HeaderEndpoint(failing, Log(), reactor=self.clock).listen(self.factory)  # type: ignore[arg-type]
        failing.fail(OSError("taken"))
        self.failureResultOf(listening, OSError)

    def test_theProtocolIsBuiltWhenTheHeaderHasSaidForWhom(self) -> None:
        for header, address in HEADERS:
            transport = self.client()
            self.assertEqual(self.factory.built, [])
            for number in range(len(header)):
                transport.receive(header[number : number + 1])
            [built] = self.factory.built
            self.assertIs(transport.protocol, built)
            self.assertEqual(self.factory.addresses, [address or BALANCER])
            transport.receive(b"hello")
            self.assertEqual(built.received, b"hello")
            self.factory.built.clear()
            self.factory.addresses.clear()
        self.assertNothingIsLeft()

    def test_whatStandsBehindItFollows(self) -> None:
        self.client().receive(LINE + b"EHLO")
        [built] = self.factory.built
        self.assertEqual(built.events, [("made", None), ("data", b"EHLO")])

    def test_itFollowsToWhoeverIsTheProtocolThen(self) -> None:
        other = Recorder()

        class HandingOver(Recorder):
            def connectionMade(self) -> None:
                self.transport.protocol = other  # type: ignore[union-attr]

        self.factory.build = HandingOver
        self.client().receive(LINE + b"EHLO")
        self.assertEqual(other.received, b"EHLO")

    def test_ofAClosedConnectionNothingFollows(self) -> None:
        class Closing(Recorder):
            def connectionMade(self) -> None:
                self.transport.loseConnection()  # type: ignore[union-attr]

        self.factory.build = Closing
        self.client().receive(LINE + b"EHLO")
        self.assertEqual(self.factory.built[0].events, [])

    def test_aClientForWhichNothingIsBuiltIsClosed(self) -> None:
        self.factory.build = lambda: None
        transport = self.client()
        transport.receive(LINE + b"EHLO")
        self.assertTrue(transport.disconnecting)
        self.assertNothingIsLeft()

    def test_aClientWithoutOneIsOneLineAndAborted(self) -> None:
        transport = self.client()
        transport.receive(b"EHLO me\r\n")
        self.assertEqual(transport.aborted, 1)
        self.assertEqual(
            said(self.events),
            ["warn imap: 10.0.0.1:40000 is closed: it does not begin with a PROXY header, PR"],
        )
        self.assertNothingIsLeft()

    def test_oneThatDoesNotSendItIsTooAndBeforeLong(self) -> None:
        transport = self.client()
        transport.receive(LINE[:5])
        self.clock.pump([1] * int(HEADER_WAIT - 1))
        self.assertEqual(transport.aborted, 0)
        self.clock.pump([1] * 2)
        self.assertEqual(transport.aborted, 1)
        self.assertEqual(
            said(self.events),
            ["warn imap: 10.0.0.1:40000 is closed: no PROXY header within 10 s, cR"],
        )
        self.assertNothingIsLeft()

    def test_oneThatGoesBeforeItIsNoLine(self) -> None:
        self.client().lose()
        self.assertEqual((said(self.events), self.factory.built), ([], []))
        self.assertNothingIsLeft()

    def test_oneThatEndsWithinItIsALine(self) -> None:
        transport = self.client()
        transport.receive(LINE[:20])
        transport.lose()
        self.assertEqual(
            said(self.events),
            ["warn imap: 10.0.0.1:40000 is closed: it ended within its PROXY header, CR"],
        )
        self.assertNothingIsLeft()

    def test_aFloodIsOneLineForEachReason(self) -> None:
        for _ in range(50):
            self.client().receive(b"EHLO me\r\n")
            self.client().receive(b"PROXY TCP4 x\r\n")
        self.assertEqual(len(said(self.events)), 2)


class TrustTests(HeaderTests):
    """The same of clients that are trusted, and what becomes of the others."""

    TRUSTED = ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")

    def listen(self, *more: Any) -> None:
        super().listen(*more or (self.TRUSTED,))

    def test_othersAreServedAsTheyAreEvenWithAHeader(self) -> None:
        for host in "192.0.2.9", "::1", "::ffff:192.0.2.9":
            kind = IPv6Address if ":" in host else IPv4Address
            address = kind("TCP", host, 5001)
            transport = self.client(address)
            transport.receive(LINE)
            self.assertEqual(self.factory.addresses.pop(), address)
            self.assertEqual(self.factory.built.pop().received, LINE)

    def test_anIPv4AddressIsKnownOnAnIPv6PortToo(self) -> None:
        self.client(IPv6Address("TCP", "::ffff:10.0.0.1", 5001)).receive(IN4)
        self.assertEqual(self.factory.addresses, [IPv4Address("TCP", "192.0.2.7", 5001)])

    def test_aUnixSocketsClientsAreTrustedIfThatIsWritten(self) -> None:
        client = UNIXAddress(None)
        self.client(client).receive(LINE)
        self.assertEqual(self.factory.addresses.pop(), client)
        self.listen((UNIX,))
        self.client(client).receive(LINE)
        self.assertEqual(self.factory.addresses.pop(), IPv4Address("TCP", "192.0.2.7", 5001))
        self.client().receive(LINE)
        self.assertEqual(self.factory.addresses.pop(), BALANCER)


class ShortageTests(HeaderTests):
    """The same while the descriptors suffice, and what happens when they do not."""

    def listen(self, *more: Any) -> None:
        self.descriptors = Descriptors(8)  # a quarter of which is spare
        super().listen((), self.descriptors)

    def assertNothingIsLeft(self) -> None:
        super().assertNothingIsLeft()
        self.assertEqual(self.descriptors.used, 0)

    def test_withoutDescriptorsTheyAreClosedWithOneLine(self) -> None:
        waiting = [self.client() for _ in range(8)]
        self.assertEqual([client.aborted for client in waiting], 5 * [0] + 3 * [1])
        self.assertEqual(
            said(self.events),
            [
                "warn imap: 10.0.0.1:40000 is closed: no open files are left for clients that "
                "send no PROXY header yet, RR"
            ],
        )
        for client in waiting:
            client.lose()
        self.assertNothingIsLeft()
