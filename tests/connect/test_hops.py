"""What failures call a proxy of which only the endpoint is known."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    clientFromString,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from ptunnel import ConnectEndpoint, Credentials, Login, TlsEndpoint, TlsSettings
from ptunnel.connect.endpoint import hopOf
from ptunnel.errors import CredentialsRefused, ProxyRefused, Unreachable
from tests.support.fakes import Builder, Endpoint

REFUSAL = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
ASKS = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"


class HopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()

    def test_TwistedsOwnEndpointsTellWhereTheyLead(self) -> None:
        for endpoint, hop in (
            (HostnameEndpoint(self.reactor, "proxy.example", 3128), "proxy.example:3128"),
            (HostnameEndpoint(self.reactor, b"proxy.example", 3128), "proxy.example:3128"),
            (HostnameEndpoint(self.reactor, "::1", 3128), "[::1]:3128"),
            (TCP4ClientEndpoint(self.reactor, "192.0.2.1", 80), "192.0.2.1:80"),
            (TCP6ClientEndpoint(self.reactor, "2001:db8::1", 80), "[2001:db8::1]:80"),
            (UNIXClientEndpoint(self.reactor, "/run/proxy"), "unix:/run/proxy"),
            (clientFromString(self.reactor, "tcp:proxy.example:80"), "proxy.example:80"),
        ):
            self.assertEqual(hopOf(endpoint), hop)

    def test_whatIsOverAnotherLeadsWhereThatLeads(self) -> None:
        tcp = HostnameEndpoint(self.reactor, "proxy.example", 443)
        secured = wrapClientTLS(optionsForClientTLS("proxy.example"), tcp)
        self.assertEqual(hopOf(secured), "proxy.example:443")
        ours = TlsEndpoint(tcp, TlsSettings(), "proxy.example")
        self.assertEqual(hopOf(ours), "proxy.example:443")

    def test_anEndpointThroughAProxyLeadsToItsTarget(self) -> None:
        tcp = HostnameEndpoint(self.reactor, "edge.example", 1)
        inner = ConnectEndpoint(tcp, "inner.example", 2)
        self.assertEqual(inner.hop, "edge.example:1")
        self.assertEqual(ConnectEndpoint(inner, "t.example", 3).hop, "inner.example:2")

    def test_whatDoesNotSayHasNoName(self) -> None:
        self.assertEqual(hopOf(Endpoint()), "")
        looped: Any = Endpoint()
        looped._endpoint = looped
        self.assertEqual(hopOf(looped), "")


class FailureTests(SynchronousTestCase):
    """Without `hop` the failures of an endpoint name the proxy."""

    def setUp(self) -> None:
        self.proxy = Endpoint()
        self.proxy._host, self.proxy._port = "proxy.example", 3128  # type: ignore[attr-defined]

    def connect(self, **more: Any) -> Any:
        clock = MemoryReactorClock()
        endpoint = ConnectEndpoint(self.proxy, "t.example", 993, reactor=clock, **more)
        return endpoint.connect(Builder())

    def test_aRefusal(self) -> None:
        connecting = self.connect()
        self.proxy.accept().receive(REFUSAL)
        error = self.failureResultOf(connecting, ProxyRefused).value
        self.assertEqual(error.hop, "proxy.example:3128")
        self.assertIn("the proxy proxy.example:3128 refuses", str(error))

    def test_aConnectionThatIsNotMade(self) -> None:
        connecting = self.connect()
        self.proxy.fail(ConnectionRefusedError(111))
        error = self.failureResultOf(connecting, Unreachable).value
        self.assertIn("cannot reach the proxy proxy.example:3128: ", str(error))

    def test_credentialsThatAreRejectedThoughTheLoginHasNoName(self) -> None:
        login = Login(Credentials("alice", "secret"), reactor=MemoryReactorClock())
        connecting = self.connect(credentials=login)
        for _ in range(2):
            transport = self.proxy.accept()
            transport.receive(ASKS)
            if transport.closing:
                continue
            transport.receive(ASKS)
            break
        self.failureResultOf(connecting, CredentialsRefused)
        error = self.failureResultOf(self.connect(credentials=login), CredentialsRefused).value
        self.assertIn("proxy.example:3128", str(error))

    def test_aNameThatIsGivenComesFirst(self) -> None:
        connecting = self.connect(hop="corp")
        self.proxy.accept().receive(REFUSAL)
        error = self.failureResultOf(connecting, ProxyRefused).value
        self.assertEqual(error.hop, "corp")
