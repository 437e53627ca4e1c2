"""Ways that would lead back to ptunnel itself."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable

from ptunnel.causes import LEADS_BACK
from ptunnel.config import Listen, TcpListen, addressOf, ownListen
from ptunnel.errors import Unreachable
from ptunnel.net.dial import Forbid


class OwnPorts:
    """Where ptunnel listens.

    @param listens: returns all these places, as they are now.
    """

    def __init__(self, listens: Callable[[], Iterable[Listen]]) -> None:
        self._listens = listens

    def has(self, host: str, port: int) -> bool:
        """Return whether a connection to a host and port would lead there, as far as is known
        without the DNS.

        @param host: a name, or an address literal without brackets.
        """
        listens = [each for each in self._listens() if isinstance(each, TcpListen)]
        if ownListen(listens, host, port) is not None:
            return True
        isEverywhere = any(each.port == port and _isUnspecified(each.host) for each in listens)
        return isEverywhere and _isOfThisMachine(host)

    def forbid(self, host: str, port: int) -> Forbid:
        """Return what forbids those addresses of a name that lead there."""

        def forbidden(address: str) -> Unreachable | None:
            if not self.has(address, port):
                return None
            what = f"{host} leads back to ptunnel itself"
            return Unreachable(what, hop=host, hint=LEADS_BACK.hint, cause=LEADS_BACK)

        return forbidden


def _isUnspecified(host: str) -> bool:
    address = addressOf(host)
    return address is not None and address.is_unspecified


def _isOfThisMachine(host: str) -> bool:
    """Return whether an address is one of this machine's; False for a name."""
    if addressOf(host) is None:
        return False
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as skt:
        skt.bind((host, 0))  # nothing is sent
        return True
    return False
