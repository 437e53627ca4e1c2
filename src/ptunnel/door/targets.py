"""Which targets the clients of a door may ask for."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache

from ptunnel import causes
from ptunnel.config import TargetPattern, addressOf, isLocalhost, parseTargets
from ptunnel.errors import NotServed
from ptunnel.net.addresses import hostPort

# Of how many targets it is remembered whether they are served.
KEPT = 1024

_ALL = (TargetPattern("*", (1, 65535)),)

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Targets:
    """The targets of one door.

    What leads to this machine itself, a loopback address or a name that has one, is served only
    where a pattern names it: by its name, or by a network of loopback addresses. An address at
    which ptunnel itself listens is never.
    """

    def __init__(
        self,
        patterns: Sequence[TargetPattern] = (),
        isOwn: Callable[[str, int], bool] = lambda host, port: False,
    ) -> None:
        """
        @param patterns: empty: all but this machine itself.
        @param isOwn: returns whether ptunnel itself listens at a host and port.
        """
        self._patterns = tuple(patterns) or _ALL
        self._isOwn = isOwn
        self._known = lru_cache(KEPT)(self._judge)

    def refusal(self, host: str, port: int) -> NotServed | None:
        """Return the failure of a target that may not be asked for; None for others. What was said
        once is said again: where ptunnel listens at another place, these Targets are out of date.

        @param host: a name, or an address literal without brackets.
        """
        # A failure that is raised several times would gather tracebacks.
        if self._known(host, port):
            return None
        isOwn = self._isOwn(host, port)
        return _leadsBack(host, port) if isOwn else _forbidden(hostPort(host, port))

    def _judge(self, host: str, port: int) -> bool:
        if self._isOwn(host, port):
            return False
        address = _bare(host)
        allows = self._allowsName(_canonical(host)) if address is None else _allowing(address)
        return self._any(allows, port)

    def addressRefusal(self, host: str, port: int, found: str) -> NotServed | None:
        """The same for an address that the name of a target was found to have.

        @param found: an address literal.
        """
        if self._isOwn(found, port):
            return _leadsBack(host, port)
        address = _bare(found)
        if address is None or not _isItself(address):
            return None
        name, allowed = _canonical(host), _allowing(address)
        if self._any(lambda pattern: pattern == name or allowed(pattern), port):
            return None
        return _forbidden(f"{hostPort(host, port)}, which leads to this machine itself,")

    def _any(self, allows: Callable[[object], bool], port: int) -> bool:
        patterns = self._patterns
        return any(low <= port <= high and allows(host) for host, (low, high) in patterns)

    @staticmethod
    def _allowsName(name: str) -> Callable[[object], bool]:
        isOurs = isLocalhost(name) or _spellsItself(name)

        def allows(pattern: object) -> bool:
            if not isinstance(pattern, str):
                return False
            if pattern == "*":
                return not isOurs
            return name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern

        return allows


def targetsOf(text: str | None) -> Targets:
    """Return those of a text as in a config file; None: all but this machine itself.

    @raise ConfigError: for what is no target.
    """
    return Targets() if text is None else Targets(parseTargets(text))


def _allowing(address: _Address) -> Callable[[object], bool]:
    """Return whether a pattern allows an address."""
    isItself = _isItself(address)

    def allows(pattern: object) -> bool:
        if isinstance(pattern, str):
            return pattern == "*" and not isItself
        network: ipaddress.IPv4Network | ipaddress.IPv6Network = pattern  # type: ignore[assignment]
        # That all of IPv4 is allowed does not say that this machine is.
        return address in network and (not isItself or network.is_loopback)

    return allows


def _bare(host: str) -> _Address | None:
    """Return an address, of an IPv4 one within IPv6 that; None for a name."""
    address = addressOf(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _canonical(host: str) -> str:
    """Return a name for comparison, without any dots at its end: some proxies strip them all."""
    return host.lower().rstrip(".")


def _spellsItself(name: str) -> bool:
    """Return whether resolvers take a name for an address of this machine, as they do 127.1,
    0x7f.1 and 2130706433. A proxy that runs here would connect to it.
    """
    if not name[:1].isdigit():
        return False
    try:
        return _isItself(ipaddress.IPv4Address(socket.inet_aton(name)))
    except OSError:
        return False


def _isItself(address: _Address) -> bool:
    """Return whether a connection to it stays on this machine."""
    return address.is_loopback or address.is_unspecified


def _forbidden(what: str) -> NotServed:
    cause = causes.TARGET_FORBIDDEN
    return NotServed(f"{what} is not among the targets of this door", hint=cause.hint, cause=cause)


def _leadsBack(host: str, port: int) -> NotServed:
    what = f"{hostPort(host, port)} leads back to ptunnel itself, and would come to no end"
    return NotServed(what, cause=causes.TARGET_FORBIDDEN)
