"""What is shown of a session: in lines of the log, and to those who look at all sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from ptunnel.log import Trace
from ptunnel.net.addresses import clientName
from ptunnel.net.phases import Phased
from ptunnel.relay.splice import Splice
from ptunnel.session.account import Account, ofLeaving


class Shown(Phased):
    """The part of a session that others may read.

    @ivar tunnel: its TunnelFactory.
    @ivar number: unlike that of any other session.
    @ivar accepted: when its client came, in seconds of the tunnel's clock.
    @ivar way: the proxy taken, or "direct"; None while it is not known.
    @ivar target: what its client has asked for, at a door; else "".
    @ivar splice: once it has a connection to the target.
    """

    tunnel: Any
    client: IAddress | None
    number: int
    accepted: float
    way: str | None
    splice: Splice | None
    _trace: Trace | None

    target = ""
    endedBy = "C"  # the first character of its termination code, if it ends without a tunnel

    def begin(self) -> Trace | None:
        """Return its trace, from now on; None where it is not shown."""
        trace: Trace | None = self.tunnel.log.trace(self.tunnel.name, self.number)
        self._trace = trace
        if trace is not None:
            trace(f"{clientName(self.client)} is accepted")
        return trace

    @property
    def moved(self) -> tuple[int, int]:
        """How many bytes went to the target, and came from there, so far."""
        legs = () if self.splice is None else self.splice.legs
        return (legs[0].received, legs[1].received) if legs else (0, 0)

    def say(self, log: Callable[..., None], account: Account) -> None:
        """Write a line about it. @param log: a method of a Log."""
        who = self.who() | {"way": self.way}
        log(self.tunnel.name, f"{self.subject()} {account.text}", **who | account.fields)

    def who(self) -> dict[str, Any]:
        """Return the fields of every line about it."""
        return {"session": self.number, "client": clientName(self.client)}

    def left(self, isConnecting: bool) -> None:
        """Count it as one whose client is gone before it has a tunnel, and write its line.

        @param isConnecting: as in L{ofLeaving}.
        """
        tunnel = self.tunnel
        tunnel.counters.left += 1
        if tunnel.log.sessions:
            whole = tunnel.clock.seconds() - self.accepted
            self.say(tunnel.log.info, ofLeaving(whole, self.endedBy, isConnecting))

    def bug(self, reason: Failure) -> None:
        """Write the line of an exception that nobody expects."""
        self.tunnel.log.bug(self.tunnel.name, reason, **self.who())

    def subject(self) -> str:
        """Return the client as log lines name it: behind the session's number if it is traced."""
        client = clientName(self.client)
        return client if self._trace is None else f"#{self.number} {client}"
