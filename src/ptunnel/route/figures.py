"""The figures of the proxies of some settings."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from ptunnel.config import DIRECT, Door, Proxy, Settings
from ptunnel.ledger.counters import Ledger
from ptunnel.ledger.figures import ProxyFigures
from ptunnel.login.login import Login
from ptunnel.net.addresses import hostPort
from ptunnel.route.order.health import Health


def proxyFigures(
    settings: Settings,
    ledger: Ledger,
    healths: Mapping[str, Health],
    logins: Mapping[str, Login | None],
    drained: Container[str],
) -> list[ProxyFigures]:
    """Return those of all proxies, and of the direct way where a tunnel has it."""

    def figuresOf(proxy: Proxy) -> ProxyFigures:
        figures = ledger.way(proxy.name).figures(proxy.name)
        trouble, scheme, rejection = figures.trouble, None, None
        health = healths.get(proxy.name)
        if trouble is not None and health is not None:
            # It may be well for either alone: by a test, or by a tunnel without another way.
            trouble = None if health.trouble is None else str(health.trouble)
        if (login := logins.get(proxy.name)) is not None:
            scheme = _schemeOf(proxy, login)
            rejected = login.verdicts.trouble
            rejection = None if rejected is None else rejected.message
        return replace(
            figures,
            address=hostPort(proxy.host, proxy.port),
            trouble=trouble,
            drained=proxy.name in drained,
            scheme=scheme,
            rejection=rejection,
        )

    found = [figuresOf(proxy) for proxy in settings.proxies.values()]
    isDirect = any(
        DIRECT in port.via or (isinstance(port, Door) and port.noProxy) for port in settings.ports
    )
    return [*found, ledger.way(DIRECT).figures(DIRECT)] if isDirect else found


def _schemeOf(proxy: Proxy, login: Login) -> str | None:
    if login.accepted is None:
        return None
    return "password" if proxy.isSocks else login.accepted.name  # as RFC 1929 has it
