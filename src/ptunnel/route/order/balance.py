"""Several proxies that share the connections of a tunnel (`balance`), in place of the first that is
well.

A Balance ranks them for each connection; a Passage is one client's connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from ptunnel.net.addresses import clientKey
from ptunnel.route.order.failover import Route, Turn, Way

Client = str | bytes | None
"""What L{clientKey} returns."""


class Load:
    """How many connections are open through each proxy, of all tunnels that balance. One counts as
    soon as its proxy is chosen, so that those of a burst see each other.
    """

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self._open.get(name, 0)

    def began(self, name: str) -> None:
        self._open[name] = self.of(name) + 1

    def ended(self, name: str) -> None:
        left = self._open.pop(name) - 1
        if left:  # names may come from PAC files, and are not to gather here
            self._open[name] = left


class Balance:
    """Ranks proxies by their names, for one tunnel."""

    def rank(self, name: str, client: Client) -> Any:
        """Return a sort key: the proxy with the least is tried first."""
        raise NotImplementedError

    def took(self, name: str) -> None:
        """This proxy is tried now."""


class RoundRobin(Balance):
    """Each in turn: first the one that was tried longest ago."""

    def __init__(self, names: Sequence[str], begin: int = 0) -> None:
        """@param begin: which is the first; counts past the last go on at the beginning."""
        count = len(names)
        self._tried = {name: (at - begin) % count - count for at, name in enumerate(names)}
        self._latest = 0

    def rank(self, name: str, client: Client) -> Any:
        return self._tried[name]

    def took(self, name: str) -> None:
        self._latest += 1
        self._tried[name] = self._latest


class Least(RoundRobin):
    """First the one with the fewest open connections; of equals, each in turn."""

    def __init__(self, load: Load, names: Sequence[str], begin: int = 0) -> None:
        super().__init__(names, begin)
        self._load = load

    def rank(self, name: str, client: Client) -> Any:
        return self._load.of(name), super().rank(name, client)


class Hashed(Balance):
    """For each client another order of its own, which is the same everywhere and always: that of
    hashes over the client with each proxy. A proxy that is lost moves its own clients only
    (rendezvous hashing). Clients without an address have the proxies as they stand.
    """

    def rank(self, name: str, client: Client) -> Any:
        if client is None:
            return b""
        key = client if isinstance(client, bytes) else client.encode("ascii")
        return blake2b(name.encode("utf-8", "surrogatepass") + b"\0" + key, digest_size=8).digest()


class Balancing:
    """Makes the routes of the tunnels that balance."""

    def __init__(self, begin: int = 0) -> None:
        """@param begin: which proxy is the first where they take turns."""
        self._begin = begin
        self._load = Load()
        # Of a tunnel with many targets the routes take turns together.
        self._balances: WeakValueDictionary[tuple[str, ...], Balance] = WeakValueDictionary()

    def route(
        self, policy: str, tunnel: str, target: str, ways: Sequence[Way], *more: Any
    ) -> Route:
        """
        @param policy: "least", "round-robin" or "hash".
        @param tunnel: its name; this and the rest are the arguments of a Route.
        """
        about = tunnel, target, ways, *more
        names = [way.name for way in ways if not way.direct]
        if len(names) < 2:
            return Route(*about)
        key = policy, tunnel, *names
        balance = self._balances.get(key)
        if balance is None:
            balance = self._balances[key] = self._balance(policy, names)
        return BalancedRoute(balance, self._load, *about)

    def _balance(self, policy: str, names: Sequence[str]) -> Balance:
        if policy == "hash":
            return Hashed()
        if policy == "least":
            return Least(self._load, names, self._begin)
        return RoundRobin(names, self._begin)


class BalancedRoute(Route):
    """A Route whose proxies share the connections. Proxies that are ill, and then those that rest,
    come after the others. A proxy's refusal is the answer: no other one is asked.
    """

    wantsHere = False

    def __init__(self, balance: Balance, load: Load, *route: Any) -> None:
        """@param route: the arguments of a Route."""
        super().__init__(*route)
        self.balance = balance
        self.load = load

    def connect(
        self, protocolFactory: IProtocolFactory, turn: Turn | None = None
    ) -> Deferred[IProtocol]:
        """@param turn: None: the connection is nobody's, and counts until it is made."""
        if turn is not None:
            return super().connect(protocolFactory, turn)
        passage = self.forClient(None, None)

        def made(result: Any) -> Any:
            passage.left()
            return result

        return passage.connect(protocolFactory).addBoth(made)

    def forClient(self, client: Any, here: Any) -> Passage:
        """Return the endpoint for one client. @param client: its address. @param here: unused."""
        return Passage(self, clientKey(client))


@implementer(IStreamClientEndpoint)
class Passage:
    """One client's endpoint, to be connected once: the turn of a BalancedRoute."""

    __slots__ = ("_client", "_isOver", "_name", "_route")

    def __init__(self, route: BalancedRoute, client: Client) -> None:
        self._route = route
        self._client = client
        self._name: str | None = None  # of the proxy where it counts
        self._isOver = False

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return self._route.connect(protocolFactory, self)

    def rank(self, way: Way) -> Any:
        return 0 if way.direct else self._route.balance.rank(way.name, self._client)

    def took(self, way: Way) -> None:
        self._uncount()
        if way.direct:
            return
        self._route.balance.took(way.name)
        if not self._isOver:
            self._name = way.name
            self._route.load.began(way.name)

    def left(self) -> None:
        """The client's session is over, or gets no connection. Idempotent."""
        self._isOver = True
        self._uncount()

    def _uncount(self) -> None:
        name, self._name = self._name, None
        if name is not None:
            self._route.load.ended(name)
