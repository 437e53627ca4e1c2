"""The proxy that the environment names, as curl reads it for an https target."""

from __future__ import annotations

from collections.abc import Mapping

from ptunnel.config.addresses import PROXY_PORT, parseProxy
from ptunnel.config.values import Proxy
from ptunnel.errors import ConfigError

_PROXY_VARIABLES = "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"


def environmentProxy(environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy of the first of these variables that is set and not empty. Blanks and line
    breaks around the value, which may come from a file, are ignored.
    """
    for variable in _PROXY_VARIABLES:
        if text := environ.get(variable, "").strip():
            try:
                return parseProxy(text, defaultPort=PROXY_PORT)
            except ConfigError as e:
                raise ConfigError(f"{variable}: {e}") from None
    return None
