"""The beginning of an attempt through a SOCKS proxy: its deadline, and the look-up of the target's
name where the proxy gets an address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.errors import (
    TargetUnreachable,
    TunnelError,
    Unreachable,
    cannotReach,
    noAnswer,
)
from ptunnel.login.login import Login
from ptunnel.net.addresses import hostPort
from ptunnel.net.attempt import RESOLVING, Attempt
from ptunnel.net.transports import probe
from ptunnel.timing.deadlines import Sweep

_LOOKED_UP_HERE = "socks5:// looks it up on this machine, socks5h:// lets the proxy do so"


Resolve = Callable[[str], Deferred[tuple[str, ...]]]
"""Looks a name up, and fires with its addresses, the best first."""


@dataclass(frozen=True, slots=True)
class Hop:
    """What all attempts at a tunnel through a proxy to a target have in common.

    @ivar endpoint: leads to the proxy.
    @ivar name: what failures call the proxy.
    @ivar timeout: seconds for an attempt; None: no limit.
    @ivar address: the target's.
    @ivar login: has the credentials; None: there are none.
    @ivar resolve: looks the target's name up; None: the proxy does, or it is an address.
    """

    endpoint: IStreamClientEndpoint
    host: str
    port: int
    name: str
    timeout: float | None
    sweep: Sweep
    address: IAddress
    login: Login | None
    resolve: Resolve | None

    @property
    def target(self) -> str:
        return hostPort(self.host, self.port)


class ResolvingAttempt(Attempt):
    """An attempt whose connections wait for the addresses of the target. A subclass implements
    `again` and `talk`.

    @ivar hosts: the target as the proxy is asked for it, in order; empty: not known yet.
    """

    hosts: Sequence[str] = ()
    _deadline: float | None = None

    def __init__(self, hop: Hop, inner: IProtocolFactory) -> None:
        super().__init__(inner, hop.address)
        self.hop = hop

    def begin(self) -> None:
        hop = self.hop
        if hop.login is not None:
            try:
                hop.login.checkBackOff(hop.target)
            except TunnelError as e:
                self.fail(e)
                return
        if hop.resolve is None:
            self.hosts = (hop.host,)
        self.again()
        # Set only now: of a chain's equal deadlines the first hop's is then due first, and the
        # failure names the hop that is silent.
        if hop.timeout is not None and not self.over:
            self._deadline = hop.sweep.clock.seconds() + hop.timeout
            hop.sweep.add(self)

    def again(self) -> None:
        """Dial, for the first time or once more."""
        raise NotImplementedError

    def talk(self) -> None:
        """Begin to talk on the newest connection."""
        raise NotImplementedError

    @property
    def transport(self) -> Any:
        """The newest connection's."""
        return cast(Any, self.connection).transport

    def connected(self) -> None:
        """Talk, once the target's address is known."""
        hop = self.hop
        if hop.timeout is None:
            probe(self.transport)  # nothing else would notice a proxy that has gone
        if self.hosts or hop.resolve is None:
            self.talk()
        else:
            looking = hop.resolve(hop.host)
            self.enter(RESOLVING, looking)
            looking.addCallbacks(self._resolved, self._notResolved)
            looking.addErrback(self.fail)

    def _resolved(self, addresses: Sequence[str]) -> None:
        """Take the best address of each family: the proxy may have one of them only."""
        if self.over:
            return
        best: dict[bool, str] = {}
        for address in addresses:
            if "%" not in address:  # a zone means nothing to the proxy
                best.setdefault(":" in address, address)
        if not best:
            self._notFound("no address that a proxy could be given")
            return
        self.hosts = tuple(best.values())
        if self.trace is not None:
            self.trace(f"DNS: {self.hop.host} is {', '.join(self.hosts)}")
        if self.connection is None:
            self.again()
        else:
            self.talk()

    def _notResolved(self, reason: Failure) -> None:
        error = cast(BaseException, reason.value)
        known = cannotReach(error, self.hop.target, target=True)
        if isinstance(known, Unreachable):
            self._notFound("the name does not resolve here")
        else:
            self.fail(known)  # this machine's own shortage

    def _notFound(self, why: str) -> None:
        self.fail(self._unresolved(f"cannot reach {self.hop.target}: {why}"))

    def _unresolved(self, message: str) -> TargetUnreachable:
        return TargetUnreachable(
            message,
            status=0,
            hop=self.hop.name,
            hint=_LOOKED_UP_HERE,
            cause=causes.TARGET_NAME,
        )

    def check(self, now: float) -> None:
        """Look whether the time is over; called by the Sweep."""
        if self._deadline is not None and now >= self._deadline:
            self.expired()

    def ended(self) -> None:
        self.hop.sweep.discard(self)

    def expired(self) -> None:
        self.fail(self.late(self.hop.timeout or 0.0))

    def late(self, seconds: float) -> TunnelError:
        """Return the failure for what is still pending after so many seconds."""
        if self.phase is RESOLVING:
            what = f"cannot reach {self.hop.target}: the name was not resolved here within"
            return self._unresolved(f"{what} {seconds:g} s")
        return noAnswer(self.hop.name, seconds)

    def notConnected(self, reason: Failure) -> None:
        if isinstance(reason.value, TunnelError):
            self.fail(reason)  # of a hop before this one
        else:
            self.fail(cannotReach(cast(BaseException, reason.value), self.hop.name))
