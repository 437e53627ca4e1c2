"""Which targets a door's clients may ask for."""

from __future__ import annotations

import ipaddress
import re

from ptunnel.config.parsers.addresses import parseHost
from ptunnel.config.parsers.words import addressing, show
from ptunnel.config.values import TargetPattern
from ptunnel.errors import ConfigError
from ptunnel.net.addresses import Network

_FORM = "HOST:PORT, separated by commas, for example *.example.com:443, 10.0.0.0/8:*"
_ITEM = re.compile(r"(\[[^\[\]]*\](?:/[0-9]*)?|[^:\[\]]*)(?::([^:\[\]]*))?", re.DOTALL)


def parseTargets(text: str) -> tuple[TargetPattern, ...]:
    """Patterns of targets, separated by commas. The host is `*`, a name, `*.` and a name, an
    address or a network in CIDR notation, of IPv6 with brackets around the address; the port is a
    number, `LOW-HIGH` or `*`.
    """
    return tuple(_pattern(item.strip()) for item in text.split(","))


@addressing
def _pattern(text: str) -> TargetPattern:
    match = _ITEM.fullmatch(text)
    if match is None or not match[1]:
        raise ConfigError(f"not a target; write {_FORM}")
    host, ports = match[1], match[2]
    if ports is None:
        raise ConfigError("a port is missing; write :443 behind it, or :* for all")
    return TargetPattern(_host(host), _ports(ports))


def _host(text: str) -> str | Network:
    if text == "*":
        return text
    if text.startswith("*."):
        return f"*.{_name(text[2:])}"
    network = _network(text)
    return _name(text) if network is None else network


def _name(text: str) -> str:
    if "*" in text:
        raise ConfigError("a * may stand for the beginning of a name only, as in *.example.com")
    return parseHost(text).lower().removesuffix(".")


def _network(text: str) -> Network | None:
    """@return: None for a name."""
    bare = re.sub(r"[\[\]]", "", text)
    try:
        network = ipaddress.ip_network(bare, strict=False)
    except ValueError:
        if "/" in text or "[" in text:
            raise ConfigError(f"{show(text)} is not an address or network") from None
        return None
    if str(network.network_address) != str(ipaddress.ip_address(bare.partition("/")[0])):
        raise ConfigError(f"{show(text)} has bits behind its mask; did you mean {network}?")
    return network


def _ports(text: str) -> tuple[int, int]:
    if text == "*":
        return 1, 65535
    match = re.fullmatch("([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    low = int(match[1]) if match else 0
    high = int(match[2]) if match and match[2] else low
    if not 1 <= low <= high <= 65535:
        raise ConfigError(f"{show(text)} is no port; write a number, 8000-8099 or *")
    return low, high
