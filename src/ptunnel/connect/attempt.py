"""One attempt at a tunnel through a proxy that asks for no credentials, and the protocol of its
connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.error import ConnectionLost as TwistedConnectionLost
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamClientEndpoint
from twisted.python.failure import Failure

from ptunnel.connect.handshake import Challenged, Established, Handshake
from ptunnel.connect.request import ConnectRequest
from ptunnel.errors import TunnelError, cannotReach, noAnswer
from ptunnel.login.login import Login
from ptunnel.net.attempt import TALKING, Attempt, LastingSpeaker
from ptunnel.net.transports import isSocket, probe
from ptunnel.timing.deadlines import Sweep
from ptunnel.tls import tlsFailure

# How long the body of a refusal is waited for, in seconds. It comes with the head, as a rule.
BODY_WAIT = 1.0


@dataclass(frozen=True, slots=True)
class Hop:
    """What all attempts at a tunnel through a proxy to a target have in common.

    @ivar endpoint: leads to the proxy.
    @ivar name: what failures call the proxy.
    @ivar timeout: seconds for an attempt; None: no limit.
    @ivar login: answers the proxy's challenges; None: nobody does.
    @ivar address: the target's.
    """

    endpoint: IStreamClientEndpoint
    request: ConnectRequest
    name: str
    timeout: float | None
    sweep: Sweep
    address: IAddress
    login: Login | None


class ConnectAttempt(Attempt):
    """One attempt, with one connection and one request.

    @ivar request: the newest connection's.
    @ivar handshake: the same.
    """

    request: bytes
    handshake: Handshake
    connection: ProxyConnection | None = None
    _deadline: float | None = None
    _bodyDeadline: float | None = None

    def __init__(self, hop: Hop, inner: IProtocolFactory) -> None:
        super().__init__(inner, hop.address)
        self.hop = hop

    def begin(self) -> None:
        self.first()
        # Set only now: of a chain's equal deadlines the first hop's is then due first, and the
        # failure names the hop that is silent.
        hop = self.hop
        if hop.timeout is not None and not self.over:
            self._deadline = hop.sweep.clock.seconds() + hop.timeout
            hop.sweep.add(self)

    def first(self) -> None:
        """Dial for the first time."""
        hop = self.hop
        request = hop.request
        self.request = request.encode()
        self.handshake = Handshake(
            request.host,
            request.port,
            hop=hop.name,
            answerable=hop.login is not None,
            secrets=request.secrets,
            heard=None if self.trace is None else self.heard(request.secrets),
        )
        self.dial(hop.endpoint)

    def heard(self, secrets: Sequence[bytes]) -> Callable[[bytes], None] | None:
        """What shows the head of an answer in the trace; None where there is none."""
        trace = self.trace
        if trace is None:
            return None
        from ptunnel.connect.trace import showAnswer

        return lambda head: showAnswer(trace, head, secrets)

    def who(self) -> str:
        return f"the proxy {self.hop.name}" if self.hop.name else "the proxy"

    def speaker(self, address: IAddress | None) -> ProxyConnection:
        return ProxyConnection(self, self.address)

    def connected(self) -> None:
        """Send the request."""
        if self.trace is not None:
            from ptunnel.connect.trace import showRequest

            showRequest(self.trace, self.who(), self.request)
        transport: Any = cast(Any, self.connection).transport
        if self.hop.timeout is None:
            probe(transport)  # nothing else would notice a proxy that has gone
        transport.write(self.request)

    def feed(self, data: bytes) -> Established | Challenged | None:
        """Take what the newest connection received."""
        outcome = self.handshake.feed(data)
        if outcome is None and self.handshake.awaitsBody and self._bodyDeadline is None:
            self._hurry()
        return outcome

    def _hurry(self) -> None:
        """The status is known; what is still missing is a body that may never come."""
        sweep = self.hop.sweep
        now = sweep.clock.seconds()
        waits = [self.bodyWait()]
        if self._deadline is not None:
            # Half of what is left is for the connection that takes the place of this one.
            waits.append((self._deadline - now) / 2)
        limits = [wait for wait in waits if wait is not None]
        if limits:
            self._bodyDeadline = now + min(limits)
            sweep.add(self)

    def bodyWait(self) -> float | None:
        """@return: seconds for the body of an answer; None: no limit of its own."""
        return BODY_WAIT

    def bodyLate(self) -> None:
        """A body has not come in time."""
        self.expired()

    def check(self, now: float) -> None:
        """Look whether the time is over; called by the Sweep."""
        if self._deadline is not None and now >= self._deadline:
            self.expired()
        elif self._bodyDeadline is not None and now >= self._bodyDeadline:
            self.bodyLate()

    def ended(self) -> None:
        self.hop.sweep.discard(self)

    def expired(self) -> None:
        seconds = self.hop.timeout or 0.0
        if self.phase is TALKING:
            self.fail(self.handshake.expire(seconds))
        else:
            self.fail(noAnswer(self.hop.name, seconds))

    def notConnected(self, reason: Failure) -> None:
        if isinstance(reason.value, TunnelError):
            self.fail(reason)  # of a hop before this one
        else:
            self.fail(cannotReach(cast(BaseException, reason.value), self.hop.name))

    def lost(self, reason: Failure) -> None:
        """The newest connection has ended before there was a tunnel."""
        # Whoever has begun to answer was reached, even if TLS then breaks.
        if self.handshake.heads.begun or reason.check(ConnectionDone, TwistedConnectionLost):
            self.fail(self.handshake.end())
        elif reason.check("OpenSSL.SSL.Error"):
            # Since TLS 1.3 a server looks at our certificate when the handshake is done for us.
            self.fail(tlsFailure(cast(BaseException, reason.value), self.hop.name))
        else:
            self.fail(cannotReach(cast(BaseException, reason.value), self.hop.name))


class ProxyConnection(LastingSpeaker):
    """Speaks CONNECT."""

    attempt: ConnectAttempt | None

    def channel(self) -> bytes | None:
        """Return the channel binding of its TLS with the proxy; None without TLS."""
        from ptunnel.tls import connectionOf, endPointOf  # only a challenge is answered by it

        # A plain socket has none, and is not asked once it is closed.
        isPlain = self.isWithin or isSocket(self.transport)
        tls = None if isPlain else connectionOf(self.transport)
        return None if tls is None else endPointOf(tls)

    def heard(self, data: bytes) -> bytes | None:
        attempt = self.attempt
        assert attempt is not None
        outcome = attempt.feed(data)
        return outcome.leftover if isinstance(outcome, Established) else None

    def lost(self, reason: Failure) -> None:
        if self.attempt is not None:
            self.attempt.lost(reason)
