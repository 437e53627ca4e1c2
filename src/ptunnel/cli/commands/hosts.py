"""The lines of a hosts file with which clients reach tunnels under their targets' own names, so
that the names in certificates match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from ptunnel.config import (
    DIRECT,
    Door,
    Proxy,
    Settings,
    TcpListen,
    Tunnel,
    addressOf,
    canonical,
    isLocalhost,
)
from ptunnel.text import printable


def hostsLines(settings: Settings) -> list[str]:
    """Return one line `address  name` for each target that can be reached so, in the order of the
    tunnels.

    Comments stand before them: for targets that cannot be reached so, with the reason, and remarks
    for users of the lines.
    """
    proxies = {canonical(p.host) for p in settings.proxies.values() if p.through is None}
    proxies |= {canonical(urlsplit(pac.url).hostname or "") for pac in settings.pacs.values()}
    addresses: dict[str, str] = {}
    shared: dict[str, list[Tunnel]] = {}
    reasons: dict[str, str] = {}
    for tunnel in settings.tunnels:
        for reason in _obstacles(tunnel, proxies, addresses):
            reasons.setdefault(tunnel.name, reason)
        if tunnel.name not in reasons and isinstance(tunnel.listen, TcpListen):
            addresses.setdefault(canonical(tunnel.targetHost), tunnel.listen.host)
            shared.setdefault(tunnel.listen.host, []).append(tunnel)
    lines: list[str] = []
    for tunnel in settings.tunnels:
        if tunnel.name in reasons:
            lines.append(_comment(tunnel, reasons[tunnel.name]))
            continue
        remarks = _remarks(tunnel, shared, settings.proxies)
        lines += (_comment(tunnel, text) for text in remarks)
        name = canonical(tunnel.targetHost)
        line = f"{addresses[name]}  {name}"
        if line not in lines:
            lines.append(line)
    return [*lines, *map(_ofDoor, settings.doors)]


def _ofDoor(door: Door) -> str:
    what = "a door needs no line: its clients are told where it is, and say their targets"
    return printable(f"# {door.name}: {what}")


def _comment(tunnel: Tunnel, text: str) -> str:
    return printable(f"# {tunnel.name}: {text}")


def _obstacles(tunnel: Tunnel, proxies: set[str], addresses: Mapping[str, str]) -> Iterator[str]:
    """Yield the reasons why no line can lead to a tunnel.

    @param proxies: the names that ptunnel itself looks up.
    @param addresses: the addresses of names that have a line.
    """
    listen, host = tunnel.listen, tunnel.targetHost
    name = canonical(host)
    if not isinstance(listen, TcpListen):
        yield f"it listens on {listen}, and a hosts file has addresses only"
        return
    if tunnel.targetPath is not None:
        yield f"its target is {tunnel.target}, and a hosts file is for names"
    if addressOf(host) is not None:
        yield f"its target {host} is an address, and a hosts file is for names"
    if isLocalhost(host):
        yield f"its target is {host}, which must stay the name of this machine"
    if name in proxies:
        yield f"{name} is the name of a proxy too, which ptunnel would then look for here"
    if tunnel.via == (DIRECT,):
        yield f"it goes direct, and a line for {name} would lead it to itself"
    address = addressOf(listen.host)
    if address is None:
        yield f"it listens on {listen}, and a hosts file needs an address; try listen = auto"
    elif address.is_unspecified:
        yield f"it listens on every address, {listen}, and a line has one; try listen = auto"
    elif addresses.get(name, listen.host) != listen.host:
        other = TcpListen(addresses[name], listen.port)
        yield f"{name} is at {addresses[name]} already; write listen = {other}"


def _remarks(
    tunnel: Tunnel, shared: Mapping[str, list[Tunnel]], proxies: Mapping[str, Proxy]
) -> Iterator[str]:
    """Yield remarks for users of the line.

    @param shared: by address, the tunnels that listen there.
    """
    listen = tunnel.listen
    assert isinstance(listen, TcpListen)
    name, port = canonical(tunnel.targetHost), tunnel.targetPort
    if not listen.port:
        yield f"use the port that the log says, which is another one at each start, and not {port}"
    elif listen.port != port:
        yield f"use port {listen.port} of {name}, and not {port}"
    others = {canonical(other.targetHost) for other in shared[listen.host]} - {name}
    if others:
        yield (
            f"{listen.host} is {', '.join(sorted(others))} too, so use no other port of {name}; "
            "listen = auto gives each name an address"
        )
    for proxy in (proxies[way] for way in tunnel.via if way in proxies):
        if proxy.through is None and _isHere(proxy.host):
            yield (
                f"the proxy {proxy.name} is on this machine too: if it reads the hosts file, as "
                f"squid does, a line for {name} leads it back here"
            )
    if DIRECT in tunnel.via:
        yield f"a line for {name} leads it to itself whenever it goes direct"


def _isHere(host: str) -> bool:
    address = addressOf(host)
    return isLocalhost(host) if address is None else address.is_loopback
