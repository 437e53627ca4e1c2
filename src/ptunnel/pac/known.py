"""The names that a PAC file has asked for, looked up."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.python.failure import Failure

from ptunnel.net.names import lookUp

# Seconds for a look-up; then the name counts as one that does not resolve.
LOOKUP = 5.0
# Seconds for which addresses are known, and how many names.
REMEMBER = 60.0
MAX_KNOWN = 256
# Addresses for documentation (RFC 5737, RFC 3849), which go by the default route. Connecting a
# datagram socket sends nothing.
_SOMEWHERE = (socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")


class Known:
    """Addresses by name. This machine's own are under the name ""."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._addresses: dict[str, str] = {}
        self._isNew = False
        self._until = 0.0

    def lookUp(self, names: Sequence[str]) -> Deferred[None]:
        """@return: fires when all are known. A name without addresses has none; it never fails."""
        return gatherResults([self._lookUp(name) for name in names]).addCallback(lambda _: None)

    def _lookUp(self, name: str) -> Deferred[None]:
        if name in self._addresses:
            return succeed(None)
        looking: Deferred[Any]
        if name:
            looking = lookUp(self._reactor, name).addTimeout(LOOKUP, self._reactor)
        else:
            looking = succeed(ownAddresses())
        return looking.addBoth(self._note, name)

    def _note(self, found: Any, name: str) -> None:
        if not self._addresses:
            self._until = self._reactor.seconds() + REMEMBER
        self._addresses[name] = "" if isinstance(found, Failure) else ";".join(found)
        self._isNew = True

    def tellAll(self) -> None:
        """Let the next news be all: a new process knows nothing."""
        self._isNew = True

    def news(self) -> str:
        """Return all addresses, as helpers.js reads them; "" if they are the same as last time."""
        isMuch = len(self._addresses) > MAX_KNOWN
        if self._addresses and (isMuch or self._reactor.seconds() >= self._until):
            self._addresses.clear()
            self._isNew = True
        isNew, self._isNew = self._isNew, False
        return json.dumps(list(self._addresses.items())) if isNew else ""


def ownAddresses() -> tuple[str, ...]:
    """Return the addresses from which this machine would connect to others: IPv4, then IPv6."""
    found = []
    for family, there in _SOMEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as own:
            own.connect((there, 9))
            found.append(str(own.getsockname()[0]))
    return tuple(found)
