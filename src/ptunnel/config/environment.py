"""The proxy that the environment names, as curl reads it for an https target. Used by settings."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from ptunnel.config.addresses import PROXY_PORT, parseProxy
from ptunnel.config.values import Proxy
from ptunnel.errors import ConfigError

_PROXY_VARIABLES = "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"


def environmentProxy(environ: Mapping[str, str]) -> Proxy | None:
    """The proxy of the first of these variables that is neither unset nor empty."""
    for variable in _PROXY_VARIABLES:
        if text := environ.get(variable):
            try:
                return parseProxy(text, defaultPort=PROXY_PORT)
            except ConfigError as e:
                raise ConfigError(f"{variable}: {e}") from None
    return None


def isBypassed(environ: Mapping[str, str], host: str) -> bool:
    """Whether no_proxy (or NO_PROXY) wants this target to be reached without a proxy.

    @param host: a name in ASCII, or an address without brackets.
    """
    entries = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = host.lower().removesuffix(".")
    return any(_matches(entry, host) for entry in re.split(r"[,\s]+", entries.lower()) if entry)


def _matches(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        suffix = entry.removeprefix("*").removeprefix(".").removesuffix(".")
        return bool(suffix) and f".{host}".endswith(f".{suffix}")
    try:
        return address in ipaddress.ip_network(re.sub(r"[\[\]]", "", entry), strict=False)
    except ValueError:
        return False
