"""Where tunnels listen: `auto`, addresses in use, and ways that lead back to one of them."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

from ptunnel.config.ini import Draft
from ptunnel.config.parsers.words import show
from ptunnel.config.values import (
    DIRECT,
    Door,
    EndpointListen,
    Listen,
    Pac,
    Port,
    Proxy,
    TcpListen,
    Tunnel,
    UnixListen,
    pathOf,
    targetText,
)
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import hostPort

_LOCALHOST = {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}

# Endpoint strings that listen on every address unless they name an interface.
_TCP_STRING = re.compile(r"(?:haproxy:)?(?:tcp[46]?|ssl):")
_INTERFACE = re.compile(r":interface=((?:\\.|[^:])+)")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def canonical(host: str) -> str:
    """Return a name for comparison: in lower case, and without a dot at its end."""
    return host.lower().removesuffix(".")


def addressOf(host: str) -> _Address | None:
    """Return the address of a literal without brackets; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def isLocalhost(host: str) -> bool:
    """Return whether it is a name of the local machine on every machine (RFC 6761 section 6.3)."""
    return f".{canonical(host)}".endswith(".localhost")


def autoAddresses(hosts: Iterable[str]) -> dict[str, str]:
    """Choose a loopback address for each name, which rarely depends on the other names.

    @return: by canonical name, addresses of 127.1.0.1 to 127.254.255.254; other programs use those
        in 127.0.0.0/16.
    """
    addresses: dict[str, str] = {}
    for host in sorted(set(map(canonical, hosts))):
        taken = addresses.values()
        addresses[host] = next(a for a in _candidates(host) if a not in taken)
    return addresses


def _candidates(host: str) -> Iterator[str]:
    for attempt in count():
        digest = hashlib.sha256(f"{host} {attempt}".encode()).digest()
        number, second = divmod(int.from_bytes(digest[:8], "big"), 254)
        number, third = divmod(number, 256)
        yield f"127.{second + 1}.{third}.{number % 254 + 1}"


def listensOf(drafts: Sequence[Draft]) -> tuple[Listen, ...]:
    """Return where each draft listens.

    @raise ConfigError: for `auto` with a target that is not a name, and for an address given twice.
    """
    auto = [(draft, draft.target) for draft in drafts if draft.listen is None and draft.target]
    for draft, (host, port) in auto:
        if pathOf(host) is not None or addressOf(host) is not None or isLocalhost(host):
            what = (
                f"auto is for targets with a name of their own, and the target is "
                f"{targetText(host, port)}; write where to listen"
            )
            raise ConfigError(f"{draft.where} listen: {what}")
    addresses = autoAddresses(host for _, (host, _) in auto)
    chosen = {d.name: TcpListen(addresses[canonical(host)], port) for d, (host, port) in auto}
    listens = tuple(draft.listen or chosen[draft.name] for draft in drafts)
    seen: dict[str, str] = {}
    for draft, listen in zip(drafts, listens, strict=True):
        if isinstance(listen, TcpListen) and not listen.port:
            continue
        address = str(listen)
        if address in seen:
            first = f"{show(address)} is taken by {seen[address]}"
            raise ConfigError(f"{draft.where}: {first}; give each tunnel an address of its own")
        seen[address] = draft.where
    return listens


def checkStatus(where: str, status: Listen | None, ports: Iterable[Port]) -> None:
    """@raise ConfigError: if a port listens where the status server is to."""
    for port in ports:
        isFree = isinstance(status, TcpListen) and not status.port  # any free port
        if status is not None and not isFree and str(port.listen) == str(status):
            what = f"{show(str(status))} is taken by {port.place}"
            raise ConfigError(f"{where}: {what}; give it an address of its own")


def openStatus(where: str, status: Listen | None) -> str:
    """Return the warning about a token that other machines may read on its way; or ""."""
    if status is None or not isBeyondLoopback(status):
        return ""
    what = f"a token goes to {show(str(status))} without TLS, and others may read it on its way"
    return f"{where}: {what}; listen on 127.0.0.1 or a Unix socket (docs/status.md)"


def ownListen(listens: Iterable[Listen], host: str, port: int) -> TcpListen | None:
    """Return the one of these to which a connection from this machine would lead; None: to none, as
    far as is known without the DNS. Of a listener on every address only the loopback addresses are
    known.

    @param host: a name, or an address literal without brackets.
    """
    there = _places(host, asListen=False)
    for listen in listens:
        if isinstance(listen, TcpListen) and listen.port == port:
            here = _places(listen.host, asListen=True)
            isEverywhere = any(isinstance(p, _Address) and p.is_unspecified for p in here)
            if here & there or (isEverywhere and any(map(_isLoopback, there))):
                return listen
    return None


def _places(host: str, *, asListen: bool) -> set[_Address | str]:
    """Return the known addresses of a host, or its name."""
    if isLocalhost(host):
        return {*_LOCALHOST}
    address = addressOf(host)
    if address is None:
        return {canonical(host)}
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    # A connection to 0.0.0.0 or :: leads to this machine.
    return {*_LOCALHOST} if address.is_unspecified and not asListen else {address}


def _isLoopback(place: _Address | str) -> bool:
    return isinstance(place, _Address) and place.is_loopback


def checkDoor(door: Door) -> None:
    """@raise ConfigError: for a door that other machines reach, and that serves them unasked."""
    if not isBeyondLoopback(door.listen):
        return
    wanted = (("allow", door.allow), ("username", door.username))
    missing = " and ".join(key for key, value in wanted if not value)
    if missing:
        what = f"other machines reach it, and without {missing} everyone there could use it"
        what += "; write allow = NETWORKS, username and password-file, or listen on 127.0.0.1"
        raise ConfigError(f"{door.place} listen: {show(str(door.listen))}: {what}")


def openListen(tunnel: Tunnel, proxies: Mapping[str, Proxy], pacs: Mapping[str, Pac]) -> str:
    """Return the warning about a tunnel that lends our credentials to anyone who reaches it; or "".

    @param proxies: by name.
    @param pacs: by name; each may name any of the proxies.
    """
    if tunnel.allow or not isBeyondLoopback(tunnel.listen):
        return ""
    asked = [pacs[name] for name in tunnel.via if name in pacs]
    used = [proxy for name, proxy in proxies.items() if asked or name in tunnel.via]
    for proxy in used:
        if proxy.through is not None:
            used.append(proxies[proxy.through])
    who = next((f"the proxy {proxy.name}" for proxy in used if _knowsUs(proxy)), "")
    who = who or next((f"the proxies of {pac.name}" for pac in asked if pac.knownTo), "")
    if tunnel.tls is not None and tunnel.tls.certFile is not None:
        who = "the target"
    if not who:
        return ""
    where = show(str(tunnel.listen))
    what = f"whoever reaches {where} is you to {who}"
    return f"{what}; write allow = NETWORKS, or listen on 127.0.0.1"


def _knowsUs(proxy: Proxy) -> bool:
    hasCertificate = proxy.tls is not None and proxy.tls.certFile is not None
    return proxy.username is not None or proxy.auth == "negotiate" or hasCertificate


def isBeyondLoopback(listen: Listen) -> bool:
    """Return whether other machines may reach it, as far as the text shows."""
    if isinstance(listen, TcpListen):
        host = listen.host
    elif isinstance(listen, EndpointListen) and _TCP_STRING.match(listen.description):
        interface = _INTERFACE.search(listen.description)
        host = interface[1].replace("\\:", ":").strip("[]") if interface else "0.0.0.0"
    else:
        return False
    return not isLocalhost(host) and not _isLoopback(addressOf(host) or host)


def _ownTarget(listens: Iterable[Listen], tunnel: Tunnel) -> Listen | None:
    """Return the one of these to which a direct connection to the target leads; None: to none."""
    path = tunnel.targetPath
    if path is None:
        return ownListen(listens, tunnel.targetHost, tunnel.targetPort)
    isIt = (listen for listen in listens if isinstance(listen, UnixListen) and listen.path == path)
    return next(isIt, None)


def checkLoops(ports: Iterable[Tunnel | Door], proxies: Iterable[tuple[str, Proxy]]) -> None:
    """
    @param proxies: those in use, each with the place of its address in error messages.
    @raise ConfigError: if a connection of ptunnel's would lead back to itself.
    """
    ports = list(ports)
    places = {port.listen: port.place for port in ports}
    for where, proxy in proxies:
        if proxy.through is None:  # else its name or address is resolved elsewhere
            own = ownListen(places, proxy.host, proxy.port)
            if own is not None:
                there = show(hostPort(proxy.host, proxy.port))
                what = "so ptunnel would connect to itself; write the address of the proxy"
                raise ConfigError(f"{where}: {there}: {places[own]} listens there, {what}")
    for tunnel in ports:
        if isinstance(tunnel, Tunnel) and DIRECT in tunnel.via:
            itself = _ownTarget(places, tunnel)
            if itself is not None:
                there = show(tunnel.target)
                what = "so with direct ptunnel would connect to itself"
                raise ConfigError(
                    f"{tunnel.place} target: {there}: {places[itself]} listens there, {what}"
                )
