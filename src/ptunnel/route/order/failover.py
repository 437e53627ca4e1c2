"""Several ways to one target, tried in order: an endpoint over endpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from typing import Any, Protocol

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.causes import DRAINED, PROXY_OVERLOADED
from ptunnel.errors import (
    CredentialsRefused,
    LocalFailure,
    ProxyRefused,
    RouteFailed,
    TargetUnreachable,
    TunnelError,
    Unreachable,
    cannotReach,
    reasonOf,
)
from ptunnel.ledger.counters import WayCounters
from ptunnel.log import Log, traceOf
from ptunnel.net.arrived import Arrived
from ptunnel.route.order.health import Health
from ptunnel.timing.deadlines import clockOf


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One way to a target. Each is equal to itself only.

    @ivar name: its name in logs: that of the proxy.
    @ivar endpoint: leads to the target.
    @ivar direct: whether it goes without a proxy.
    @ivar health: the health of the proxy, shared by all ways through it.
    @ivar counters: what has happened on such ways, of all tunnels.
    @ivar proxies: the names of the proxies on it.
    """

    name: str
    endpoint: IStreamClientEndpoint
    direct: bool = False
    health: Health | None = None
    counters: WayCounters = field(default_factory=WayCounters)
    proxies: Sequence[str] = ()


@implementer(IStreamClientEndpoint)
class Failing:
    """In place of a way that is not known."""

    def __init__(self, error: TunnelError) -> None:
        self._error = error

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return fail(self._error)


class Turn(Protocol):
    """One connection by a route that balances: which of its proxies comes first."""

    def rank(self, way: Way) -> Any:
        """Return a sort key of a way: the one with the least is tried first."""

    def took(self, way: Way) -> None:
        """This way is tried now."""


# After this many tunnels in a row that one proxy could not make and a later one could, the later
# one is tried first, for REST seconds.
OUTDONE = 3
REST = 60.0


@implementer(IStreamClientEndpoint)
class Route:
    """Tries its ways in order, but skips proxies that could not be reached recently while there is
    another way.

    A direct way is tried only if no proxy before it could be reached, never after one has answered.
    No further way is tried after a shortage or a prohibition on this machine. A proxy that reports
    repeatedly that it cannot reach the target, or is overloaded, while another one can, is tried
    after that one for a while.

    `connect` fails with the TunnelError of the only way, or with RouteFailed, which holds those of
    all; and at once with any other error, such as one of the factory. Cancelling it ends the
    attempt.
    """

    def __init__(
        self,
        name: str,
        target: str,
        ways: Sequence[Way],
        log: Log | None = None,
        clock: IReactorTime | None = None,
        drained: Set[str] = frozenset(),
    ) -> None:
        """
        @param name: the name of the tunnel in logs.
        @param target: `host:port`, for failures.
        @param ways: at least one.
        @param drained: the names of proxies that no new connection goes through. It may change.
        @param clock: None: the reactor.
        """
        self.name = name
        self.target = target
        self._ways = tuple(ways)
        self._log = log or Log()
        self._clock = clock
        self._drained = drained
        self._fallen = False
        self._outdone: dict[Way, int] = {}  # how often in a row
        self._resting: dict[Way, float] = {}  # until when

    def connect(
        self, protocolFactory: IProtocolFactory, turn: Turn | None = None
    ) -> Deferred[IProtocol]:
        """@param turn: None: the ways stand in their order."""
        ways: Sequence[Way] = self._ways
        if self._drained:
            ways = [way for way in ways if self._drained.isdisjoint(way.proxies)]
            if not ways:
                return fail(self._noneLeft())
        passed = self._passed(ways) if len(ways) > 1 else frozenset()
        for way in passed:
            if way.health is not None:
                way.health.probeIfDue()
        if turn is not None or self._resting:
            ways = self._ordered(ways, passed, turn)
        connecting = _Search(self, ways, passed, protocolFactory, turn).next()
        return fail(connecting) if isinstance(connecting, TunnelError) else connecting

    def _noneLeft(self) -> TunnelError:
        names = ", ".join(way.name for way in self._ways)
        return LocalFailure(
            f"no way to {self.target} is open: {names} {'is' if len(self._ways) == 1 else 'are'} "
            "drained",
            cause=DRAINED,
            hint=DRAINED.hint,
        )

    def _passed(self, ways: Sequence[Way]) -> Set[Way]:
        """Return the ways that are passed over now: none where no way is well."""
        ill = {way for way in ways if way.health is not None and way.health.trouble is not None}
        return ill if len(ill) < len(ways) else frozenset()

    def _ordered(self, ways: Sequence[Way], passed: Set[Way], turn: Turn | None) -> Sequence[Way]:
        """Return the ways, with resting proxies after the others.

        None moves past a direct way, which may be tried only after those before it.
        """
        now = self.now()
        resting = {way for way, until in self._resting.items() if now < until}

        def place(way: Way) -> Any:
            return way in passed, way in resting, turn.rank(way) if turn is not None else 0

        key = resting.__contains__ if turn is None else place
        runs = groupby(ways, lambda way: way.direct)
        return [way for _, run in runs for way in sorted(run, key=key)]

    def connected(self, way: Way, failures: Sequence[tuple[Way, TunnelError]]) -> None:
        """Note that a way led to the target, after these failures of others."""
        if self._outdone:
            self._serves(way)
        for other, error in failures:
            if _isOutdone(error):
                self._couldNot(other, error, way)
        if way.direct and failures and not self._fallen:
            self._fallen = True
            why = "; ".join(str(error) for _, error in failures)
            self._log.warning(self.name, f"connecting directly from now on: {why}")
        elif self._fallen and not way.direct:
            self._fallen = False
            self._log.notice(self.name, f"no longer connecting directly: {way.name} is back")

    def rest(self, way: Way) -> None:
        """Try a way after the others for a while."""
        self._resting[way] = self.now() + REST

    @cached_property
    def now(self) -> Callable[[], float]:
        """Returns monotonic seconds."""
        return clockOf(self._clock).seconds

    def _serves(self, way: Way) -> None:
        self._outdone.pop(way, None)
        if way in self._resting:
            del self._resting[way]
            self._log.notice(self.name, f"{way.name} reaches the target again")

    def _couldNot(self, way: Way, error: TunnelError, better: Way) -> None:
        self._outdone[way] = count = self._outdone.get(way, 0) + 1
        if count >= OUTDONE:
            if way not in self._resting:
                what = f"{error.message}; {better.name} can, and is asked first for a while"
                self._log.warning(self.name, what)
            self.rest(way)


def _isOutdone(error: TunnelError) -> bool:
    """Return whether another proxy may succeed where this one failed."""
    return isinstance(error, TargetUnreachable) or error.cause is PROXY_OVERLOADED


def _isRefusal(error: TunnelError) -> bool:
    """Return whether a proxy has refused, and is able to do what it was asked for."""
    return isinstance(error, ProxyRefused) and not _isOutdone(error)


class _Search:
    """One connection that tries the ways."""

    __slots__ = ("_factory", "_failures", "_left", "_passed", "_route", "_since", "_trace", "_turn")

    def __init__(
        self,
        route: Route,
        ways: Sequence[Way],
        passed: Set[Way],
        factory: IProtocolFactory,
        turn: Turn | None,
    ) -> None:
        self._route = route
        self._left = list(ways)
        self._passed = passed
        self._factory = factory
        self._trace = traceOf(factory)
        self._failures: list[tuple[Way, TunnelError]] = []
        self._turn = turn

    def next(self) -> Deferred[IProtocol] | TunnelError:
        """Try the next way. @return: its result, or the failure of all when none is left."""
        while self._left:
            way = self._left.pop(0)
            if way in self._passed and way.health is not None and way.health.trouble is not None:
                self._failures.append((way, way.health.trouble))
                if self._trace is not None:
                    self._trace(f"way {way.name}: passed over; {way.health.trouble}")
            elif not way.direct or all(isinstance(f, Unreachable) for _, f in self._failures):
                if self._trace is not None:
                    self._trace(f"way {way.name}: tried")
                if self._turn is not None:
                    self._turn.took(way)
                self._since = self._route.now()
                try:
                    connecting = way.endpoint.connect(self._factory)
                except Exception:
                    connecting = fail()
                connecting.addCallbacks(
                    self._connected, self._failed, callbackArgs=(way,), errbackArgs=(way,)
                )
                return connecting
            elif self._trace is not None:
                self._trace(f"way {way.name}: not tried, as a proxy before it has answered")
        return self._together()

    def _connected(self, protocol: IProtocol, way: Way) -> IProtocol:
        if self._trace is not None:
            self._trace(f"way {way.name}: taken")
        if isinstance(protocol, Arrived):
            protocol.way = way.name
        way.counters.reached(self._route.now() - self._since)
        if way.health is not None:
            way.health.note(None)
        self._route.connected(way, self._failures)
        return protocol

    def _failed(self, reason: Failure, way: Way) -> Failure | Deferred[IProtocol]:
        error = reason.value
        if self._trace is not None:
            self._trace(f"way {way.name}: left; {reasonOf(error)}")
        if not isinstance(error, TunnelError):
            if not isinstance(error, (ConnectError, OSError)):
                return reason
            hop = self._route.target if way.direct else way.name
            error = cannotReach(error, hop, target=way.direct)
        self._failures.append((way, error))
        cause = None if error.cause is None else error.cause.id
        isReached = False if isinstance(error, Unreachable) else error.reached or None
        # What a direct way does not reach is one target of many.
        way.counters.failed(cause, str(error), isReached=None if way.direct else isReached)
        if way.health is not None:
            # A direct way has a log line of its own.
            way.health.note(error, quiet=all(later.direct for later in self._left))
        if isinstance(error, LocalFailure):
            return Failure(self._together())
        if self._turn is not None and _isRefusal(error):
            if isinstance(error, CredentialsRefused):
                self._route.rest(way)  # that is its own trouble, and not the target's
            return Failure(self._together())
        outcome = self.next()
        return Failure(outcome) if isinstance(outcome, TunnelError) else outcome

    def _together(self) -> TunnelError:
        failures = [error for _, error in self._failures]
        return failures[0] if len(failures) == 1 else RouteFailed(failures)
