"""The ways of requests for http:// URLs: to the last HTTP proxy of each way, which is asked in
absolute form, or where a way has none at its end, to the origin itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.config import Proxy, Tunnel
from ptunnel.errors import TunnelError, cannotReach, noAnswer
from ptunnel.login.login import Login
from ptunnel.net.attempt import Attempt, LastingSpeaker
from ptunnel.route.hops import hopName


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """One way, and how a request goes on it.

    @ivar way: its name in logs.
    @ivar endpoint: leads to whoever is asked.
    @ivar hop: what failures call that one: `host:port`.
    @ivar isProxy: whether it is an HTTP proxy, and is asked in absolute form. Else it is the
        origin of one target.
    @ivar isSecure: whether it is a proxy with TLS.
    @ivar login: answers the proxy's challenges; None: nobody does.
    @ivar headers: further fields for the proxy.
    """

    way: str
    endpoint: IStreamClientEndpoint
    hop: str
    isProxy: bool
    isSecure: bool = False
    login: Login | None = None
    headers: Sequence[tuple[str, str]] = ()

    def leadsAs(self, other: Reach) -> bool:
        """Return whether a connection made on the other one may carry a request for this one."""
        mine = self.way, self.hop, self.isProxy, self.login
        return mine == (other.way, other.hop, other.isProxy, other.login)


def reachOf(
    endpoint: IStreamClientEndpoint,
    way: str,
    tunnel: Tunnel,
    proxy: Proxy | None = None,
    login: Login | None = None,
    reactor: Any = None,
) -> Reach:
    """Return the reach of a way.

    @param endpoint: leads to the proxy; without one, to the target.
    @param proxy: the HTTP proxy at its end; None: there is none.
    @param login: the proxy's.
    """
    if proxy is None:
        return Reach(way, endpoint, tunnel.target, isProxy=False)
    hop = hopName(proxy)
    return Reach(
        way,
        ReachEndpoint(endpoint, hop, tunnel.connectTimeout, reactor),
        hop,
        isProxy=True,
        isSecure=proxy.tls is not None,
        login=login,
        headers=proxy.headers,
    )


class Forwards:
    """The ways for one target.

    `connect` is that of a L{Route}, whose protocol's `way` is the name of one of these.
    """

    def __init__(self, route: IStreamClientEndpoint, reaches: Mapping[str, Reach]) -> None:
        self._route = route
        self._reaches = reaches

    def forClient(self, client: IAddress | None) -> Forwards:
        """Return those of one client, for one connection; `left` is to be called behind it."""
        lead = getattr(self._route, "forClient", None)
        return self if lead is None else Forwards(lead(client, None), self._reaches)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the first of them that can be reached. Cancelling ends the attempt."""
        return self._route.connect(protocolFactory)

    def left(self) -> None:
        """Note that the connection of `connect` is over, or was not made. Idempotent."""
        leave = getattr(self._route, "left", None)
        if leave is not None:
            leave()

    def reach(self, way: str | None) -> Reach:
        """Return the way of this name; None: of the only one."""
        return next(iter(self._reaches.values())) if way is None else self._reaches[way]

    def serves(self, kept: Reach) -> bool:
        """Return whether a connection that was made before may carry a request for this target."""
        mine = self._reaches.get(kept.way)
        return mine is not None and mine.leadsAs(kept)


class AskedForwards:
    """The ways for one target that PAC files say, for each connection anew."""

    def __init__(self, ask: Callable[[], Deferred[Any]], build: Callable[[Any], Forwards]) -> None:
        """
        @param ask: fires with the ways in order.
        @param build: makes their Forwards.
        """
        self._ask = ask
        self._build = build

    def forClient(self, client: IAddress | None) -> Deferred[Forwards]:
        """@return: fires with those of one client. Cancelling it ends the asking."""
        return self._ask().addCallback(lambda steps: self._build(steps).forClient(client))


@implementer(IStreamClientEndpoint)
class ReachEndpoint:
    """Connects to a proxy by another endpoint, within some time.

    `connect` fails as that one, with L{Unreachable} for the errors of others.
    """

    def __init__(
        self, endpoint: IStreamClientEndpoint, hop: str, timeout: float | None, reactor: Any
    ) -> None:
        """
        @param hop: what failures call the proxy.
        @param timeout: seconds; None: no limit.
        """
        self.endpoint = endpoint
        self.hop = hop
        self.timeout = timeout
        self.reactor = reactor

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return _Attempt(self, protocolFactory).start()


class _Attempt(Attempt):
    def __init__(self, reach: ReachEndpoint, inner: IProtocolFactory) -> None:
        super().__init__(inner, HostnameAddress(reach.hop.encode("ascii", "replace"), 0))
        self._reach = reach

    def begin(self) -> None:
        self.limit(self._reach.timeout, self._reach.reactor)
        self.dial(self._reach.endpoint)

    def speaker(self, address: IAddress | None) -> _Silent:
        return _Silent(self, address)

    def connected(self) -> None:
        assert self.connection is not None
        self.connection.handOver()

    def notConnected(self, reason: Failure) -> None:
        error = cast(BaseException, reason.value)
        if isinstance(error, TunnelError):
            self.fail(reason)  # of a hop before this one
        else:
            self.fail(cannotReach(error, self._reach.hop))

    def expired(self) -> None:
        self.fail(noAnswer(self._reach.hop, self._reach.timeout or 0.0))


class _Silent(LastingSpeaker):
    """Says nothing: who takes the connection over speaks."""

    def heard(self, data: bytes) -> bytes | None:
        return None

    def lost(self, reason: Failure) -> None:
        assert self.attempt is not None
        self.attempt.notConnected(reason)
