"""The private names of Twisted's that are used, each looked up in Twisted's own objects.

A test that fails here means that a version of Twisted has renamed something: see
`ptunnel.twisted_private`.
"""

from __future__ import annotations

import os
import socket
import warnings
from typing import Any, cast

from twisted.internet import stdio, tcp, unix
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogBeginner, LogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import HTTPChannel

from ptunnel import twisted_private as private


class _Renamed:
    """An object that has none of the names."""

    dataBuffer = b"abc"
    offset = 1


class BufferTests(SynchronousTestCase):
    def setUp(self) -> None:
        reactor = cast(Any, MemoryReactorClock())
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        self.tcp: Any = tcp.Connection(ours, Protocol(), reactor)
        self.tcp.connected = True
        self.tcp.startWriting = lambda: None
        options = optionsForClientTLS("x.example")
        wrapped = Factory.forProtocol(Protocol)
        factory = TLSMemoryBIOFactory(options, True, cast(Any, wrapped))
        self.tls: Any = TLSMemoryBIOProtocol(factory, Protocol())
        self.tls.makeConnection(StringTransport())

    def test_whatASocketHoldsIsCountedAndTaken(self) -> None:
        self.tcp.dataBuffer, self.tcp.offset = b"abc", 1
        self.tcp.write(b"de")
        self.assertTrue(private.canTakeUnsent(self.tcp))
        self.assertEqual(private.bufferedBytes(self.tcp), 4)
        self.assertEqual(private.takeUnsent(self.tcp), b"bcde")
        self.assertEqual(private.bufferedBytes(self.tcp), 0)
        self.assertEqual(self.tcp._tempDataBuffer, [])

    def test_whatTlsHoldsIsCountedAndTaken(self) -> None:
        self.tls.write(b"abc")
        self.assertTrue(private.canTakeUnencrypted(self.tls))
        self.assertEqual(private.unencryptedBytes(self.tls), 3)
        self.assertEqual(private.takeUnencrypted(self.tls), b"abc")
        self.assertEqual(private.unencryptedBytes(self.tls), 0)

    def test_whatAProducerStillGivesTlsIsNotTaken(self) -> None:
        class Producer:
            def pauseProducing(self) -> None: ...
            def resumeProducing(self) -> None: ...
            def stopProducing(self) -> None: ...

        self.tls.registerProducer(Producer(), True)
        self.assertFalse(private.canTakeUnencrypted(self.tls))
        self.tls.unregisterProducer()
        self.assertTrue(private.canTakeUnencrypted(self.tls))

    def test_whereTheNamesAreOthersNothingIsTaken(self) -> None:
        renamed = _Renamed()
        self.assertFalse(private.canTakeUnsent(renamed))
        self.assertFalse(private.canTakeUnencrypted(renamed))
        self.assertEqual(private.bufferedBytes(renamed), 2)
        self.assertEqual(private.unencryptedBytes(renamed), 0)
        for take in private.takeUnsent, private.takeUnencrypted:
            self.assertRaises(AttributeError, take, renamed)
        self.assertEqual(renamed.dataBuffer, b"abc")

    def test_silentTlsSendsNoGoodbye(self) -> None:
        self.assertIs(TLSMemoryBIOProtocol._aborted, False)
        sent = self.tls.transport.value()
        private.silence(self.tls)
        self.tls.write(b"abc")
        self.tls.loseConnection()
        self.assertEqual(self.tls.transport.value(), sent)
        self.assertEqual(private.unencryptedBytes(self.tls), 0)


class EndpointTests(SynchronousTestCase):
    def test_anEndpointLeadsSomewhere(self) -> None:
        reactor = cast(Any, MemoryReactorClock())
        for endpoint, host in (
            (TCP4ClientEndpoint(reactor, "192.0.2.1", 1), "192.0.2.1"),
            (TCP6ClientEndpoint(reactor, "2001:db8::1", 1), "2001:db8::1"),
            (HostnameEndpoint(reactor, "x.example", 1), "x.example"),
        ):
            self.assertEqual(private.hostAndPortOf(endpoint), (host, 1))
        self.assertEqual(private.pathOf(UNIXClientEndpoint(reactor, "/run/x")), "/run/x")
        inner = TCP4ClientEndpoint(reactor, "192.0.2.1", 1)
        over = wrapClientTLS(optionsForClientTLS("x.example"), inner)
        self.assertIs(private.innerOf(over), inner)

    def test_anyOtherDoesNotSay(self) -> None:
        other = _Renamed()
        self.assertEqual(private.hostAndPortOf(other), (None, None))
        self.assertIsNone(private.pathOf(other))
        self.assertIsNone(private.innerOf(other))


class ReactorTests(SynchronousTestCase):
    def test_theDefaultResolverIsKnown(self) -> None:
        from twisted.internet import reactor

        self.assertTrue(private.isThreadedResolver(cast(Any, reactor).nameResolver))
        self.assertFalse(private.isThreadedResolver(object()))

    def test_aDescriptorIsReserved(self) -> None:
        private.reserveDescriptor()
        self.assertTrue(tcp._reservedFD.available())
        self.patch(tcp, "_reservedFD", None)
        private.reserveDescriptor()

    def test_aLogIsHeardOnceAProgramHasBegun(self) -> None:
        with open(os.devnull, "w") as nowhere:
            beginner = LogBeginner(LogPublisher(), nowhere, cast(Any, _Streams()), warnings)
            self.assertTrue(private.isLogUnheard(beginner))
            beginner.beginLoggingTo([], redirectStandardIO=False)
            self.assertFalse(private.isLogUnheard(beginner))
            self.assertTrue(private.isLogUnheard(_Renamed()))


class _Streams:
    stdout = stderr = None


class InheritedTests(SynchronousTestCase):
    """The names that subclasses of Twisted's classes use."""

    def test_ofSocketsAndPorts(self) -> None:
        for one in tcp.Connection, tcp.Port:
            self.assertIs(one._shouldShutdown, True)
        self.assertIs(tcp.Connection._writeDisconnected, False)
        self.assertIsNone(tcp.Connection.TLS or None)
        self.assertTrue(callable(tcp.Port._fromListeningDescriptor))
        self.assertTrue(hasattr(unix.Port, "connectionLost"))

    def test_ofTheHTTPServer(self) -> None:
        channel: Any = HTTPChannel()
        self.assertTrue(callable(channel._respondToBadRequestAndDisconnect))
        channel.factory = None
        channel.makeConnection(StringTransport())
        self.assertIsNotNone(channel._networkProducer)
        channel.connectionLost(None)

    def test_ofStandardInputAndOutput(self) -> None:
        inside, outside = os.pipe()
        self.addCleanup(os.close, inside)
        self.addCleanup(os.close, outside)
        both: Any = cast(Any, stdio).StandardIO(Protocol(), inside, outside, MemoryReactorClock())
        self.assertIsNotNone(both._reader)
        self.assertIsNotNone(both._writer)
        both._writer.dataBuffer = b"abc"
        self.assertEqual(private.bufferedBytes(both), 3)
