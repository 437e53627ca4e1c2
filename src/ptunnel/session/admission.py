"""Which clients are served."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from twisted.internet.interfaces import IAddress

from ptunnel.log import Log
from ptunnel.net.addresses import clientName
from ptunnel.net.descriptors import SESSION, Descriptors

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Admission:
    """Serves clients from some networks, as long as there is room for them. It says in the log why
    it does not: of room once, until a tenth of it is free.
    """

    def __init__(
        self,
        name: str,
        log: Log,
        allow: Iterable[str | Network],
        maxConnections: int | None,
        descriptors: Descriptors | None,
    ) -> None:
        """As for a TunnelFactory, whose errors it raises."""
        self._name = name
        self._log = log
        self._allow = _networks(allow)
        self._maxConnections = maxConnections
        self._descriptors = descriptors
        self._full = self._short = False

    def admit(self, client: IAddress | None, served: int) -> bool:
        """Return whether to serve a client.

        @param served: how many are.
        """
        if self._allow and not self._allows(getattr(client, "host", None)):
            name = clientName(client)
            self._log.warning(self._name, f"{name} is not allowed", client=name)
            return False
        if self._maxConnections is not None and not self._fits(served, self._maxConnections):
            return False
        return self._descriptors is None or self._isAffordable(self._descriptors)

    def _allows(self, host: str | None) -> bool:
        if host is None:
            return True
        address = ipaddress.ip_address(host.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._allow)

    def _fits(self, served: int, most: int) -> bool:
        if served <= most - max(most // 10, 1):
            self._full = False
        if served < most:
            return True
        if not self._full:
            self._full = True
            self._log.warning(
                self._name,
                f"all {most} connections are in use; further clients are "
                "turned away until one ends (max-connections)",
            )
        return False

    def _isAffordable(self, descriptors: Descriptors) -> bool:
        if descriptors.has(SESSION):
            if self._short and descriptors.has(SESSION, share=0.9):
                self._short = False
            return True
        if not self._short:
            self._short = True
            self._log.warning(
                self._name,
                f"all open files that the process may have, {descriptors.limit}, are in use or "
                "reserved; further clients are turned away until a session ends (RLIMIT_NOFILE: "
                "LimitNOFILE, ulimit -n)",
            )
        return False


def _networks(allow: Iterable[str | Network]) -> tuple[Network, ...]:
    """The networks of `allow`, or TypeError or ValueError for what is none."""
    if isinstance(allow, str) or not isinstance(allow, Iterable):
        raise TypeError(f"allow takes a list of networks, such as ['10.0.0.0/8'], not {allow!r}")
    return tuple(map(_network, allow))


def _network(item: str | Network) -> Network:
    if isinstance(item, Network):
        return item
    if not isinstance(item, str):
        raise TypeError(f"allow takes networks and texts such as '10.0.0.0/8', not {item!r}")
    if "%" in item:  # a zone, which the addresses of clients come with or without
        raise ValueError(f"allow: {item!r} has a zone")
    try:
        return ipaddress.ip_network(item)
    except ValueError as e:
        raise ValueError(f"allow: {e}") from None
