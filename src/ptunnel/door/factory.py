"""One door: the factory to listen with."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from ptunnel.door.session import DoorSession
from ptunnel.door.targets import Targets
from ptunnel.net.asked import Login
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
    """

    def __init__(
        self,
        lead: Callable[[str, int], IStreamClientEndpoint],
        *,
        protocol: Literal["auto", "socks", "http"] = "auto",
        targets: Targets | None = None,
        judge: Callable[[Login], Deferred[bool]] | None = None,
        **how: Any,
    ) -> None:
        """
        @param protocol: what it speaks; "auto" tells SOCKS from HTTP by the first byte.
        @param lead: called with the host, a name or an address literal without brackets, and the
            port of a target; what it returns is used for further clients too.
        @param targets: which targets may be asked for; None: all but this machine itself.
        @param judge: fires with whether a client may come in; None: all may.
        @param how: as for L{TunnelFactory}, but for `endpoint` and `prelude`.
        """
        # There is no endpoint before a client has asked.
        super().__init__(cast(IStreamClientEndpoint, None), **how)
        self.kind = DoorSession
        self.lead = lru_cache(KEPT)(lead)
        self.speaks = protocol
        self.targets = targets or Targets()
        self.judge = judge
        self.askWait = ASK_WAIT

    def drain(self) -> Deferred[None]:
        """As in L{TunnelFactory}. Clients that have not said their target have little time left."""
        self.askWait = LAST_WAIT
        return super().drain()
