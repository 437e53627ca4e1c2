"""One client of a door, whose requests for http:// URLs may go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from twisted.internet.error import ConnectError
from twisted.python.failure import Failure

from ptunnel import causes
from ptunnel.door.session import DoorSession
from ptunnel.errors import NotServed
from ptunnel.ledger.counters import UNKNOWN
from ptunnel.net.asked import Rejected
from ptunnel.relay.outcome import Ended
from ptunnel.session.account import ofRefusal
from ptunnel.session.session import FORWARDING

if TYPE_CHECKING:
    from ptunnel.door.forward.forwarder import Forwarder


class ForwardedSession(DoorSession):
    """A DoorSession that asks for tunnels, or from its first request on for http:// URLs."""

    _forwarder: Forwarder | None = None
    _refusal: str | None = None
    _count = 0

    def dataReceived(self, data: bytes) -> None:
        self._count += len(data)
        super().dataReceived(data)

    def dial(self) -> None:
        first = getattr(self._asking, "forward", None)
        if first is None:
            super().dial()
            return
        door: Any = self.tunnel
        if door.forwards is None:
            what = "it asks for an http:// URL, and this door serves tunnels only"
            self._failed(Failure(NotServed(what, cause=causes.CLIENT_PROTOCOL)))
            return
        from ptunnel.door.forwarding import forwarderFor  # most clients ask for tunnels

        self._asking = None
        door.sweep.discard(self)
        self.enter(FORWARDING)
        forwarder = forwarderFor(door, self, self.transport, first.login, self._trace)
        self.splice = self._forwarder = cast(Any, forwarder)
        forwarder.start(first, self._count)
        if door.isRetired:
            forwarder.retire()

    def takes(self, way: str) -> None:
        """Note the way of a request that goes on."""
        if self.way is None:
            self._connecting = self.tunnel.clock.seconds() - self.accepted
            self.tunnel.counters.connectTimes.add(self._connecting)
        self.way = way

    def refuses(self, error: BaseException) -> None:
        """Write the line of a request that is not answered by others."""
        if isinstance(error, Rejected):
            error = NotServed(f"it sent {error}", hint=error.cause.hint, cause=error.cause)
        elif not isinstance(error, (ConnectError, OSError)):
            self._refusal = UNKNOWN
            self.bug(Failure(cast(Exception, error)))
            return
        account = ofRefusal(error, self.tunnel.clock.seconds() - self.accepted)
        self._refusal = account.fields["cause"] or UNKNOWN
        self.say(self.tunnel.log.warning, account)

    def forwarded(self, ended: Ended) -> None:
        """Note the end of a client whose requests went on."""
        self._forwarder = self.splice = None  # leave no cycle for the garbage collector
        if self.way is not None:
            self._account(ended)
            return
        if self._refusal is None:
            self.left(isConnecting=True)
        else:
            self.tunnel.counters.failed(self._refusal)
        self._end()

    def retire(self) -> None:
        """End it when no request is under way, if its requests go on."""
        if self._forwarder is not None:
            self._forwarder.retire()
