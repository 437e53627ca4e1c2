"""Sessions whose clients have an endpoint each.

The endpoint of such a tunnel has a method `forClient(client, here)`, which gets the address of a
client and the one that it connected to, and returns the endpoint for it. With an attribute
`wantsHere` that is False it gets None for the latter. If what it returns has a method `left`, this
is called when the session is over, or gets no tunnel; perhaps both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress

from ptunnel.session.session import Outgoing, Session, Tunnel


class LedSession(Session):
    """One client of a tunnel, with an endpoint of its own."""

    def __init__(self, tunnel: Tunnel, client: IAddress | None) -> None:
        super().__init__(tunnel, client)
        self._left: Callable[[], object] | None = None

    def leading(self) -> Any:
        """Return what leads to the target, of all clients."""
        return self.tunnel.endpoint

    def connect(self, outgoing: Outgoing) -> Any:
        lead = self.leading()
        if not hasattr(lead, "forClient"):
            return lead.connect(outgoing)
        # To ask for it takes a system call.
        here = self.transport.getHost() if getattr(lead, "wantsHere", True) else None
        endpoint = lead.forClient(self.client, here)
        self._left = getattr(endpoint, "left", None)
        return endpoint.connect(outgoing)

    def _end(self) -> None:
        self._leave()
        super()._end()

    def _turnAway(self, cause: str | None, end: Callable[[Any], None]) -> None:
        self._leave()
        super()._turnAway(cause, end)

    def _leave(self) -> None:
        if self._left is not None:
            self._left()
