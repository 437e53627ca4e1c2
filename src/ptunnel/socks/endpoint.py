"""One hop: a connection to a target through the SOCKS5 proxy behind any other endpoint."""

from __future__ import annotations

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
from ptunnel.login.login import Login
from ptunnel.socks import wire
from ptunnel.socks.attempt import SocksAttempt
from ptunnel.socks.resolving import Hop, Resolve
from ptunnel.timing.deadlines import Sweep


@implementer(IStreamClientEndpoint)
class SocksEndpoint:
    """A connection through a SOCKS5 proxy (RFC 1928), with user name and password where it asks
    for them (RFC 1929).

    `connect` gives a Deferred that fires with the inner protocol when the proxy has granted the
    request and the protocol is connected; bytes that came behind the reply follow at once. It fails
    with

     - L{ptunnel.errors.Unreachable} when there is no connection to the proxy,
     - L{ptunnel.errors.ProxyRefused} when it refuses the request, and
       L{ptunnel.errors.CredentialsRefused} when it does not let us in, or did not shortly before,
     - L{ptunnel.errors.TargetUnreachable} when it cannot reach the target, or the target's name
       does not resolve here, where it has to,
     - L{ptunnel.errors.CredentialsUnavailable} when the credentials could not be read or sent,
     - L{ptunnel.errors.ProxyFailed} when its answer is missing or not SOCKS5,
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
        resolve: Resolve | None = None,
        timeout: float | None = 30.0,
        hop: str = "",
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param proxyEndpoint: how the proxy is reached: TCP, TLS, or through another proxy.
        @param host: the target's name (ASCII) or address literal, without brackets; with its port.
        @param credentials: for this proxy, sent when it asks; a Login, to share with others.
        @param resolve: looks a name up, whose address goes to the proxy; None: the name does.
        @param timeout: seconds for the whole attempt, with DNS, TCP and TLS; None: no limit.
        @param hop: the proxy's name in failures, as a rule its `host:port`.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a target that cannot be asked for, such as a name of 256 bytes.
        """
        wire.address(host, port)
        if isinstance(credentials, Credentials):
            credentials = Login(credentials, hop=hop, reactor=reactor)
        self.host, self.port, self.hop = host, port, hop
        self.login = credentials
        self._attempts = Hop(
            endpoint=proxyEndpoint,
            host=host,
            port=port,
            name=hop,
            timeout=timeout,
            sweep=Sweep.fine(reactor, timeout),
            address=HostnameAddress(host.encode("ascii"), port),
            login=credentials,
            resolve=None if wire.isAddress(host) else resolve,
        )

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        return SocksAttempt(self._attempts, protocolFactory).start()
