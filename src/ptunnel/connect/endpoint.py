"""One hop: a connection to a target through the proxy behind any other endpoint.

A ConnectEndpoint is an endpoint over an endpoint, so a chain of proxies is one within another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from ptunnel.auth import Credentials
from ptunnel.connect.answering import AnsweringAttempt
from ptunnel.connect.attempt import ConnectAttempt, Hop
from ptunnel.connect.request import ConnectRequest
from ptunnel.login.login import Login
from ptunnel.net.addresses import hostPort
from ptunnel.timing.deadlines import Sweep
from ptunnel.twisted_private import hostAndPortOf, innerOf, pathOf

# A chain of endpoints is as long as people write it; an endpoint that wraps itself has no end.
_DEEPEST = 20


@implementer(IStreamClientEndpoint)
class ConnectEndpoint:
    """A connection through an HTTP proxy's CONNECT method (RFC 9110 section 9.3.6).

    `connect` gives a Deferred that fires with the inner protocol when the proxy has answered 2xx
    and the protocol is connected; bytes that came behind the answer follow at once. It fails with

     - L{ptunnel.errors.Unreachable} when there is no connection to the proxy,
     - L{ptunnel.errors.ProxyRefused} when its answer is not 2xx, and
       L{ptunnel.errors.CredentialsRefused} when that is 407 and the credentials are rejected, or
       were shortly before,
     - L{ptunnel.errors.CredentialsUnavailable} when they could not be read,
     - L{ptunnel.errors.ProxyFailed} when its answer is missing or not valid HTTP,
     - ConnectingCancelledError when it is cancelled,
     - the exception of the factory, or NoProtocol when it built no protocol.

    In each case the connection to the proxy is aborted.
    """

    def __init__(
        self,
        proxyEndpoint: IStreamClientEndpoint,
        host: str,
        port: int,
        *,
        credentials: Credentials | Login | None = None,
        headers: Sequence[tuple[str, str]] = (),
        timeout: float | None = 30.0,
        hop: str = "",
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param proxyEndpoint: how the proxy is reached: TCP, TLS, or through another proxy.
        @param host: the target's name (ASCII) or address literal, without brackets.
        @param port: the target's port, 1 to 65535.
        @param credentials: for this proxy, sent when it asks for them, by a scheme that it offers;
            a Login, to share with other endpoints what the proxy accepted or rejected.
        @param headers: further header fields for this proxy. User-Agent is C{ptunnel/VERSION}
            unless it is among them. A failure shows none of their values.
        @param timeout: seconds for the whole attempt, with DNS, TCP and TLS; None: no limit.
        @param hop: the proxy's name in failures; "": its `host:port`, if the endpoint has one.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a target or a header that a request must not contain.
        """
        self.host = host
        self.port = port
        self.hop = hop = hop or hopOf(proxyEndpoint)
        self.login = _loginFor(hop, credentials, reactor)
        self._attempts = Hop(
            endpoint=proxyEndpoint,
            request=ConnectRequest(host, port, headers),
            name=hop,
            timeout=timeout,
            sweep=Sweep.fine(reactor, timeout),
            address=HostnameAddress(host.encode("ascii"), port),
            login=self.login,
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        kind = ConnectAttempt if self.login is None else AnsweringAttempt
        return kind(self._attempts, protocolFactory).start()


def _loginFor(
    hop: str, credentials: Credentials | Login | None, reactor: IReactorTime | None
) -> Login | None:
    if isinstance(credentials, Credentials):
        return Login(credentials, hop=hop, reactor=reactor)
    if credentials is not None and not credentials.hop:
        credentials.hop = hop
    return credentials


def hopOf(endpoint: IStreamClientEndpoint) -> str:
    """Return where an endpoint leads: `host:port`, `unix:path`, or "" if that is unknown."""
    inner: Any = endpoint
    for _ in range(_DEEPEST):
        host, port = hostAndPortOf(inner)
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if isinstance(host, str) and isinstance(port, int):
            return hostPort(host, port)
        path = pathOf(inner)
        if path is not None:
            return f"unix:{path}"
        inner = innerOf(inner)
    return ""
