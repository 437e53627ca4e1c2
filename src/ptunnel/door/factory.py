"""One door: the factory to listen with."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.door.forwarded import ForwardedSession
from ptunnel.door.targets import Targets, targetsOf
from ptunnel.net.asked import Login
from ptunnel.route.forwards import AskedForwards, Forwards
from ptunnel.session.tunnel import TunnelFactory

# Of how many targets the ways are kept, with what was learnt about them.
KEPT = 512
# Seconds for a client to say what it wants. Programs do at once; browsers connect in advance.
ASK_WAIT = 60.0
# The same once the door drains.
LAST_WAIT = 1.0


class DoorFactory(TunnelFactory):
    """Listen with it, and each client is carried to the target that it asks for by SOCKS or HTTP.

    @ivar lead: returns what leads to a target.
    @ivar askWait: seconds for a client to say its target.
    @ivar isRetired: whether each client is served one request more at most.
    """

    def __init__(
        self,
        lead: Callable[[str, int], IStreamClientEndpoint],
        *,
        protocol: Literal["auto", "socks", "http"] = "auto",
        targets: Targets | str | None = None,
        judge: Callable[[Login], Deferred[bool]] | None = None,
        forwards: Callable[[str, int], Forwards | AskedForwards] | None = None,
        connectTimeout: float | None = 30.0,
        **how: Any,
    ) -> None:
        """
        @param protocol: what it speaks; "auto" tells SOCKS from HTTP by the first byte.
        @param lead: called with the host, a name or an address literal without brackets, and the
            port of a target; what it returns is used for further clients too.
        @param targets: which targets may be asked for, a text as the key C{targets} of a config
            file; None: all but this machine itself.
        @param judge: fires with whether a client may come in; None: all may.
        @param forwards: as C{lead}, for requests for http:// URLs; None: these are not served.
        @param connectTimeout: seconds for a login at a proxy that such a request needs; None: no
            limit.
        @param how: as for L{TunnelFactory}, but for `endpoint` and `prelude`.
        @raise ConfigError: for what is no target in `targets`.
        """
        # There is no endpoint before a client has asked.
        super().__init__(cast(IStreamClientEndpoint, None), **how)
        self.kind = ForwardedSession
        self.lead = lru_cache(KEPT)(lead)
        self.forwards = None if forwards is None else lru_cache(KEPT)(forwards)
        self.connectTimeout = connectTimeout
        self.speaks = protocol
        self.targets = targets if isinstance(targets, Targets) else targetsOf(targets)
        self.judge = judge
        self.askWait = ASK_WAIT
        self.isRetired = False

    def drain(self) -> Deferred[None]:
        """As in L{TunnelFactory}. Clients that have not said their target have little time left."""
        self.askWait = LAST_WAIT
        self._retire()
        return super().drain()

    def follow(self, former: TunnelFactory) -> None:
        """As in L{TunnelFactory}. Clients whose requests go on come back to this factory with their
        next one.
        """
        super().follow(former)
        if isinstance(former, DoorFactory):
            former._retire()

    def _retire(self) -> None:
        """End the sessions of clients whose requests go on, each behind the request under way; and
        of those that are still to ask, behind the first one.
        """
        self.isRetired = True
        for session in tuple(self.sessions):
            cast(ForwardedSession, session).retire()
