"""Which clients are served."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IAddress

from ptunnel.log import Log
from ptunnel.net.addresses import Network, clientKey, clientName, isWithin
from ptunnel.net.descriptors import SESSION, Descriptors
from ptunnel.session.clients import Counts, Rates
from ptunnel.session.episodes import REFUSED, Ceiling, Episode


class Total:
    """A limit of sessions for several tunnels together.

    @ivar used: how many there are.
    """

    def __init__(self, most: int, log: Log) -> None:
        self.used = 0
        self._log = log
        self._ceiling: Ceiling | None = None
        self.limit(most)

    def limit(self, most: int | None) -> None:
        """Change the limit. @param most: None: there is none any more."""
        self._ceiling = None if most is None else _total(most, self._log)

    def admits(self) -> bool:
        return self._ceiling is None or self._ceiling.admits(self.used)


class Admission:
    """Serves clients from some networks, as long as there is room for them and none takes too much.
    It says in the log why it does not: of room once, until a tenth of it is free; of single clients
    once in L{ptunnel.session.episodes.EPISODE} seconds.

    @ivar drained: whether nobody is served, as whoever steers the service wants it.
    @ivar counts: whether it must be told of each session's beginning and end.
    """

    def __init__(
        self,
        name: str,
        log: Log,
        allow: Iterable[str | Network],
        maxConnections: int | None,
        descriptors: Descriptors | None,
        now: Callable[[], float],
        maxPerClient: int | None = None,
        rateLimit: float | None = None,
        total: Total | None = None,
    ) -> None:
        """As for a TunnelFactory, whose errors it raises. @param now: returns monotonic seconds."""
        self.drained = False
        self._name = name
        self._log = log
        self._allow = _networks(allow)
        self._room = None if maxConnections is None else _room(maxConnections, name, log)
        self._descriptors = descriptors
        self._isShort = False
        self._now = now
        self._mostEach = maxPerClient
        self._counts = None if maxPerClient is None else Counts()
        self._rateLimit = rateLimit
        self._rates = None if rateLimit is None else Rates(rateLimit)
        self._total = total
        self.counts = maxPerClient is not None or total is not None
        self._strangers, self._crowds, self._hasty = (Episode(name, log, now) for _ in range(3))

    def admit(self, client: IAddress | None, served: Callable[[], int]) -> bool:
        """Return whether to serve a client, who has taken a token of its rate then.

        @param served: counts those who are served.
        """
        host = getattr(client, "host", None) if self._allow else None
        if host is not None and not isWithin(host, self._allow):
            name = clientName(client)
            self._strangers.say(f"{name} is not allowed", client=name, code=REFUSED)
            return False
        if (
            self.drained
            or (self._room is not None and not self._room.admits(served()))
            or (self._total is not None and not self._total.admits())
            or (self._descriptors is not None and not self._isAffordable(self._descriptors))
        ):
            return False
        if self._counts is None and self._rates is None:
            return True
        return self._isModest(client)

    def follow(self, former: Admission) -> None:
        """Go on with what a former one, whose sessions go on, knows of single clients."""
        if self._counts is not None and former._counts is not None:
            self._counts = former._counts
        if self._rates is not None and former._rateLimit == self._rateLimit:
            self._rates = former._rates

    def began(self, client: IAddress | None) -> None:
        """Count a session."""
        if self._total is not None:
            self._total.used += 1
        if self._counts is not None and (key := clientKey(client)) is not None:
            self._counts.began(key)

    def ended(self, client: IAddress | None) -> None:
        """Stop counting a session; once for each that began."""
        if self._total is not None:
            self._total.used -= 1
        if self._counts is not None and (key := clientKey(client)) is not None:
            self._counts.ended(key)

    def _isModest(self, client: IAddress | None) -> bool:
        key = clientKey(client)
        if key is None:
            return True
        name = clientName(client)
        if self._counts is not None and self._counts.of(key) >= (self._mostEach or 0):
            what = f"it has {self._mostEach} connections already (max-connections-per-client)"
            self._crowds.say(f"{name} is turned away: {what}", client=name, code=REFUSED)
            return False
        if self._rates is not None and not self._rates.take(key, self._now()):
            what = f"it opens more than {self._rateLimit:g} connections a second (rate-limit)"
            self._hasty.say(f"{name} is turned away: {what}", client=name, code=REFUSED)
            return False
        return True

    def _isAffordable(self, descriptors: Descriptors) -> bool:
        if descriptors.has(SESSION):
            if self._isShort and descriptors.has(SESSION, share=0.9):
                self._isShort = False
            return True
        if not self._isShort:
            self._isShort = True
            self._log.warning(
                self._name,
                f"all open files that the process may have, {descriptors.limit}, are in use or "
                "reserved; further clients are turned away until a session ends (RLIMIT_NOFILE: "
                "LimitNOFILE, ulimit -n)",
                code="RR",
            )
        return False


def _total(most: int, log: Log) -> Ceiling:
    text = (
        f"all {most} connections of all tunnels together are in use; further clients are "
        "turned away until one ends (max-connections in [ptunnel])"
    )
    return Ceiling(most, "", log, text)


def _room(most: int, name: str, log: Log) -> Ceiling:
    text = (
        f"all {most} connections are in use; further clients are turned away until one ends "
        "(max-connections)"
    )
    return Ceiling(most, name, log, text)


def _networks(allow: Iterable[str | Network]) -> tuple[Network, ...]:
    """The networks of `allow`, or TypeError or ValueError for what is none."""
    if isinstance(allow, str) or not isinstance(allow, Iterable):
        raise TypeError(f"allow takes a list of networks, such as ['10.0.0.0/8'], not {allow!r}")
    return tuple(map(_network, allow))


def _network(item: str | Network) -> Network:
    if isinstance(item, Network):
        return item
    if not isinstance(item, str):
        raise TypeError(f"allow takes networks and texts such as '10.0.0.0/8', not {item!r}")
    if "%" in item:  # a zone, which the addresses of clients come with or without
        raise ValueError(f"allow: {item!r} has a zone")
    try:
        return ipaddress.ip_network(item)
    except ValueError as e:
        raise ValueError(f"allow: {e}") from None
