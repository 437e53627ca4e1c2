"""What the ways to all targets share, and what a reload keeps of it: logins and TLS contexts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from ptunnel.config import Proxy, Settings
from ptunnel.log import Log
from ptunnel.login.login import Login
from ptunnel.net.addresses import hostPort
from ptunnel.tls import TlsContext, TlsSettings


class Kept:
    """The logins of proxies, and the TLS contexts of proxies and tunnels.

    @ivar logins: by the name of the proxy; None for one that gets no credentials.
    """

    def __init__(self, reactor: Any, log: Log) -> None:
        self.logins: dict[str, Login | None] = {}
        self._contexts: dict[tuple[str, str], TlsContext] = {}
        self._reactor = reactor
        self._log = log

    def login(self, proxy: Proxy) -> Login | None:
        if proxy.name not in self.logins:
            self.logins[proxy.name] = _newLogin(proxy, self._log, self._reactor)
        return self.logins[proxy.name]

    def context(self, kind: str, name: str, tls: TlsSettings) -> TlsContext:
        """@param kind: "proxy" or "tunnel", which has this name."""
        context = self._contexts.get((kind, name))
        if context is None or context.settings != tls:
            subject = f"proxy {name}" if kind == "proxy" else name
            context = TlsContext(tls, log=self._log, subject=subject)
            self._contexts[kind, name] = context
        return context

    def forget(self, name: str) -> None:
        """Forget a proxy."""
        self.logins.pop(name, None)
        self._contexts.pop(("proxy", name), None)

    def renew(self, before: Settings, after: Settings) -> None:
        """Forget what other settings do not have. Read passwords and certificates again."""
        self.logins = _kept(self.logins, before.proxies, after.proxies)
        names = {("proxy", n) for n in after.proxies} | {("tunnel", t.name) for t in after.tunnels}
        self._contexts = {key: c for key, c in self._contexts.items() if key in names}
        _readAgain(self._contexts.values(), self.logins.values())


def _newLogin(proxy: Proxy, log: Log, reactor: Any) -> Login | None:
    if proxy.auth == "none" or (proxy.isSocks and proxy.username is None):
        return None
    reader = None
    if proxy.username is not None and proxy.password is not None:
        from ptunnel.route.passwords import PasswordReader  # many proxies want none

        where = f"the proxy {hostPort(proxy.host, proxy.port)}"
        reader = PasswordReader(reactor, proxy.password, proxy.username, where)
    return Login(
        reader,
        scheme=proxy.auth,
        host=proxy.host,
        hop=hostPort(proxy.host, proxy.port),
        warn=partial(log.warning, f"proxy {proxy.name}"),
        reactor=reactor,
    )


def _readAgain(contexts: Iterable[TlsContext], logins: Iterable[Login | None]) -> None:
    for context in contexts:
        context.renew()
    for login in filter(None, logins):
        renew = getattr(login.reader, "renew", None)
        if renew is not None:
            renew()


def _kept(
    logins: Mapping[str, Login | None], before: Mapping[str, Proxy], after: Mapping[str, Proxy]
) -> dict[str, Login | None]:
    """Return the logins of proxies that are asked with the same credentials, perhaps under another
    name.
    """
    found = {_loginOf(before[name]): login for name, login in logins.items()}
    found |= {(name, *_loginOf(before[name])): login for name, login in logins.items()}
    wanted = {name: _loginOf(proxy) for name, proxy in after.items()}
    kept = {name: found.get((name, *key), found.get(key)) for name, key in wanted.items()}
    return {name: login for name, login in kept.items() if login is not None}


def _loginOf(proxy: Proxy) -> tuple[Any, ...]:
    """Return what is equal for proxies with the same login."""
    return (
        proxy.host,
        proxy.port,
        proxy.username,
        proxy.password,
        proxy.auth,
        proxy.isSocks,
    )
